"""The command line: `agent-server` and, for the guide's commands, `kubiya`.

This is the one module outside the backend that reads workflow definitions.
"""

import click

from agent_server.commands.lazy import LazyGroup

_COMMANDS = "agent_server.commands"


@click.group(
    cls=LazyGroup,
    rows={
        "serve": (f"{_COMMANDS}.serve:serve", "Serve on 127.0.0.1:8000."),
        "demo": (f"{_COMMANDS}.demo:demo", "Run a system health check on a server of its own."),
        "chat": (f"{_COMMANDS}.chat:chat", "Talk to a running server."),
        "run": (f"{_COMMANDS}.run:run", "Run a workflow file and show its steps."),
        "runs": (f"{_COMMANDS}.runs:runs", "List, show, follow and cancel runs."),
        "doctor": (f"{_COMMANDS}.doctor:doctor", "Find what is wrong, and say the mend."),
        "mcp": (f"{_COMMANDS}.mcp:mcp", "Run the workflow backend as an MCP server over stdio."),
        "hash-key": (f"{_COMMANDS}.hash_key:hash_key", "Make an entry for AGENT_SERVER_API_KEYS."),
    },
)
@click.version_option(package_name="agent-server")
def main() -> None:
    """An OpenAI-compatible LLM gateway and workflow agent."""


@click.group(
    cls=LazyGroup,
    rows={"agent": (f"{_COMMANDS}.serve:agent", "Serve on 0.0.0.0:8000, as the guide documents.")},
)
def mcp() -> None:
    """The agent server, as the guide calls it."""


@click.group()
@click.version_option(package_name="agent-server")
def kubiya() -> None:
    """The guide's commands: `kubiya mcp agent`."""


kubiya.add_command(mcp)
