"""A client's body as the one that is sent to an upstream of OpenAI's formats. Pure.

Source: OpenAI API reference, "Create chat completion", 2026-10.
"""

import orjson

from providers.openai.quirks import Quirks
from providers.openai.request import takes_completion_tokens, without_foreign_fields
from providers.relay.request import RelayRequest
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue


def relayed_body(request: RelayRequest, quirks: Quirks, provider: str) -> bytes:
    """The bytes to send; `provider` names the upstream in errors.

    Raises:
        UnsupportedFieldError: the request needs a field that the upstream does not take.
        InvalidRequestError: the request cannot be written as JSON.
    """
    body: JsonObject = {**request.body, "model": request.model}
    if request.stream:
        body["stream"] = True
    if request.wire == "chat":
        body = _chat_body(body, request, quirks, provider)
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as exc:
        raise InvalidRequestError(f"the request cannot be written as JSON: {exc}") from exc


def _chat_body(
    body: JsonObject, request: RelayRequest, quirks: Quirks, provider: str
) -> JsonObject:
    if request.stream:
        options = body.get("stream_options")
        # What a call used is always counted; a client that did not ask does not see it.
        body["stream_options"] = {
            **(options if isinstance(options, dict) else {}),
            "include_usage": True,
        }
    else:
        body.pop("stream_options", None)
    _name_max_tokens(body, request.model, quirks)
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature < quirks.lowest_temperature:
        body["temperature"] = quirks.lowest_temperature
    if quirks.dropped_in_messages or not quirks.developer_role:
        messages = body.get("messages")
        if isinstance(messages, list):
            body["messages"] = [_message(message, quirks) for message in messages]
    return without_foreign_fields(body, quirks, provider, request.dropped)


def _name_max_tokens(body: JsonObject, model: str, quirks: Quirks) -> None:
    """Give the limit of tokens the name that the upstream knows."""
    if takes_completion_tokens(model):
        old, new = "max_tokens", "max_completion_tokens"
    elif quirks.completion_tokens:
        return
    else:
        old, new = "max_completion_tokens", "max_tokens"
    if old in body:
        limit = body.pop(old)
        body.setdefault(new, limit)


def _message(message: JsonValue, quirks: Quirks) -> JsonValue:
    if not isinstance(message, dict):
        return message
    is_developer = message.get("role") == "developer" and not quirks.developer_role
    if not is_developer and quirks.dropped_in_messages.isdisjoint(message):
        return message
    kept = {key: message[key] for key in message if key not in quirks.dropped_in_messages}
    return {**kept, "role": "system"} if is_developer else kept
