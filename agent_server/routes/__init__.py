"""One file a resource: a route parses, calls one thing, answers."""
