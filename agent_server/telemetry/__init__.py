"""OpenTelemetry traces and metrics of the calls to models, of the agent and its tools.

Nothing of OpenTelemetry is imported before `start_telemetry` is called, which is where its setting
is on; everywhere else a server without it holds None.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from agent_server.telemetry.spans import Telemetry

__all__ = ["TelemetryError", "start_telemetry"]


class TelemetryError(Exception):
    """OpenTelemetry is switched on, but cannot be started."""


def start_telemetry(version: str) -> "Telemetry":
    """The telemetry of one server, sent by OTLP over HTTP as the `OTEL_*` variables say.

    Raises:
        TelemetryError: the extra is not installed, or a variable is wrong.
    """
    try:
        otlp = import_module("agent_server.telemetry.otlp")
    except ImportError as exc:
        raise TelemetryError(
            "AGENT_SERVER_OTEL is on, but OpenTelemetry is not installed "
            f"({exc.name or exc}): install `agent-server[otel]`, or unset it."
        ) from exc
    try:
        return cast("Telemetry", otlp.start(version))
    except (ValueError, TypeError, RuntimeError) as exc:
        raise TelemetryError(f"OpenTelemetry could not be started: {exc}") from exc
