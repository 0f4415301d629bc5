"""The workflow backend: an MCP server that compiles, plans, runs and watches workflows."""
