"""The tools of the MCP server: what they take, what they answer."""
