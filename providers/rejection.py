"""What an upstream says when it refuses, in whichever shape, and which of our errors that is.

Classified by status, code and type alone, never by the words of a message. Shapes: OpenAI's
`{"error":{message,type,param,code}}` (API reference, "Error codes", 2026-10), Anthropic's
`{"type":"error","error":{type,message}}`, `{"error":"text"}` (Ollama), `{"detail"}` and
`{"object":"error"}` (Mistral, vLLM), an integer `code` with `metadata` (OpenRouter).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from streaming.errors import (
    AgentServerError,
    CallerError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    UpstreamCredentialsError,
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from streaming.events import JsonObject, JsonValue

MAX_ERROR_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 2000
MAX_MESSAGE_DEPTH = 8
BAD_REQUEST, PAYMENT_REQUIRED, NOT_FOUND, SERVER_ERROR = 400, 402, 404, 500


@dataclass(frozen=True, slots=True)
class Rejection:
    """An upstream's refusal: its words, and the codes by which it is classified.

    `code` is text, also where the upstream sends a number; `status` is the HTTP status that the
    body itself names, None if it names none.
    """

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None
    status: int | None = None


def read_rejection(body: bytes) -> Rejection:
    """The refusal in the body of an error answer; text that is not JSON is quoted, HTML is not."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace").strip()
        return Rejection() if text.startswith("<") else Rejection(message=_short(text))
    rejection = find_rejection(value)
    return Rejection(message=_short(_text(value))) if rejection is None else rejection


def find_rejection(value: JsonValue) -> Rejection | None:
    """The refusal that a decoded body or streamed object is, None if it is none."""
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return _from_object(error)
    if error:
        return Rejection(message=_short(_text(error)))
    if value.get("object") == "error":
        return _from_object(value)
    if "detail" in value and "choices" not in value:
        return Rejection(message=_short(_text(value["detail"])))
    return None


def rejection_to_error(
    rejection: Rejection,
    *,
    provider: str,
    status: int | None = None,
    retry_after_seconds: float | None = None,
    secrets: Iterable[str] = (),
) -> AgentServerError:
    """Our error for an upstream's refusal, its message without `secrets`.

    `status` is the HTTP status of the answer; None, for a refusal inside a stream, takes the one
    that the refusal names, or that its code or type stands for.
    """
    status = status or rejection.status or _named_status(rejection)
    kind = _kind(rejection, status)
    message = rejection.message
    for secret in secrets:
        message = message.replace(secret, "***") if secret else message
    if issubclass(kind, UpstreamError):
        text = _STATUS_TEXTS.get(status, f"answered an error ({status})")
        # The words of a refused key often quote the key.
        quoted = "" if kind is UpstreamCredentialsError else message
        return kind(
            f"{provider} {text}: {quoted}" if quoted else f"{provider} {text}",
            provider=provider,
            status=status,
            code=_UPSTREAM_CODES.get(rejection.code),
            is_retryable=_is_retryable(kind, rejection, status),
            retry_after_seconds=retry_after_seconds,
        )
    is_missing_model = kind is NotFoundError
    return kind(
        f"{provider}: {message or f'the request was refused ({status})'}",
        code="model_not_found" if is_missing_model else _caller_code(kind, rejection),
        param=rejection.param or ("model" if is_missing_model else None),
    )


def _from_object(error: JsonObject) -> Rejection:
    code = error.get("code")
    status = error.get("status_code", code)
    param = error.get("param")
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    message = _text(error.get("message"))
    return Rejection(
        message=_short(f"{message}: {raw}" if isinstance(raw, str) else message),
        type=_text(error.get("type")),
        code="" if code is None else str(code),
        param=param if isinstance(param, str) and param else None,
        status=status if isinstance(status, int) and status >= BAD_REQUEST else None,
    )


def _text(value: JsonValue, depth: int = 0) -> str:
    """Readable text of a message, which may be a list or an object (FastAPI's `detail`)."""
    if depth > MAX_MESSAGE_DEPTH:
        return ""
    match value:
        case str():
            return value
        case None:
            return ""
        case list():
            return "; ".join(_text(item, depth + 1) for item in value)
        case dict():
            for name in ("message", "msg", "detail"):
                if name in value:
                    return _text(value[name], depth + 1)
        case _:
            pass
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Nested deeper than can be written.
        return ""


def _short(text: str) -> str:
    text = "".join(
        character for character in text if character.isprintable() or character in "\n\t"
    )
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    return text[:MAX_MESSAGE_CHARACTERS] + " ..."


def _named_status(rejection: Rejection) -> int:
    return _NAMED_STATUSES.get(rejection.code) or _NAMED_STATUSES.get(rejection.type, SERVER_ERROR)


def _kind(rejection: Rejection, status: int) -> type[CallerError] | type[UpstreamError]:
    for word in (rejection.code, rejection.type):
        if kind := _KINDS_BY_WORD.get((status, word)):
            return kind
    return _KINDS_BY_STATUS.get(status, UpstreamRejectedError)


def _caller_code(kind: type[CallerError], rejection: Rejection) -> str | None:
    if kind is ContextLengthError or rejection.code.isdigit():
        return None
    return rejection.code or None


def _is_retryable(kind: type[UpstreamError], rejection: Rejection, status: int) -> bool | None:
    if kind is UpstreamRejectedError:
        return status >= SERVER_ERROR or rejection.code in _UPSTREAM_CODES
    return False if rejection.code in _OUT_OF_CREDIT else None


_OUT_OF_CREDIT = {"insufficient_quota", "billing_hard_limit_reached"}
# The upstream's codes that say more than the default code of our class does.
_UPSTREAM_CODES = {
    "insufficient_quota": "insufficient_quota",
    "billing_hard_limit_reached": "insufficient_quota",
    "tool_use_failed": "tool_use_failed",
}
_KINDS_BY_STATUS: dict[int, type[CallerError] | type[UpstreamError]] = {
    400: InvalidRequestError,
    401: UpstreamCredentialsError,
    402: UpstreamCredentialsError,
    403: UpstreamCredentialsError,
    408: UpstreamTimeoutError,
    413: PayloadTooLargeError,
    422: InvalidRequestError,
    429: UpstreamRateLimitError,
    503: UpstreamOverloadedError,
    504: UpstreamTimeoutError,
    529: UpstreamOverloadedError,
}
# A 404 without one of these words is a wrong base URL, not a model that is missing.
_KINDS_BY_WORD: dict[tuple[int, str], type[CallerError] | type[UpstreamError]] = {
    (400, "context_length_exceeded"): ContextLengthError,
    (400, "too_many_prompt_tokens"): ContextLengthError,
    (413, "context_length_exceeded"): ContextLengthError,
    (400, "model_not_found"): NotFoundError,
    (404, "model_not_found"): NotFoundError,
    (404, "model_not_available"): NotFoundError,
    (404, "not_found_error"): NotFoundError,
    (404, "NotFoundError"): NotFoundError,
    # The model wrote a wrong tool call: nothing in the request is at fault.
    (400, "tool_use_failed"): UpstreamRejectedError,
}
_NAMED_STATUSES = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "tool_use_failed": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    "overloaded": 529,
}
_STATUS_TEXTS = {
    401: "refused the server's key (401); check the key and the base URL of this provider",
    402: "refused the server's key (402); its account has no credit left",
    403: "refused the server's key (403); it may not use this model or address",
    404: "knows no such address (404); check its base URL",
    429: "limits the rate of requests (429)",
    503: "has no capacity now (503)",
    529: "has no capacity now (529)",
    **dict.fromkeys(
        (301, 302, 303, 307, 308),
        "answered with a redirect, which is not followed; check its base URL",
    ),
}
