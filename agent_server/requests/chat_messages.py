"""The messages of OpenAI's chat format, each read by the rules of its role.

Source: OpenAI API reference, "Chat", "Create chat completion", `messages`, 2026-10. Beside it,
`reasoning_content` and `thinking_blocks` of an assistant's message, as our answers carry them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agent_server.requests.fields import (
    FieldError,
    FieldTable,
    Reader,
    json_object,
    kind,
    name,
    read_fields,
    read_items,
    read_member,
    replaced,
    require,
    string,
)
from providers.chat_request import ImagePart, Message, OpaquePart, Part, Role, TextPart, ToolCall
from streaming.events import JsonObject, JsonValue, ReasoningBlock

MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_TOOL_CALLS = 512


def read_messages(value: JsonValue) -> tuple[Message, ...]:
    """The messages of a conversation, at least one."""
    messages = read_items(value, read_message, MAX_MESSAGES)
    if not messages:
        raise FieldError("must hold at least one message")
    return tuple(messages)


def read_message(value: JsonValue) -> Message:
    """One message; fields that we do not know are kept in `extra`."""
    data = json_object(value)
    role = read_member(data, "role", string)
    table = _FIELDS_BY_ROLE.get(role)
    if table is None:
        raise _unknown_role(role)
    values, extra = read_fields(data, table)
    del values["role"]
    for field in extra:
        owner = _ROLE_OF_FIELD.get(field)
        if owner is not None:
            raise FieldError(f"belongs to messages of role {owner!r}, not {role!r}", field)
    _FINISHERS[role](values)
    return Message(_OUR_ROLES[role], extra=extra, **values)


def read_image_url(value: JsonValue) -> str:
    """An address of an image that a provider can be given: http(s), or base64 data."""
    url = string(value)
    scheme = url[:8].lower()
    if scheme.startswith(("https://", "http://")):
        return url
    if not scheme.startswith("data:"):
        raise FieldError("must be an http(s) URL or a data URL such as data:image/png;base64,...")
    head, comma, content = url.partition(",")
    if not comma or not head.lower().endswith(";base64") or not content:
        raise FieldError("must be a data URL with base64 content: data:image/png;base64,...")
    return url


def _unknown_role(role: str) -> FieldError:
    if role == "function":
        return FieldError(
            "is 'function', which OpenAI has replaced: send role 'tool' with `tool_call_id`", "role"
        )
    return FieldError(f"must be one of {', '.join(_FIELDS_BY_ROLE)}, not {role[:80]!r}", "role")


def _content(
    allowed: frozenset[str] | None, *, may_be_empty: bool = False
) -> Reader[tuple[Part, ...]]:
    def read_part(value: JsonValue) -> Part:
        part = json_object(value)
        given = read_member(part, "type", name)
        hint = _TYPES_OF_OTHER_APIS.get(given)
        if hint is not None:
            raise FieldError(f"is {given!r}, which is of another API; use {hint}", "type")
        if allowed is None or given in allowed:
            return _PART_READERS.get(given, OpaquePart)(part)
        raise FieldError(
            f"must be {' or '.join(sorted(allowed))} in a message of this role, not {given[:80]!r}",
            "type",
        )

    def read(value: JsonValue) -> tuple[Part, ...]:
        if isinstance(value, str):
            return (TextPart(value),) if value else ()
        if not isinstance(value, list):
            raise FieldError(f"must be a string or a list of parts, not {kind(value)}")
        if not value and not may_be_empty:
            raise FieldError("must hold at least one part")
        return tuple(read_items(value, read_part, MAX_PARTS))

    return read


def _text_part(part: JsonObject) -> Part:
    text = read_member(part, "text", string)
    if len(part) == 2:
        return TextPart(text)
    return TextPart(text, {key: part[key] for key in part if key not in {"type", "text"}})


def _image_part(part: JsonObject) -> Part:
    return read_member(part, "image_url", _image)


def _image(value: JsonValue) -> ImagePart:
    if isinstance(value, str):
        # Not in the reference, but OpenAI takes it, and so do those that imitate it.
        return ImagePart(read_image_url(value))
    image = json_object(value)
    url = read_member(image, "url", read_image_url)
    detail = image.get("detail")
    return ImagePart(url, None if detail is None else read_member(image, "detail", string))


def _refusal_part(part: JsonObject) -> Part:
    return OpaquePart({"type": "refusal", "refusal": read_member(part, "refusal", string)})


def _tool_calls(value: JsonValue) -> tuple[ToolCall, ...]:
    return tuple(read_items(value, _tool_call, MAX_TOOL_CALLS))


def _tool_call(value: JsonValue) -> ToolCall:
    call = json_object(value)
    given = call.get("type", "function")
    if given != "function":
        raise FieldError(f"must be 'function', not {str(given)[:80]!r}", "type")
    call_id = read_member(call, "id", name)
    called, arguments = read_member(call, "function", _called_function)
    return ToolCall(call_id, called, arguments)


def _called_function(value: JsonValue) -> tuple[str, str]:
    function = json_object(value)
    return read_member(function, "name", name), read_member(function, "arguments", _arguments)


def _arguments(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    raise FieldError(f"must be the JSON text that the model wrote, a string, not {kind(value)}")


def _thinking_blocks(value: JsonValue) -> tuple[ReasoningBlock, ...]:
    return tuple(read_items(value, _thinking_block, MAX_PARTS))


def _thinking_block(value: JsonValue) -> ReasoningBlock:
    block = json_object(value)
    given = read_member(block, "type", string)
    if given == "redacted_thinking":
        return ReasoningBlock("", redacted_data=read_member(block, "data", string))
    if given != "thinking":
        raise FieldError(f"must be 'thinking' or 'redacted_thinking', not {given[:80]!r}", "type")
    signature = block.get("signature")
    return ReasoningBlock(
        read_member(block, "thinking", string),
        None if signature is None else read_member(block, "signature", string),
    )


def _finish_plain(values: dict[str, Any]) -> None:
    require(values, "parts", "content", "it must be a string or a list of parts")


def _finish_assistant(values: dict[str, Any]) -> None:
    values.pop("annotations", None)
    thought = values.pop("reasoning_content", None)
    if thought and "reasoning" not in values:
        values["reasoning"] = (ReasoningBlock(thought),)
    if not values.keys() & {"parts", "tool_calls", "refusal", "reasoning"}:
        raise FieldError("is missing; only a message with `tool_calls` needs none", "content")
    parts: tuple[Part, ...] = values.get("parts", ())
    refusals = [part for part in parts if isinstance(part, OpaquePart)]
    if refusals:
        values["refusal"] = "".join(str(part.data["refusal"]) for part in refusals)
        values["parts"] = tuple(part for part in parts if not isinstance(part, OpaquePart))


def _finish_tool(values: dict[str, Any]) -> None:
    require(values, "tool_call_id", "tool_call_id", "it names the tool call that this answers")
    _finish_plain(values)


_PART_READERS: Mapping[str, Callable[[JsonObject], Part]] = {
    "text": _text_part,
    "image_url": _image_part,
    "refusal": _refusal_part,
}
_TYPES_OF_OTHER_APIS: Mapping[str, str] = {
    "input_text": "type 'text'",
    "output_text": "type 'text'",
    "input_image": "type 'image_url'",
    "image": "type 'image_url'",
    "tool_use": "`tool_calls` of an assistant's message",
    "tool_result": "a message of role 'tool'",
}
_COMMON: FieldTable = {"role": ("role", string), "name": ("name", name)}
_TEXT: FieldTable = {**_COMMON, "content": ("parts", _content(frozenset({"text"})))}
_FIELDS_BY_ROLE: Mapping[str, FieldTable] = {
    "system": _TEXT,
    "developer": _TEXT,
    "user": {**_COMMON, "content": ("parts", _content(None))},
    "assistant": {
        **_COMMON,
        "content": ("parts", _content(frozenset({"text", "refusal"}), may_be_empty=True)),
        "tool_calls": ("tool_calls", _tool_calls),
        "function_call": ("function_call", replaced("tool_calls")),
        "refusal": ("refusal", string),
        "reasoning_content": ("reasoning_content", string),
        "thinking_blocks": ("reasoning", _thinking_blocks),
        # Part of every answer, of no use in a question, and refused by some providers.
        "annotations": ("annotations", lambda _: None),
    },
    "tool": {
        **_COMMON,
        "content": ("parts", _content(frozenset({"text", "image_url"}))),
        "tool_call_id": ("tool_call_id", name),
    },
}
_OUR_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_ROLE_OF_FIELD: Mapping[str, str] = {
    "tool_calls": "assistant",
    "function_call": "assistant",
    "refusal": "assistant",
    "reasoning_content": "assistant",
    "thinking_blocks": "assistant",
    "tool_call_id": "tool",
}
_FINISHERS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "system": _finish_plain,
    "developer": _finish_plain,
    "user": _finish_plain,
    "assistant": _finish_assistant,
    "tool": _finish_tool,
}
