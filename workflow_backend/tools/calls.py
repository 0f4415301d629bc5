"""What every tool call shares: who calls, what it sends along, how refusals read."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BeforeValidator, Field, WithJsonSchema

from workflow_backend.definition.documents import MAX_BYTES
from workflow_backend.engines.base import MAX_DEPTH
from workflow_backend.tools.refusals import RefusalError

OWNER_KEY = "ai.kubiya/owner"
RUN_ID_KEY = "ai.kubiya/run_id"
EVENTS_KEY = "ai.kubiya/events"
DEPTH_KEY = "ai.kubiya/depth"
TRACE_KEYS = ("traceparent", "tracestate")
MAX_TRACE_CHARACTERS = 1_024
HIDDEN_KEY = "ai.kubiya/hidden"
DEFAULT_OWNER = "local"
# For the server in front of this one: it hides such tools from models.
FOR_SERVER = {HIDDEN_KEY: True}

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_OWNER = re.compile(r"[\x21-\x7e]{1,200}")

ToolContext: TypeAlias = Context[Any, Any]


def _as_text(value: object) -> object:
    """An object as JSON text: the reader of definitions then sees one form only."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


# The annotation is `str`, so that the SDK does not parse a JSON text first: duplicate keys would
# be lost before anybody could refuse them.
WorkflowText = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
    Field(
        description="The workflow as YAML or JSON text, or as an object.", max_length=4 * MAX_BYTES
    ),
]
StepText = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
    Field(description="The step as YAML or JSON text, or as an object.", max_length=4 * MAX_BYTES),
]
Inputs = Annotated[
    dict[str, Any] | None, Field(description="Values of the workflow's inputs, by name.")
]
RunId = Annotated[str, Field(description="Id of the run.", max_length=128)]


def owner_of(ctx: ToolContext) -> str:
    """Whom the caller acts for: what our server says in `_meta`, else `local`.

    Raises:
        ToolError: The owner is malformed.
    """
    owner = _meta(ctx).get(OWNER_KEY)
    if owner is None:
        return DEFAULT_OWNER
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        raise ToolError(f"`_meta` {OWNER_KEY} must be 1 to 200 printable ASCII characters.")
    return owner


def served_owner_of(ctx: ToolContext) -> str:
    """Whom our server acts for; a host whose model sees every tool names nobody in `_meta`.

    Raises:
        RefusalError: The call does not come from our server.
    """
    if OWNER_KEY not in _meta(ctx):
        raise RefusalError(
            "server_only",
            "People decide this, by the HTTP API or the command line of the Agent Server; no model"
            " does.",
        )
    return owner_of(ctx)


def run_id_of(ctx: ToolContext) -> str | None:
    """The run id that the caller chose for the run of this call, if any.

    Raises:
        RefusalError: It is malformed.
    """
    run_id = _meta(ctx).get(RUN_ID_KEY)
    return None if run_id is None else chosen_run_id(run_id)


def depth_of(ctx: ToolContext) -> int:
    """How many agents stand above the call: our server says so of what an agent step calls.

    Raises:
        RefusalError: It is malformed, or they are too many.
    """
    depth = _meta(ctx).get(DEPTH_KEY, 0)
    if type(depth) is not int or not 0 <= depth <= MAX_DEPTH:
        raise RefusalError("invalid_depth", f"`_meta` {DEPTH_KEY} must be 0 to {MAX_DEPTH}.")
    return depth


def wants_events(ctx: ToolContext) -> bool:
    """Whether progress comes as JSON events rather than as sentences."""
    return _meta(ctx).get(EVENTS_KEY) in (1, True)


def chosen_run_id(run_id: object) -> str:
    """The run id that a caller gives to a new run.

    Raises:
        RefusalError: It is none, or could be that of a run inside another one.
    """
    chosen = checked_run_id(run_id)
    if "." in chosen:
        raise RefusalError(
            "invalid_run_id",
            f"The run id {chosen!r} has a `.`, which is kept for the runs inside a run; use `-`.",
        )
    return chosen


def checked_run_id(run_id: object) -> str:
    """The run id, if it is one.

    Raises:
        RefusalError: It is not.
    """
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise RefusalError(
            "invalid_run_id", "A run id is 1 to 128 letters, digits, `_`, `.` and `-`."
        )
    return run_id


def trace_of(ctx: ToolContext) -> dict[str, str]:
    """The headers of the caller's trace context, if it sent one that could be one (W3C)."""
    found = {name: _meta(ctx).get(name) for name in TRACE_KEYS}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and len(value) <= MAX_TRACE_CHARACTERS
    }


def _meta(ctx: ToolContext) -> Mapping[str, object]:
    meta = ctx.request_context.meta
    return dict(meta) if meta else {}
