"""The MCP client: servers as owned children or by URL, their tools, calls with progress."""

from mcp_bridge.bridge import Bridge
from mcp_bridge.catalogue import Tool
from mcp_bridge.results import Image, ToolResult
from mcp_bridge.server_config import read_mcp_servers
from mcp_bridge.server_spec import Pacing, ServerSpec, ServerSpecError, inherited_environment
from mcp_bridge.supervisor import ServerStatus

__all__ = [
    "Bridge",
    "Image",
    "Pacing",
    "ServerSpec",
    "ServerSpecError",
    "ServerStatus",
    "Tool",
    "ToolResult",
    "inherited_environment",
    "read_mcp_servers",
]
