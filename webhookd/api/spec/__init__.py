"""What the OpenAPI document says of the routes and of what goes in and out; `openapi.py` makes the document of it."""
