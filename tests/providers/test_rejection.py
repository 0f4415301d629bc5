"""Every shape of refusal, and the error that it is."""

import orjson
import pytest

from providers.rejection import Rejection, find_rejection, read_rejection, rejection_to_error
from streaming.errors import (
    AgentServerError,
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
from streaming.events import JsonValue

KEY = "sk-0123456789"
OUT_OF_CREDIT = Rejection(code="insufficient_quota")


@pytest.mark.parametrize(
    ("body", "rejection"),
    [
        pytest.param(
            b'{\n  "error": {\n    "message": "No.",\n    "type": "invalid_request_error",\n'
            b'    "param": "stop",\n    "code": "unsupported_parameter"\n  }\n}\n',
            Rejection("No.", "invalid_request_error", "unsupported_parameter", "stop"),
            id="OpenAI",
        ),
        pytest.param(
            b'{"error":{"code":"404","message": "Resource not found"}}',
            Rejection("Resource not found", code="404"),
            id="Azure",
        ),
        pytest.param(
            b'{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"slow"}}}',
            Rejection("Provider returned error: slow", code="429", status=429),
            id="OpenRouter",
        ),
        pytest.param(
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            Rejection("Overloaded", "overloaded_error"),
            id="Anthropic",
        ),
        pytest.param(b'{"error":"model not found"}', Rejection("model not found"), id="Ollama"),
        pytest.param(b'{"detail":"Invalid API Key"}\n', Rejection("Invalid API Key"), id="Mistral"),
        pytest.param(
            b'{"object":"error","message":{"detail":[{"loc":["body"],"msg":"Field required"},'
            b'{"msg":"Extra inputs"}]},"type":"invalid_request_error","param":null,"code":null}',
            Rejection("Field required; Extra inputs", "invalid_request_error"),
            id="Mistral, validation",
        ),
        pytest.param(
            b'{"object":"error","message":"No model x","type":"NotFoundError","code":404}',
            Rejection("No model x", "NotFoundError", "404", status=404),
            id="vLLM",
        ),
        pytest.param(b'{"status":"down"}', Rejection('{"status":"down"}'), id="unknown JSON"),
        pytest.param(b"upstream\x1b[31m down\n", Rejection("upstream[31m down"), id="text"),
        pytest.param(b"<html>Bad gateway</html>", Rejection(), id="HTML"),
        pytest.param(b"", Rejection(), id="nothing"),
        pytest.param(b'{"error":{}}', Rejection(), id="empty"),
    ],
)
def test_a_refusal_is_read_in_whichever_shape_it_comes(body: bytes, rejection: Rejection) -> None:
    assert read_rejection(body) == rejection


@pytest.mark.parametrize(
    "value",
    [{"choices": []}, {"error": None, "choices": []}, {"choices": [], "detail": "x"}, [1], "error"],
)
def test_what_is_no_refusal_is_not_taken_for_one(value: JsonValue) -> None:
    assert find_rejection(value) is None


def test_a_long_message_is_cut() -> None:
    rejection = read_rejection(orjson.dumps({"error": "x" * 10_000}))
    assert rejection.message == "x" * 2000 + " ..."


@pytest.mark.parametrize(
    ("status", "rejection", "kind", "code", "is_retryable"),
    [
        (400, Rejection(code="invalid_value"), InvalidRequestError, "invalid_value", False),
        (400, Rejection(code="400"), InvalidRequestError, None, False),
        (422, Rejection(), InvalidRequestError, None, False),
        (400, Rejection(code="context_length_exceeded"), ContextLengthError, None, False),
        (400, Rejection(type="too_many_prompt_tokens"), ContextLengthError, None, False),
        (400, Rejection(code="tool_use_failed"), UpstreamRejectedError, "tool_use_failed", True),
        (401, Rejection(code="invalid_api_key"), UpstreamCredentialsError, None, False),
        (402, Rejection(), UpstreamCredentialsError, None, False),
        (403, Rejection(), UpstreamCredentialsError, None, False),
        (404, Rejection(code="model_not_found"), NotFoundError, "model_not_found", False),
        (404, Rejection(type="not_found_error"), NotFoundError, "model_not_found", False),
        (404, Rejection(type="NotFoundError", code="404"), NotFoundError, "model_not_found", False),
        (404, Rejection(), UpstreamRejectedError, None, False),
        (307, Rejection(), UpstreamRejectedError, None, False),
        (408, Rejection(), UpstreamTimeoutError, None, True),
        (409, Rejection(), UpstreamRejectedError, None, False),
        (413, Rejection(), PayloadTooLargeError, None, False),
        (429, Rejection(), UpstreamRateLimitError, None, True),
        (429, OUT_OF_CREDIT, UpstreamRateLimitError, "insufficient_quota", False),
        (500, Rejection(), UpstreamRejectedError, None, True),
        (502, Rejection(), UpstreamRejectedError, None, True),
        (503, Rejection(), UpstreamOverloadedError, None, True),
        (504, Rejection(), UpstreamTimeoutError, None, True),
        (529, Rejection(), UpstreamOverloadedError, None, True),
        # Inside a stream: the status in the body, else what the code or type stands for.
        (None, Rejection(code="x", status=429), UpstreamRateLimitError, None, True),
        (None, Rejection(type="overloaded_error"), UpstreamOverloadedError, None, True),
        (None, Rejection(type="invalid_request_error"), InvalidRequestError, None, False),
        (None, Rejection(type="odd"), UpstreamRejectedError, None, True),
    ],
)  # fmt: skip
def test_a_refusal_is_classified_by_status_code_and_type(
    status: int | None,
    rejection: Rejection,
    kind: type[AgentServerError],
    code: str | None,
    is_retryable: bool,
) -> None:
    error = rejection_to_error(rejection, provider="up", status=status)
    # None stands for the code of the class.
    assert (type(error), error.code) == (kind, code or kind.default_code)
    assert error.is_retryable is is_retryable
    if isinstance(error, UpstreamError):
        assert error.provider == "up"
        assert error.status is not None


def test_words_of_a_message_decide_nothing() -> None:
    rejection = Rejection("model_not_found context_length_exceeded rate limit 401")
    assert type(rejection_to_error(rejection, provider="up", status=400)) is InvalidRequestError


def test_an_error_carries_what_the_upstream_said_and_the_field_at_fault() -> None:
    error = rejection_to_error(Rejection("Bad stop", param="stop"), provider="up", status=400)
    assert (error.message, error.param) == ("up: Bad stop", "stop")


def test_a_missing_model_is_the_field_model() -> None:
    rejection = Rejection("No model x", code="model_not_found")
    assert rejection_to_error(rejection, provider="up", status=404).param == "model"


def test_the_wait_that_was_asked_for_is_kept() -> None:
    error = rejection_to_error(Rejection(), provider="up", status=429, retry_after_seconds=7.5)
    assert error.retry_after_seconds == 7.5


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_is_in_no_message(status: int) -> None:
    rejection = Rejection(f"Incorrect API key provided: {KEY}.")
    error = rejection_to_error(rejection, provider="up", status=status, secrets=(KEY, ""))
    assert KEY not in error.message
    assert error.message.startswith("up")


@pytest.mark.parametrize("deep", [b"[%b]", b'{"message":%b}', b'{"a":%b}'])
def test_a_refusal_may_be_nested_as_deep_as_it_likes(deep: bytes) -> None:
    body = b'"why"'
    for _ in range(1000):
        body = deep.replace(b"%b", body)
    assert read_rejection(b'{"error":{"message":%b,"code":"bad"}}' % body).code == "bad"
