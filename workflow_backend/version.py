"""The version of the backend, as MCP clients and traces are told it."""

VERSION = "1.0.0"
