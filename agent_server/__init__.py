"""The server: settings, routes, the agent loop, access, and the command line."""
