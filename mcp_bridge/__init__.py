"""The MCP client: servers as owned children or by URL, their tools, calls with progress."""
