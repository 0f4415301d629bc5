"""The one table from error class to HTTP status and error body.

Whoever asks in Anthropic's format is answered in it; all others in OpenAI's.
"""

import math
from collections.abc import Mapping

import orjson
from starlette.responses import Response
from starlette.types import Scope

from agent_server.log_config import get_logger
from streaming import errors, messages_objects
from streaming.errors import AgentServerError, RateLimitError, UpstreamError
from streaming.openai_objects import error_object

INTERNAL_ERROR = (
    "The server failed on this request; its log tells why, under this answer's X-Request-Id."
)
STATUS: Mapping[type[AgentServerError], int] = {
    errors.InvalidRequestError: 400,
    errors.AuthenticationError: 401,
    errors.PermissionDeniedError: 403,
    errors.NotFoundError: 404,
    errors.MethodNotAllowedError: 405,
    errors.ConflictError: 409,
    errors.PayloadTooLargeError: 413,
    errors.RequestTimeoutError: 408,
    errors.UnsupportedMediaTypeError: 415,
    errors.MisdirectedRequestError: 421,
    errors.RateLimitError: 429,
    errors.CallerError: 400,
    errors.UpstreamTimeoutError: 504,
    errors.UpstreamRateLimitError: 429,
    errors.UpstreamOverloadedError: 503,
    errors.UpstreamError: 502,
    errors.BridgeUnavailableError: 503,
    errors.BridgeTimeoutError: 504,
    errors.BridgeError: 502,
    # Clients repeat a 5xx by themselves, and a turn that ran into a bound must not run again.
    errors.AgentLimitError: 422,
    errors.OverloadedError: 503,
    AgentServerError: 500,
}
# Anthropic's clients know a status for it.
ANTHROPIC_STATUS: Mapping[type[AgentServerError], int] = {
    **STATUS,
    errors.UpstreamOverloadedError: 529,
    errors.OverloadedError: 529,
}

log = get_logger()


def status_of(error: AgentServerError, table: Mapping[type[AgentServerError], int] = STATUS) -> int:
    """The HTTP status of an error, by its class or the nearest base in the table."""
    return next(table[cls] for cls in type(error).__mro__ if cls in table)


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a request is one of Anthropic's API, by its path and headers."""
    path: str = scope["path"]
    if path.startswith("/v1/models"):
        return any(name == b"anthropic-version" for name, _ in scope["headers"])
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def error_response(error: AgentServerError, scope: Scope | None = None) -> Response:
    """The whole answer: status, envelope, and the headers that tell a client when to come again.

    `scope` is that of the request, whose format the answer takes: OpenAI's where it is None.
    """
    is_anthropic = scope is not None and speaks_anthropic(scope)
    status = status_of(error, ANTHROPIC_STATUS if is_anthropic else STATUS)
    headers = {"cache-control": "no-store"}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_seconds))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status >= 409 and not error.is_retryable:
        # Read by the OpenAI and Anthropic SDKs, which otherwise repeat 409 and every 5xx.
        headers["x-should-retry"] = "false"
    if isinstance(error, UpstreamError) and error.provider:
        headers["x-provider"] = error.provider
    if isinstance(error, RateLimitError):
        headers |= error.limits
    trail = scope.get("state", {}).get("trail") if scope is not None else None
    if trail is not None and trail.route is not None:
        headers |= {"x-route": trail.route.route_id, "x-attempts": str(trail.attempts)}
    envelope = error_object(error)
    if scope is not None and is_anthropic:
        request_id = scope.get("state", {}).get("request_id")
        envelope = messages_objects.error_object(error, request_id)
        if request_id:
            headers["request-id"] = request_id
    return Response(
        orjson.dumps(envelope),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def stopping() -> errors.OverloadedError:
    """The error of an answer that a stopping server cannot finish."""
    return errors.OverloadedError(
        "The server is stopping and could not finish this answer in time. Ask again: another one, "
        "or its successor, will answer.",
        code="server_stopping",
        retry_after_seconds=5,
    )


def log_error(error: AgentServerError) -> None:
    """One line for an answer that is an error, or that ended in one."""
    log.warning(
        "Request failed",
        error=error.message,
        error_type=type(error).__name__,
        code=error.code,
        param=error.param,
    )
