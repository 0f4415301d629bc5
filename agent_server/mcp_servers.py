"""The MCP servers of this process: our workflow backend, and those of the operator's file."""

import sys
from collections.abc import Iterable
from pathlib import Path

import orjson

from agent_server.run_link import RunLink
from agent_server.settings import Settings, named_environment, variable_of
from mcp_bridge.server_config import read_mcp_servers
from mcp_bridge.server_spec import ServerSpec, ServerSpecError

BACKEND = "workflow"
HIDDEN_TOOLS = frozenset({
    "create_schedule", "decide_approval", "delete_schedule", "deliver_webhook", "get_schedule",
    "list_artefacts", "list_schedules", "pause_schedule", "read_artefact", "read_log",
    "rerun_run", "resume_schedule", "signal_run", "start_run", "trigger_schedule", "watch_run",
})  # fmt: skip
# Every run that somebody watches holds one call for as long as it takes.
MAX_WATCHED_RUNS = 4096
MAX_RESULT_BYTES = 4 * 1024 * 1024


class McpConfigError(Exception):
    """The file of MCP servers cannot be used; the message says why."""


def mcp_servers(
    settings: Settings,
    *,
    is_keyed: bool = False,
    hidden: Iterable[Path] = (),
    link: RunLink | None = None,
) -> list[ServerSpec]:
    """The backend first, then the servers of `AGENT_SERVER_MCP_CONFIG`.

    `is_keyed` and `hidden` are as in `Settings.backend_environment`; without a `link` no run has
    agents.

    Raises:
        McpConfigError: the file cannot be read, or describes a server wrongly.
    """
    environment = settings.backend_environment(is_keyed=is_keyed, hidden=hidden)
    if link is not None:
        environment |= link.environment()
    return [_backend(settings, environment), *_foreign(settings.mcp_config)]


def _backend(settings: Settings, environment: dict[str, str]) -> ServerSpec:
    return ServerSpec(
        name=BACKEND,
        command=(sys.executable, "-m", "workflow_backend"),
        env=environment,
        is_own=True,
        hidden_tools=HIDDEN_TOOLS,
        connect_timeout_seconds=settings.mcp_connect_timeout_seconds,
        call_timeout_seconds=settings.mcp_call_timeout_seconds,
        max_in_flight=MAX_WATCHED_RUNS,
        max_waiting=MAX_WATCHED_RUNS,
        max_line_bytes=MAX_RESULT_BYTES,
        # The sandbox of a step may need a set-uid helper.
        allow_new_privileges=True,
    )


def _foreign(path: Path | None) -> list[ServerSpec]:
    if path is None:
        return []
    where = f"{variable_of('mcp_config')} ({path})"
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as exc:
        raise McpConfigError(f"{where}: cannot be read: {exc}") from exc
    if not isinstance(document, dict):
        raise McpConfigError(f'{where}: must be an object of the shape {{"mcpServers": {{...}}}}')
    try:
        specs = read_mcp_servers(document, environment=named_environment())
    except ServerSpecError as exc:
        raise McpConfigError(f"{where}: {exc}") from exc
    if any(spec.name == BACKEND for spec in specs):
        raise McpConfigError(f"{where}: the name '{BACKEND}' is the server's own; choose another")
    return specs
