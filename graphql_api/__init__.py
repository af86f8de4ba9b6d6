"""stackcast: Pulumi deployments behind one GraphQL API. A map of the package; importing it loads nothing.

``domain``     what a deployment is: records, events, manifests, refusals, and the ports to the outside
``service``    the use cases, speaking only to ports
``schema``     the GraphQL types and resolvers, which only translate
``transport``  GraphQL over HTTP and websocket, downloads, and who may come in
``adapters``   the ports over SQLite, MongoDB and in one process
``app``        puts it all together with ``runners``, which runs Pulumi
``settings``   what can be set, from the environment
``tokens``     the file of named tokens
``web``        the page of GraphiQL: its sources and how they are built
``server``     the application on uvicorn
``cli``        the command ``stackcast``, a client of the public API
"""
