"""The sections of the docs that are written from code; `python -m tests.doc_sections` does it."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from agent_server.error_responses import status_of
from agent_server.gateway.failure import Verdict, verdict_of
from agent_server.gateway.routes import RoutePlan
from providers.offline.actions import ACTIONS, action_step
from providers.registry import ROWS
from providers.rejection import Rejection, rejection_to_error
from streaming.encoder import Encoder, StreamHead
from streaming.errors import UpstreamTimeoutError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    JsonObject,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    WorkflowEvent,
)
from streaming.formats import FORMATS
from tests.doc_pages import ROOT, SECTION, pages, text_of

HEAD = StreamHead("chatcmpl-1", "kubiya-workflow-agent", 1_792_000_000)
WITH_APPROVALS = replace(HEAD, approval_parts=True)
# What every chunk of OpenAI's format repeats is shown once, in the first.
IDENTITY = (
    b'"id":"chatcmpl-1","object":"chat.completion.chunk","created":1792000000,'
    b'"model":"kubiya-workflow-agent",'
)
DELIMITER = b"\n\n"
USAGE = Usage(prompt_tokens=11, completion_tokens=7, total_tokens=18)
ARGUMENTS = '{"city":"Paris"}'


def _workflow_event(seq: int, kind: str, **fields: object) -> WorkflowEvent:
    data: JsonObject = {"type": kind, "run_id": "4f7c", "seq": seq, "time": "2026-11-22T10:30:45Z"}
    return WorkflowEvent({**data, **fields})  # type: ignore[dict-item]


ANSWER: tuple[Event, ...] = (
    Started("chatcmpl-1", "kubiya-workflow-agent"),
    TextDelta("Running it."),
    AgentToolCalled("call_1", "execute_workflow", {"workflow": "..."}),
    _workflow_event(1, "workflow_started", workflow="disk-check", steps=1),
    _workflow_event(2, "step_running", step="usage", attempt=1, message="Checking disk usage"),
    _workflow_event(
        3, "step_complete", step="usage", attempt=1, duration="1.2s", output="65%", exit_code=0
    ),
    _workflow_event(
        4, "workflow_complete", workflow="disk-check", status="success", duration="1.3s"
    ),
    AgentToolReturned("call_1", "execute_workflow", "", {"status": "success"}),
    TextDelta("All is well."),
    Finished("stop", usage=USAGE),
)
CLIENT_TOOL: tuple[Event, ...] = (
    ToolCallStarted(0, "call_2", "get_weather"),
    ToolCallDelta(0, ARGUMENTS),
    ToolCallEnded(0, "call_2", "get_weather", ARGUMENTS),
)
APPROVAL: tuple[Event, ...] = (
    _workflow_event(
        3,
        "approval_requested",
        step="ask",
        message="Deploy 1.2?",
        approval_id="4f7c/ask",
        expires="2026-11-23T10:30:45Z",
    ),
    _workflow_event(4, "approval_decided", step="ask", approved=True, by="alice", reason=""),
)


def write_formats() -> Iterator[str]:
    """One whole answer in each format, then the frames that it does not have."""
    for name, make in FORMATS.items():
        encoder = make(HEAD)
        yield f"### `{name}`\n"
        if name == "sse-inline":
            yield "As `openai-sse`, but for the chunk of a workflow event:\n"
            yield f"```text\n{_shown(encoder.encode(ANSWER[3]).split(DELIMITER)[1])}```\n"
            continue
        answer = encoder.open() + b"".join(map(encoder.encode, ANSWER)) + encoder.close()
        yield f"```text\n{_shown(answer)}```\n"
        yield "What else may stand in it:\n"
        yield f"```text\n{_shown(_further(make(HEAD)))}```\n"
        if name == "ui-v1":
            yield (
                "An approval, where the page has said `X-Workflow-Approvals: parts`; without\n"
                "that, the two `data-workflow` alone:\n"
            )
            asked = b"".join(map(make(WITH_APPROVALS).encode, APPROVAL[:1]))
            encoder = make(replace(WITH_APPROVALS, answered_approvals=("4f7c/ask",)))
            decided = b"".join(map(encoder.encode, APPROVAL[1:]))
            answered = b"# in the answer to the click\n" + decided
            yield f"```text\n{_shown(asked + answered)}```\n"


def _further(encoder: Encoder) -> bytes:
    encoder.open()
    call = b"".join(map(encoder.encode, CLIENT_TOOL))
    silence = encoder.keep_alive.replace(b"\n", b"\\n")
    error = encoder.fail(UpstreamTimeoutError("groq did not answer in 120 s"))
    return (
        b"# a call of a client's own tool\n%b\n# keep-alive\n%b\n\n# a failure in the stream\n%b"
        % (call, silence, error)
    )


def _shown(frames: bytes) -> str:
    first, found, rest = frames.partition(IDENTITY)
    text = (first + found + rest.replace(IDENTITY, "…".encode())).decode()
    text = re.sub(r"\n\n(?=data: |$)", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def write_actions() -> Iterator[str]:
    """The table of actions of the offline planner."""
    yield "| Action | An item that says it | The step |"
    yield "|---|---|---|"
    for action in ACTIONS:
        step = action_step(action.example)
        assert step is not None
        yield f"| `{action.name}` | {action.example} | {_step(step)} |"


def _step(step: JsonObject) -> str:
    if "http" in step:
        http = step["http"]
        assert isinstance(http, dict)
        return f"`http` {http['method']} {http['url']}"
    command = str(step["run"]).replace("\n", "; ").replace("|", "\\|")
    env = step.get("env", {})
    assert isinstance(env, dict)
    values = "".join(f", `{name}={value}`" for name, value in env.items())
    return f"`{command}`{values}" + (", with the network" if step.get("network") else "")


def write_providers() -> Iterator[str]:
    """The rows of the registry."""
    yield "| Provider | Formats | Default model | Address | Key | Address by |"
    yield "|---|---|---|---|---|---|"
    for row in ROWS.values():
        keys = _names(row.key_variables) + ("" if row.needs_key or not row.key_variables else "?")
        cells = (
            f"`{row.name}`",
            ", ".join(sorted(row.wires)) or "-",
            _code(row.default_model),
            _code(row.base_url),
            keys,
            _names(row.base_url_variables),
        )
        yield f"| {' | '.join(cells)} |"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else "-"


def write_upstream_errors() -> Iterator[str]:
    """What a client gets for each status of an upstream."""
    yield "| The provider answers | The client gets | `type` | `code` | Repeated first |"
    yield "|---|---|---|---|---|"
    for status, code in UPSTREAM_STATUSES:
        rejection = Rejection(message="...", code=code)
        error = rejection_to_error(rejection, provider="groq", status=status)
        said = f"{status} `{code}`" if code else str(status)
        again = verdict_of(error, RoutePlan("model", ())) is Verdict.AGAIN
        repeated = "yes" if again else "no"
        yield (
            f"| {said} | {status_of(error)} | `{error.error_type}` | {_code(error.code)} "
            f"| {repeated} |"
        )


UPSTREAM_STATUSES = (
    (400, ""),
    (400, "context_length_exceeded"),
    (401, ""),
    (402, ""),
    (403, ""),
    (404, ""),
    (404, "model_not_found"),
    (408, ""),
    (413, ""),
    (422, ""),
    (429, ""),
    (429, "insufficient_quota"),
    (500, ""),
    (503, ""),
    (504, ""),
    (529, ""),
)
SECTIONS: Mapping[str, Callable[[], Iterator[str]]] = {
    "formats": write_formats,
    "actions": write_actions,
    "providers": write_providers,
    "upstream-errors": write_upstream_errors,
}


def section(name: str) -> str:
    """The text of a section, with the empty lines around it."""
    return "\n" + "\n".join(SECTIONS[name]()).rstrip("\n") + "\n\n"


def write_all() -> None:
    """Write the sections of all pages anew."""
    for page in pages():
        before = text_of(page)
        after = SECTION.sub(
            lambda found: (
                f"<!-- generated: {found['name']} -->\n{section(found['name'])}<!-- end -->"
            ),
            before,
        )
        if after != before:
            (ROOT / page).write_text(after, encoding="utf-8")


if __name__ == "__main__":
    write_all()
