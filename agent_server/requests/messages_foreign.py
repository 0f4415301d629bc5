"""A request of the Messages format in terms that upstreams of other formats take.

What `read_messages` keeps as only Anthropic's API says it becomes a field that all know, is left
out where the answer stays an answer to the same question, or is refused where it would not.

Source: Anthropic API documentation, "Create a Message", and OpenAI API reference, "Create chat
completion", 2026-10.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from providers.chat_request import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    TextPart,
    ToolSpec,
)
from streaming.errors import UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

# OpenAI takes no longer name of a user.
MAX_USER_CHARACTERS: Final = 64
# Models that take `reasoning_effort`; others answer an error to it.
_REASONING_MODEL: Final = re.compile(r"(?:^|[/:])(?:o\d|gpt-(?:[5-9]|\d\d)|gpt-oss)")
# Fields that hold or lead to what the answer is made of.
_REFUSED: Final = ("mcp_servers", "container", "thread", "inference_geo")
_SHOWN_NOTE: Final = "(The tool also gave what is no text; it follows in the next message.)"


@dataclass(frozen=True, slots=True)
class ForeignRequest:
    """The request for upstreams of other formats, and the fields that were left out of it."""

    request: ChatRequest
    dropped: tuple[str, ...]


def to_foreign(request: ChatRequest) -> ForeignRequest:
    """Say a request of the Messages door for an upstream that does not speak that format.

    Its `model` is the upstream's: the effort is said only to models that take one.

    Raises:
        UnsupportedFieldError: it holds what no other format says, such as a container.
    """
    for field in _REFUSED:
        if request.extra.get(field):
            raise _unsupported(field)
    if request.max_tokens == 0:
        raise UnsupportedFieldError(
            "max_tokens: 0 fills the prompt cache of Anthropic's API, which this model's upstream "
            "does not have; give at least 1",
            param="max_tokens",
        )
    dropped: dict[str, None] = {}
    messages = _Messages(dropped)
    for message in request.messages:
        messages.add(message)
    config = request.extra.get("output_config")
    config = config if isinstance(config, dict) else {}
    said = replace(
        request,
        messages=messages.end(),
        tools=tuple(_tool(tool, dropped) for tool in request.tools),
        response_format=_response_format(config.get("format")),
        reasoning_effort=_effort(request, config, dropped),
        user=_user(request.user),
        extra={},
    )
    for field in request.extra:
        if field not in ("output_config", "thinking"):
            dropped["anthropic-beta" if field == "betas" else field] = None
    return ForeignRequest(said, tuple(dropped))


class _Messages:
    """Collects messages, neighbours of one turn as one, as other formats demand."""

    def __init__(self, dropped: dict[str, None]) -> None:
        self._messages: list[Message] = []
        self._shown: list[Part] = []
        self._dropped = dropped

    def add(self, message: Message) -> None:
        """Take the next message."""
        if "cache_control" in message.extra:
            self._dropped["cache_control"] = None
        parts = tuple(_part(part, self._dropped) for part in message.parts)
        message = replace(message, parts=parts, extra={})
        if message.role == "tool":
            self._messages.append(self._tool_message(message))
            return
        if self._shown:
            shown = Message("user", tuple(self._shown))
            self._shown = []
            self._add(shown)
        self._add(message)

    def end(self) -> tuple[Message, ...]:
        """All messages."""
        if self._shown:
            self._messages.append(Message("user", tuple(self._shown)))
        return tuple(self._messages)

    def _add(self, message: Message) -> None:
        last = self._messages[-1] if self._messages else None
        if last is None or last.role != message.role:
            self._messages.append(message)
        elif message.role == "system":
            self._messages[-1] = replace(last, parts=_joined(last.parts, message.parts))
        else:
            # A tool call has to stand right before its result, so one message holds the turn.
            self._messages[-1] = replace(
                last,
                parts=last.parts + message.parts,
                tool_calls=last.tool_calls + message.tool_calls,
                reasoning=last.reasoning + message.reasoning,
            )

    def _tool_message(self, message: Message) -> Message:
        """A tool's result as text: images follow as the user's, which all formats take."""
        texts = [part for part in message.parts if isinstance(part, TextPart)]
        shown = [part for part in message.parts if not isinstance(part, TextPart)]
        self._shown += shown
        text = "\n".join(part.text for part in texts)
        if shown:
            text = f"{text}\n{_SHOWN_NOTE}" if text else _SHOWN_NOTE
        if message.is_error:
            # No other format has a field for it.
            text = f"ERROR: {text}"
        return replace(message, parts=(TextPart(text),) if text else ())


def _joined(parts: Sequence[Part], more: Sequence[Part]) -> tuple[Part, ...]:
    """Two system prompts as one; a prompt without marks to cache is one text."""
    texts = [part for part in (*parts, *more) if isinstance(part, TextPart)]
    if any(part.extra for part in texts):
        return tuple(texts)
    return (TextPart("\n\n".join(part.text for part in texts)),)


def _part(part: Part, dropped: dict[str, None]) -> Part:
    if isinstance(part, TextPart) and part.extra:
        # Some upstreams take the mark as Anthropic writes it; the adapter knows which.
        kept = {key: value for key, value in part.extra.items() if key == "cache_control"}
        return replace(part, extra=kept)
    if not isinstance(part, OpaquePart):
        return part
    given = str(part.data.get("type"))
    convert = _BLOCKS.get(given)
    said = None if convert is None else convert(part.data)
    if said is None:
        raise _unsupported(f"a content block of type '{given[:80]}'", "messages")
    if "cache_control" in part.data:
        dropped["cache_control"] = None
    return said


def _image(block: JsonObject) -> Part | None:
    source = _object(block.get("source"))
    if source.get("type") == "url":
        return ImagePart(str(source.get("url")))
    if source.get("type") == "base64":
        return ImagePart(f"data:{source.get('media_type')};base64,{source.get('data')}")
    return None


def _document(block: JsonObject) -> Part | None:
    source = _object(block.get("source"))
    title = block.get("title")
    if source.get("type") == "text":
        head = f"{title}\n\n" if title else ""
        return TextPart(f"{head}{source.get('data')}", is_typed=False)
    if source.get("type") == "content":
        return _texts(source.get("content"), title)
    if source.get("type") != "base64":
        return None
    file: JsonObject = {
        "filename": str(title or "document.pdf"),
        "file_data": f"data:{source.get('media_type')};base64,{source.get('data')}",
    }
    return OpaquePart({"type": "file", "file": file})


def _search_result(block: JsonObject) -> Part | None:
    return _texts(block.get("content"), f"{block.get('title')} ({block.get('source')})")


def _tool_reference(block: JsonObject) -> Part | None:
    return TextPart(f"Tool: {block.get('tool_name')}", is_typed=False)


def _texts(content: JsonValue, title: JsonValue) -> Part | None:
    """Blocks of text under their title; None where one is something else."""
    blocks = [content] if isinstance(content, str) else content
    lines = [str(title)] if title else []
    for block in blocks if isinstance(blocks, list) else ():
        text = block if isinstance(block, str) else _object(block).get("text")
        if not isinstance(text, str):
            return None
        lines.append(text)
    return TextPart("\n\n".join(lines), is_typed=False)


def _tool(tool: ToolSpec, dropped: dict[str, None]) -> ToolSpec:
    for field in tool.extra:
        dropped["cache_control" if field == "cache_control" else f"tools.{field}"] = None
    return replace(tool, extra={}) if tool.extra else tool


def _response_format(given: JsonValue) -> JsonObject | None:
    if not isinstance(given, dict):
        return None
    schema = given.get("schema")
    described: JsonObject = {"name": "answer", "schema": schema}
    if _is_strict(schema):
        described["strict"] = True
    return {"type": "json_schema", "json_schema": described}


def _is_strict(schema: JsonValue) -> bool:
    """Whether the schema is of the form that OpenAI can hold a model to: closed, all required."""
    if isinstance(schema, list):
        return all(_is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        required = schema.get("required")
        names = set(properties) if isinstance(properties, dict) else set()
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if names != set(map(str, required)):
            return False
    return all(_is_strict(value) for value in schema.values())


def _effort(request: ChatRequest, config: JsonObject, dropped: dict[str, None]) -> str | None:
    """How much the model shall think, from the effort or else from the budget of thinking."""
    thinking = _object(request.extra.get("thinking"))
    effort, budget = config.get("effort"), thinking.get("budget_tokens")
    if not _REASONING_MODEL.search(request.model):
        dropped |= dict.fromkeys(("thinking",) if thinking else ())
        dropped |= dict.fromkeys(("output_config.effort",) if effort else ())
        return None
    if thinking.get("type") in ("disabled", "between_tools"):
        dropped["thinking"] = None
    if effort is None and isinstance(budget, int):
        return next(word for most, word in _EFFORT_OF_BUDGET if budget <= most)
    return _EFFORTS.get(effort, effort) if isinstance(effort, str) else None


def _user(user: str | None) -> str | None:
    if user is None or len(user) <= MAX_USER_CHARACTERS:
        return user
    return hashlib.sha256(user.encode()).hexdigest()


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _unsupported(what: str, param: str | None = None) -> UnsupportedFieldError:
    return UnsupportedFieldError(
        f"{param or what}: only Anthropic's own API takes {what}; leave it out, or name one of its "
        "models as anthropic/<model>",
        param=param or what,
    )


_BLOCKS: Mapping[str, Callable[[JsonObject], Part | None]] = {
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
}
# OpenAI has no word above `high` that all its reasoning models take.
_EFFORTS: Mapping[str, str] = {"max": "high", "xhigh": "high"}
_EFFORT_OF_BUDGET: Final = ((4_096, "low"), (16_383, "medium"), (float("inf"), "high"))
