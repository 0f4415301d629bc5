"""JSON answers of each format: what may go out, what they used and how they ended. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder

import orjson

from providers.anthropic.answer import AnswerReader
from providers.openai.wire import FAILURE_REASONS, find_usage, legacy_reason
from providers.rejection import Rejection, find_rejection, rejection_to_error
from providers.relay.chat_frames import OPENAI_REASONS, known_reason
from providers.relay.request import WireFormat
from providers.relay.response_object import response_finish_reason, response_usage
from streaming.errors import AgentServerError, UpstreamProtocolError
from streaming.events import Finished, FinishReason, JsonObject, JsonValue, Usage

# Of a longer list of embeddings the usage alone is decoded.
MAX_DECODED_EMBEDDINGS = 1024 * 1024
_USAGE_TAIL_BYTES = 4096


@dataclass(slots=True)
class JsonAnswer:
    """A whole answer: the bytes that go out, and what they tell."""

    body: bytes
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    response_id: str | None = None
    model: str | None = None
    reported_error: AgentServerError | None = None


def read_json_answer(
    body: bytes, wire: WireFormat, provider: str, answer_model: str | None = None
) -> JsonAnswer:
    """The answer in the body of a success.

    Raises:
        UpstreamError: the body is not what the format says, or tells of a failure.
        CallerError: the body tells of a failure that blames the request.
    """
    if wire == "embeddings" and len(body) > MAX_DECODED_EMBEDDINGS:
        return _long_embeddings(body, provider, answer_model)
    value = read_json_object(body, provider)
    answer = JsonAnswer(body, response_id=_text(value.get("id")), model=_text(value.get("model")))
    _READERS[wire](answer, value, provider)
    if answer_model is not None and answer.model is not None:
        answer.body = _renamed(answer, value, answer_model)
    return answer


def read_stored_answer(body: bytes, provider: str, answer_model: str | None = None) -> JsonAnswer:
    """What an upstream says of a response that it keeps, also one that failed, as it stands.

    `answer_model` takes the place of the upstream's model, where there is one.
    """
    value = read_json_object(body, provider)
    if value.get("object") is None:
        _refuse_rejection(value, provider)
    if answer_model is not None and "model" in value:
        body = orjson.dumps({**value, "model": answer_model})
    return JsonAnswer(
        body,
        usage=response_usage(value),
        finish_reason=response_finish_reason(value),
        response_id=_text(value.get("id")),
        model=_text(value.get("model")),
    )


def read_json_object(body: bytes, provider: str) -> JsonObject:
    """The object that a body holds; raises `UpstreamProtocolError` if it is none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        return value
    raise UpstreamProtocolError(
        f"{provider} answered something that is no JSON object; check its base URL",
        provider=provider,
    )


def _read_chat(answer: JsonAnswer, value: JsonObject, provider: str) -> None:
    _refuse_rejection(value, provider)
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _unlike(provider, "a chat completion")
    answer.usage = find_usage(value)
    is_changed = False
    for choice in choices:
        if not isinstance(choice, dict):
            raise _unlike(provider, "a chat completion")
        given = choice.get("finish_reason")
        if given in FAILURE_REASONS:
            told = find_rejection(choice) or Rejection(f"the answer ended with {given!r}")
            raise rejection_to_error(told, provider=provider)
        reason = _reason(choice)
        answer.finish_reason = answer.finish_reason or reason
        if given not in OPENAI_REASONS:
            choice["finish_reason"] = reason
            is_changed = True
    if is_changed:
        answer.body = orjson.dumps(value)


def _reason(choice: JsonObject) -> FinishReason:
    """Why a choice ended; a whole one without a reason has ended all the same."""
    given = choice.get("finish_reason") or legacy_reason(choice)
    if isinstance(given, str) and given:
        return known_reason(given)
    message = choice.get("message")
    return "tool_calls" if isinstance(message, dict) and message.get("tool_calls") else "stop"


def _read_message(answer: JsonAnswer, value: JsonObject, provider: str) -> None:
    if value.get("type") == "error":
        raise rejection_to_error(find_rejection(value) or Rejection(), provider=provider)
    reader = AnswerReader(provider)
    # The message as a stream without its content tells the same of its end and its usage.
    reader.read_frame({"type": "message_start", "message": value})
    reader.read_frame({"type": "message_delta", "delta": value})
    for event in reader.read_frame({"type": "message_stop"}):
        if isinstance(event, Finished):
            answer.finish_reason, answer.usage = event.reason, event.usage


def _read_response(answer: JsonAnswer, value: JsonObject, provider: str) -> None:
    if value.get("status") == "failed" or value.get("object") != "response":
        _refuse_rejection(value, provider)
        raise _unlike(provider, "a response that has not failed")
    answer.usage = response_usage(value)
    answer.finish_reason = response_finish_reason(value)


def _read_embeddings(answer: JsonAnswer, value: JsonObject, provider: str) -> None:
    _refuse_rejection(value, provider)
    if not isinstance(value.get("data"), list):
        raise _unlike(provider, "a list of embeddings")
    answer.usage = find_usage(value)


def _read_count(answer: JsonAnswer, value: JsonObject, provider: str) -> None:
    # Counting costs nothing.
    answer.usage = Usage()
    _refuse_rejection(value, provider)
    if not isinstance(value.get("input_tokens"), int):
        raise _unlike(provider, "a count of tokens")


def _long_embeddings(body: bytes, provider: str, answer_model: str | None) -> JsonAnswer:
    """A list of embeddings of which only what stands before and after its data is read."""
    head, tail = body[:_USAGE_TAIL_BYTES], body[-_USAGE_TAIL_BYTES:]
    if not head.lstrip().startswith(b"{") or not tail.rstrip().endswith(b"}"):
        raise _unlike(provider, "a list of embeddings")
    answer = JsonAnswer(body)
    for part in (head, tail):
        usage, model = _member(part, b'"usage"'), _member(part, b'"model"')
        answer.usage = answer.usage or find_usage({"usage": usage})
        answer.model = answer.model or _text(model)
    if answer_model is not None and answer.model is not None:
        answer.body = _replaced(body, answer.model, answer_model) or body
    return answer


def _member(part: bytes, key: bytes) -> JsonValue:
    """The value of a key that stands in a piece of JSON text; None where it is not whole."""
    start = part.rfind(key)
    if start < 0:
        return None
    text = part[start + len(key) :].decode("utf-8", "replace").lstrip(": \t\n")
    try:
        value: JsonValue = JSONDecoder().raw_decode(text)[0]
    except JSONDecodeError:
        return None
    return value


def _renamed(answer: JsonAnswer, value: JsonObject, name: str) -> bytes:
    replaced = _replaced(answer.body, answer.model or "", name)
    return orjson.dumps({**value, "model": name}) if replaced is None else replaced


def _replaced(body: bytes, model: str, name: str) -> bytes | None:
    """The body with the model's name replaced; None where it is written in another way."""
    for key in (b'"model":', b'"model": '):
        if (old := key + orjson.dumps(model)) in body:
            return body.replace(old, key + orjson.dumps(name))
    return None


def _refuse_rejection(value: JsonObject, provider: str) -> None:
    if (rejection := find_rejection(value)) is not None:
        raise rejection_to_error(rejection, provider=provider)


def _unlike(provider: str, what: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(
        f"{provider} answered something that is not {what}; check its base URL", provider=provider
    )


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


_READERS: Mapping[WireFormat, Callable[[JsonAnswer, JsonObject, str], None]] = {
    "chat": _read_chat,
    "messages": _read_message,
    "responses": _read_response,
    "embeddings": _read_embeddings,
    "count_tokens": _read_count,
}
