"""Which stream format an answer has: the first rule that matches the request wins.

A client rarely says what it can read, so the rules look at what is sure: the header, the shape of
the body, and the marks that the SDKs leave on every request.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from agent_server.approval_answers import clicked_answers, knows_approval_parts
from agent_server.requests.use_chat import is_ui_message_body, messages_of
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject

T = TypeVar("T")

USE_CHAT_PATH = "/api/chat"
FORMAT_HEADER = "X-Streaming-Format"
PROGRESS_HEADER = "X-Workflow-Progress"
DETACHED_HEADER = "X-Workflow-Detached"
APPROVALS_HEADER = "X-Workflow-Approvals"

# The User-Agent of AI SDK providers: `ai-sdk/openai/2.0`, `ai-sdk-openai/4.0`, `ai/5.0`.
_AI_SDK_PROVIDER = re.compile(r"ai(-sdk)?[/-]")


@dataclass(frozen=True, slots=True)
class StreamChoice:
    """How to answer: in a stream of the format of this name, or in JSON where it is None.

    `progress_text` None leaves it to the format whether progress is written as text;
    `include_usage` asks for OpenAI's chunk of the usage; `detached` lets the run outlive the
    client; `continues_message` where the newest message is the assistant's own, as after a call
    of the client's tools in useChat: the answer belongs to it; `response_id` names the answer
    where that was settled before. `approval_parts` says that the client knows the approval parts of
    AI SDK 6 and 7, `answered_approvals` are the ids of those that its newest message decides.
    """

    format: str | None
    progress_text: bool | None = None
    include_usage: bool = False
    detached: bool = False
    continues_message: bool = False
    response_id: str | None = None
    approval_parts: bool = False
    answered_approvals: tuple[str, ...] = ()


def choose_format(path: str, headers: Mapping[str, str], body: JsonObject) -> StreamChoice:
    """How to answer a request to one of the two chat routes.

    The names of `headers` are in lower case, or found in any case.

    Raises:
        InvalidRequestError: one of our headers has a value that we do not know; `param` names it.
    """
    options = body.get("stream_options")
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    if path != USE_CHAT_PATH and _OUR_HEADERS.isdisjoint(headers):
        # What nearly every request is; the rules below come to the same.
        name = "openai-sse" if _wants_stream(headers, body) else None
        return _USUAL_CHOICES[name, include_usage]
    named = _read_header(headers, FORMAT_HEADER, _HEADER_FORMATS)
    if named is not None:
        name = named(headers, body)
    elif path == USE_CHAT_PATH:
        name = _use_chat_format(body)
    else:
        name = "openai-sse"
    wanted = _wants_stream(headers, body)
    if wanted is None:
        wanted = name in _STREAMS_UNLESS_REFUSED
    messages = messages_of(body)
    return StreamChoice(
        name if wanted else None,
        _read_header(headers, PROGRESS_HEADER, _PROGRESS),
        include_usage,
        bool(_read_header(headers, DETACHED_HEADER, _DETACHED)),
        bool(messages) and messages[-1].get("role") == "assistant",
        approval_parts=_wants_approval_parts(headers, body),
        answered_approvals=tuple(answer.approval_id for answer in clicked_answers(body)),
    )


def choose_own_format(name: str, headers: Mapping[str, str], body: JsonObject) -> StreamChoice:
    """How to answer at a door that knows but one stream format, or JSON; raises `choose_format`'s.

    The header that chooses among formats belongs to the chat routes, and means nothing here.
    """
    return StreamChoice(
        name if _wants_stream(headers, body) else None,
        _read_header(headers, PROGRESS_HEADER, _PROGRESS),
        detached=bool(_read_header(headers, DETACHED_HEADER, _DETACHED)),
    )


def _read_header(headers: Mapping[str, str], header: str, values: Mapping[str, T]) -> T | None:
    given = headers.get(header.lower())
    if given is None:
        return None
    value = given.strip().lower()
    if value not in values:
        raise InvalidRequestError(
            f"The header {header} must be one of {', '.join(values)}, not {given[:80]!r}.",
            param=header,
        )
    return values[value]


def _wants_approval_parts(headers: Mapping[str, str], body: JsonObject) -> bool:
    """Whether approvals also go out as parts, which end the stream of every client before 6.

    No request of 5, 6 and 7 says which of them it is, so that the page has to, once.
    """
    said = _read_header(headers, APPROVALS_HEADER, _APPROVALS)
    return knows_approval_parts(body) if said is None else said


def _wants_stream(headers: Mapping[str, str], body: JsonObject) -> bool | None:
    """What the caller says about streaming, None where nothing is said."""
    stream = body.get("stream")
    if stream is not None:
        return stream is True
    accept = headers.get("accept", "")
    if "event-stream" not in accept.lower():
        return None
    types = {item.partition(";")[0].strip().lower() for item in accept.split(",")}
    # No SDK sends such an Accept; people with curl do.
    if "text/event-stream" in types and not types & {"application/json", "*/*"}:
        return True
    return None


def _vercel_format(headers: Mapping[str, str], body: JsonObject) -> str:
    """What `vercel` means for this client: no one text serves all of them."""
    if "x-stainless-lang" in headers:
        return "sse-inline"
    if is_ui_message_body(body):
        return "ui-v1"
    has_parts = any("parts" in message for message in messages_of(body))
    if has_parts or (body.get("model") is None and body.get("stream") is None):
        return "data-v1"
    if _AI_SDK_PROVIDER.match(headers.get("user-agent", "")):
        return "openai-sse"
    return "vercel"


def _use_chat_format(body: JsonObject) -> str:
    return "ui-v1" if is_ui_message_body(body) else "data-v1"


def _always(name: str) -> Callable[[Mapping[str, str], JsonObject], str]:
    return lambda _headers, _body: name


_USUAL_CHOICES = {
    (name, include_usage): StreamChoice(name, include_usage=include_usage)
    for name in ("openai-sse", None)
    for include_usage in (True, False)
}
_OUR_HEADERS = frozenset(
    header.lower() for header in (FORMAT_HEADER, PROGRESS_HEADER, DETACHED_HEADER, APPROVALS_HEADER)
)
_PROGRESS: Mapping[str, bool] = {"none": False, "text": True}
_DETACHED: Mapping[str, bool] = {"true": True, "false": False}
_APPROVALS: Mapping[str, bool] = {"parts": True, "events": False}
# What the header may say: the documented names, then the exact ones.
_HEADER_FORMATS: Mapping[str, Callable[[Mapping[str, str], JsonObject], str]] = {
    "sse": _always("openai-sse"),
    "vercel": _vercel_format,
    "sse-inline": _always("sse-inline"),
    "vercel-data": _always("data-v1"),
    "vercel-ui": _always("ui-v1"),
    "openai-sse": _always("openai-sse"),
    "data-v1": _always("data-v1"),
    "ui-v1": _always("ui-v1"),
}
# Clients of these formats know nothing but streams, and most do not ask for one.
_STREAMS_UNLESS_REFUSED = frozenset({"vercel", "data-v1", "ui-v1"})
