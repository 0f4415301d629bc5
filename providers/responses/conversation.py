"""A conversation as the input items of the Responses API, in its order.

Source: OpenAI API reference, "Responses", "Create a model response" (`input`), 2026-10.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from providers.chat_request import ImagePart, Message, OpaquePart, Part, Role, TextPart, ToolCall
from providers.responses.reasoning import block_to_item
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

if TYPE_CHECKING:
    from openai.types.responses import (
        EasyInputMessageParam,
        ResponseFunctionToolCallParam,
        ResponseInputContentParam,
        ResponseInputImageParam,
        ResponseInputItemParam,
        ResponseInputTextParam,
    )
    from openai.types.responses.response_input_item_param import FunctionCallOutput

InputItems: TypeAlias = "list[ResponseInputItemParam]"

MAX_CALL_ID_CHARACTERS: Final = 64
# Content parts of this API's own, which a caller may give as they are.
_OWN_PARTS: Final = frozenset({"input_text", "input_image", "input_file"})
_FILE_FIELDS: Final = ("file_data", "file_id", "filename")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The `input` of a request, and the fields of messages that had no place in it."""

    items: InputItems
    dropped: tuple[str, ...]


def messages_to_items(messages: Sequence[Message], provider: str) -> Conversation:
    """Say a conversation in this format; `provider` names the upstream in errors.

    An answer of the model is up to three kinds of items, in the order in which the model makes
    them: its reasoning, its text, its calls. Reasoning that other providers signed is left out, and
    so is reasoning that nothing follows, as the API refuses it.

    Raises:
        InvalidRequestError: a tool message names no call.
        UnsupportedFieldError: a content part that the format cannot say.
    """
    items: InputItems = []
    dropped: list[str] = []
    for index, message in enumerate(messages):
        where = _Place(provider, f"messages[{index}]", dropped)
        where.drop(message.extra, keep=_MESSAGE_FIELDS)
        if message.name is not None:
            where.drop(("name",))
        items += _ITEMS[message.role](message, where)
    return Conversation(items, tuple(dropped))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a request we are, for errors and for the list of what was left out."""

    provider: str
    path: str
    dropped: list[str]

    def drop(self, names: Iterable[str], keep: frozenset[str] = frozenset()) -> None:
        self.dropped.extend(f"{self.path}.{name}" for name in names if name not in keep)

    def unsupported(self, text: str) -> UnsupportedFieldError:
        return UnsupportedFieldError(f"{self.provider} {text}", param=f"{self.path}.content")


def _prompt_items(message: Message, where: _Place) -> InputItems:
    content = _content(message.parts, where)
    if message.role == "system":
        return [{"role": "system", "content": content}]
    return [{"role": "user", "content": content}]


def _assistant_items(message: Message, where: _Place) -> InputItems:
    items: InputItems = [_call_item(call) for call in message.tool_calls]
    if content := _answer_content(message, where):
        answer: EasyInputMessageParam = {"role": "assistant", "content": content}
        if (phase := message.extra.get("phase")) is not None:
            answer["phase"] = phase  # type: ignore[typeddict-item] # the API checks it
        items.insert(0, answer)
    thoughts = [block_to_item(block) for block in message.reasoning]
    known = [thought for thought in thoughts if thought is not None]
    if len(known) < len(thoughts) or (known and not items):
        where.drop(("reasoning",))
    return [*cast("InputItems", known), *items] if items else []


def _answer_content(message: Message, where: _Place) -> "str | list[ResponseInputContentParam]":
    if any(not isinstance(part, TextPart) for part in message.parts):
        raise where.unsupported("takes text alone in messages of the assistant")
    if not message.refusal:
        return message.text
    parts: list[JsonObject] = [{"type": "refusal", "refusal": message.refusal}]
    if message.text:
        parts.insert(0, {"type": "output_text", "text": message.text})
    # Not in the SDK's type of a message without an id, which the API takes nevertheless.
    return cast("list[ResponseInputContentParam]", parts)


def _call_item(call: ToolCall) -> "ResponseFunctionToolCallParam":
    return {
        "type": "function_call",
        "call_id": _short_id(call.call_id),
        "name": call.name,
        "arguments": call.arguments,
    }


def _tool_items(message: Message, where: _Place) -> InputItems:
    if message.tool_call_id is None:
        raise InvalidRequestError(
            "a tool message must name the call it answers", param=f"{where.path}.tool_call_id"
        )
    result: FunctionCallOutput = {
        "type": "function_call_output",
        "call_id": _short_id(message.tool_call_id),
        "output": _content(message.parts, where),  # type: ignore[typeddict-item] # same shapes
    }
    return [result]


def _short_id(call_id: str) -> str:
    """The id, or one made of it where another provider's is longer than this API takes."""
    if len(call_id) <= MAX_CALL_ID_CHARACTERS:
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:40]


def _content(parts: tuple[Part, ...], where: _Place) -> "str | list[ResponseInputContentParam]":
    contents = [_part(part, where) for part in parts]
    if all(content.keys() == {"type", "text"} for content in contents) and len(contents) <= 1:
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    return contents


def _part(part: Part, where: _Place) -> "ResponseInputContentParam":
    match part:
        case TextPart():
            return _text_part(part, where)
        case ImagePart():
            return _image_part(part)
        case OpaquePart():
            return _opaque_part(part.data, where)


def _text_part(part: TextPart, where: _Place) -> "ResponseInputTextParam":
    where.drop((f"content.{name}" for name in part.extra), keep=_TEXT_FIELDS)
    text: ResponseInputTextParam = {"type": "input_text", "text": part.text}
    if (mark := part.extra.get("prompt_cache_breakpoint")) is not None:
        text["prompt_cache_breakpoint"] = mark  # type: ignore[typeddict-item] # the API checks it
    return text


def _image_part(part: ImagePart) -> "ResponseInputImageParam":
    detail = part.detail or "auto"
    image: JsonObject = {"type": "input_image", "image_url": part.url, "detail": detail}
    return cast("ResponseInputImageParam", image)


def _opaque_part(data: JsonObject, where: _Place) -> "ResponseInputContentParam":
    kind = data.get("type")
    file = data.get("file")
    if kind == "file" and isinstance(file, dict):
        own: dict[str, JsonValue] = {name: file[name] for name in _FILE_FIELDS if name in file}
        return cast("ResponseInputContentParam", {"type": "input_file", **own})
    if kind in _OWN_PARTS:
        return cast("ResponseInputContentParam", dict(data))
    raise where.unsupported(f"takes no content part of type {kind!r} on its Responses API")


_MESSAGE_FIELDS: Final = frozenset({"phase"})
_TEXT_FIELDS: Final = frozenset({"content.prompt_cache_breakpoint"})
_ITEMS: Mapping[Role, Callable[[Message, _Place], InputItems]] = MappingProxyType(
    {
        "system": _prompt_items,
        "user": _prompt_items,
        "assistant": _assistant_items,
        "tool": _tool_items,
    }
)
