"""GraphQL over HTTP and websocket, and who may come in."""
