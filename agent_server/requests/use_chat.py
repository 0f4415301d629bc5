"""The body that the AI SDK's useChat posts, of every major version from 3.4 to 7.

Source: Vercel AI SDK, `useChat` of 3.4 and 4.3 and `DefaultChatTransport` of 5, 6 and 7, 2026-10.
Applications add fields of their own to the body: those that we know are taken, all others ignored.
"""

from dataclasses import dataclass

from agent_server.requests.chat import OPTION_FIELDS, prefer_completion_tokens
from agent_server.requests.chat_messages import MAX_MESSAGES
from agent_server.requests.fields import (
    FieldError,
    json_object,
    read_fields,
    read_items,
    read_member,
)
from agent_server.requests.tools import (
    MAX_TOOLS,
    check_tool_choice,
    read_function,
    read_tools,
)
from agent_server.requests.use_chat_messages import read_ui_message
from providers.chat_request import ChatRequest, Message, TextPart, ToolSpec
from streaming.events import JsonObject, JsonValue

MAX_CHAT_ID_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class UseChatBody:
    """What useChat asks for; `chat_id` names the chat for the resume routes, None before 4."""

    request: ChatRequest
    chat_id: str | None


def read_use_chat(body: JsonObject) -> UseChatBody:
    """The request and the chat that the body names; `model` is "" where the body names none.

    Beside the messages: `model`, OpenAI's options by OpenAI's names, `system` (a text), and `tools`
    as OpenAI's list or as an object of `{description, parameters}` by name.

    Raises:
        InvalidRequestError: a field is missing or wrong; `param` is its path, such as
            `messages[0].parts[1].url`.
    """
    try:
        messages = _system(body.get("system")) + read_member(body, "messages", _messages)
        values, _ = read_fields(
            {key: body[key] for key in OPTION_FIELDS if key != "model" and key in body},
            OPTION_FIELDS,
        )
        values["tools"] = _tools(body.get("tools"))
        check_tool_choice(values)
        chat_id = _chat_id(body.get("id"))
    except FieldError as exc:
        raise exc.to_request_error() from None
    prefer_completion_tokens(values)
    model = body.get("model")
    request = ChatRequest(
        model=model if isinstance(model, str) else "",
        messages=messages,
        stream=body.get("stream") is not False,
        **values,
    )
    return UseChatBody(request, chat_id)


def is_use_chat_body(body: JsonObject) -> bool:
    """Whether a body is of useChat's shape, wherever it was posted."""
    if "trigger" in body:
        return True
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    # A loop, not `any`: every request to the chat door comes by here.
    for message in messages:
        if isinstance(message, dict) and ("parts" in message or "toolInvocations" in message):
            return True
    return False


def is_ui_message_body(body: JsonObject) -> bool:
    """Whether a body is of version 5 or later, whose messages have parts and no content."""
    return "trigger" in body or any(
        "parts" in message and "content" not in message for message in messages_of(body)
    )


def messages_of(body: JsonObject) -> list[JsonObject]:
    """The messages of a body that nobody has checked yet."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return []
    return [message for message in messages if isinstance(message, dict)]


def _messages(value: JsonValue) -> tuple[Message, ...]:
    turns = read_items(value, read_ui_message, MAX_MESSAGES)
    messages = tuple(message for turn in turns for message in turn)
    if not messages:
        raise FieldError("must hold at least one message with text, a file or a tool result")
    return messages


def _system(value: JsonValue) -> tuple[Message, ...]:
    if isinstance(value, str) and value:
        return (Message("system", (TextPart(value),)),)
    return ()


def _tools(value: JsonValue) -> tuple[ToolSpec, ...]:
    if isinstance(value, list) and any(isinstance(tool, dict) for tool in value):
        return _tools_of_list(value)
    if isinstance(value, dict):
        return _tools_of_object(value)
    return ()


def _tools_of_list(value: JsonValue) -> tuple[ToolSpec, ...]:
    try:
        return read_tools(value)
    except FieldError as exc:
        raise exc.under("tools") from None


def _tools_of_object(value: JsonObject) -> tuple[ToolSpec, ...]:
    if len(value) > MAX_TOOLS:
        raise FieldError(f"has {len(value)} tools; the server takes at most {MAX_TOOLS}", "tools")
    tools: list[ToolSpec] = []
    for key, item in value.items():
        try:
            tool = json_object(item)
            parameters = tool.get("parameters", tool.get("inputSchema"))
            function = {"description": tool.get("description"), "parameters": parameters}
            tools.append(read_function({**function, "name": key}))
        except FieldError as exc:
            raise exc.under(key).under("tools") from None
    return tuple(tools)


def _chat_id(value: JsonValue) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if len(value) > MAX_CHAT_ID_CHARACTERS:
        raise FieldError(f"must have at most {MAX_CHAT_ID_CHARACTERS} characters", "id")
    return value
