"""Errors as answers: OpenAI's envelope, and Anthropic's for who asks in its format."""

from collections.abc import Iterator

import anthropic
import httpx2
import orjson
import pytest
from anthropic import Anthropic
from starlette.types import Scope

from agent_server.error_responses import error_response, status_of
from streaming import errors
from streaming.errors import AgentServerError
from streaming.messages_objects import error_type

ANTHROPIC: dict[type[AgentServerError], tuple[int, str]] = {
    errors.InvalidRequestError: (400, "invalid_request_error"),
    errors.AuthenticationError: (401, "authentication_error"),
    errors.PermissionDeniedError: (403, "permission_error"),
    errors.NotFoundError: (404, "not_found_error"),
    errors.MethodNotAllowedError: (405, "invalid_request_error"),
    errors.ConflictError: (409, "conflict_error"),
    errors.PayloadTooLargeError: (413, "request_too_large"),
    errors.UnsupportedMediaTypeError: (415, "invalid_request_error"),
    errors.MisdirectedRequestError: (421, "invalid_request_error"),
    errors.RateLimitError: (429, "rate_limit_error"),
    errors.UpstreamConnectionError: (502, "api_error"),
    errors.UpstreamTimeoutError: (504, "timeout_error"),
    errors.UpstreamCredentialsError: (502, "api_error"),
    errors.UpstreamRateLimitError: (429, "rate_limit_error"),
    errors.UpstreamOverloadedError: (529, "overloaded_error"),
    errors.BridgeUnavailableError: (503, "api_error"),
    errors.BridgeTimeoutError: (504, "timeout_error"),
    errors.AgentLimitError: (422, "api_error"),
    errors.OverloadedError: (529, "overloaded_error"),
    AgentServerError: (500, "api_error"),
}
RAISED: dict[type[AgentServerError], type[anthropic.APIStatusError]] = {
    errors.InvalidRequestError: anthropic.BadRequestError,
    errors.AuthenticationError: anthropic.AuthenticationError,
    errors.NotFoundError: anthropic.NotFoundError,
    errors.RateLimitError: anthropic.RateLimitError,
    errors.UpstreamOverloadedError: anthropic.OverloadedError,
}


def scope(path: str, *headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "path": path,
        "headers": list(headers),
        "state": {"request_id": "req_1"},
    }


def every_error() -> Iterator[type[AgentServerError]]:
    found = [AgentServerError]
    while found:
        cls = found.pop()
        yield cls
        found += cls.__subclasses__()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(("cls", "expected"), ANTHROPIC.items())
def test_who_asks_in_anthropics_format_is_answered_in_it(
    path: str, cls: type[AgentServerError], expected: tuple[int, str]
) -> None:
    answer = error_response(cls("Said."), scope(path))
    status, kind = expected
    assert answer.status_code == status
    assert orjson.loads(answer.body) == {
        "type": "error",
        "error": {"type": kind, "message": "Said."},
        "request_id": "req_1",
    }
    assert answer.headers["request-id"] == "req_1"


@pytest.mark.parametrize(("cls", "raised"), RAISED.items())
def test_anthropics_sdk_raises_what_it_means(
    cls: type[AgentServerError], raised: type[anthropic.APIStatusError]
) -> None:
    answer = error_response(cls("Said."), scope("/v1/messages"))
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(
            answer.status_code, headers=dict(answer.headers), content=bytes(answer.body)
        )
    )
    with (
        httpx2.Client(transport=transport) as http,
        Anthropic(api_key="x", http_client=http, max_retries=0) as sdk,
        pytest.raises(raised) as caught,
    ):
        sdk.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize(
    "asked",
    [None, scope("/v1/chat/completions"), scope("/v1/models"), scope("/v1/messagesx")],
)
def test_all_others_are_answered_in_openais_format(asked: Scope | None) -> None:
    answer = error_response(errors.OverloadedError("Full."), asked)
    assert answer.status_code == 503
    assert orjson.loads(answer.body)["error"]["code"] == "overloaded"
    assert "request-id" not in answer.headers


def test_the_models_are_asked_for_in_both_formats() -> None:
    asked = scope("/v1/models/x", (b"anthropic-version", b"2026-10-21"))
    answer = error_response(errors.NotFoundError("None."), asked)
    assert orjson.loads(answer.body)["error"] == {"type": "not_found_error", "message": "None."}


@pytest.mark.parametrize("cls", sorted(set(every_error()), key=lambda cls: cls.__name__))
def test_every_error_has_a_status_and_a_word(cls: type[AgentServerError]) -> None:
    assert 400 <= status_of(cls("x")) < 600
    assert error_type(cls("x"))


def test_what_helps_a_client_is_in_the_headers() -> None:
    limited = errors.RateLimitError(
        "Slow down.", retry_after_seconds=1.2, limits={"x-ratelimit-remaining-requests": "0"}
    )
    answer = error_response(limited, scope("/v1/messages"))
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in answer.headers
    lost = errors.UpstreamCredentialsError("Refused.", provider="groq")
    answer = error_response(lost, scope("/v1/messages"))
    assert (answer.headers["x-should-retry"], answer.headers["x-provider"]) == ("false", "groq")


def test_a_prompt_that_is_too_long_is_said_in_the_words_that_clients_look_for() -> None:
    for said in ("8193 tokens", "Prompt is too long: 8193"):
        answer = error_response(errors.ContextLengthError(said), scope("/v1/messages"))
        message = orjson.loads(answer.body)["error"]["message"]
        assert message.lower().count("prompt is too long") == 1
