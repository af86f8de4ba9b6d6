"""The stores over MongoDB's protocol.

``database``   the client that the stores share; opening, what the driver's errors mean: the one place that knows Motor
``schema``     the indexes, and what older documents lack
``documents``  records as documents
``lists``      the questions for lists
``resources``, ``updates``, ``claims``, ``events``, ``requests``, ``keys``  a port or two each
``probe``      a look that changes nothing
"""
