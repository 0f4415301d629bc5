"""The error tree. Whose fault it is comes first; HTTP is known in `error_responses.py` alone.

AgentServerError
├── CallerError                  the request is at fault
│   ├── InvalidRequestError      a field is missing, of the wrong type or out of range
│   │   ├── ContextLengthError   more tokens than the model takes
│   │   ├── ProblemsError        a document or its values, with each fault by its path
│   │   └── UnsupportedFieldError the chosen provider cannot honour the field
│   ├── AuthenticationError      no key, or one that we do not know
│   ├── PermissionDeniedError    the key lacks the scope, or the origin is foreign
│   ├── NotFoundError            no such route, model, run
│   │   └── MethodNotAllowedError
│   ├── ConflictError            the state does not allow it
│   ├── PayloadTooLargeError
│   ├── RequestTimeoutError      the body did not come in time
│   ├── UnsupportedMediaTypeError
│   ├── MisdirectedRequestError  a Host that we do not serve
│   └── RateLimitError           too much at once from this caller
├── UpstreamError                a provider is at fault
│   ├── UpstreamConnectionError  refused, reset, unresolved, cut before the end
│   ├── UpstreamTimeoutError     connect, first byte, idle or total time passed
│   ├── UpstreamProtocolError    bytes that are not what the wire format says
│   ├── UpstreamCredentialsError the server's own key was refused
│   ├── UpstreamRateLimitError
│   ├── UpstreamOverloadedError
│   └── UpstreamRejectedError    any other error that the provider answered
├── BridgeError                  an MCP server is at fault
│   ├── BridgeUnavailableError   not ready, or died during the call
│   ├── BridgeTimeoutError
│   └── BridgeProtocolError      an answer that is not MCP, or over the size cap
├── AgentLimitError              the agent reached one of its bounds
└── OverloadedError              this server has no room for one more
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar


class AgentServerError(Exception):
    """Base of every error that may reach a client.

    `message` says what, where and how to mend it; `code` is a stable word for programs; `param`
    names the field or setting at fault; `is_retryable` tells whether the same call may succeed.
    """

    error_type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        is_retryable: bool | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.param = param
        self.is_retryable = self.retryable if is_retryable is None else is_retryable
        self.retry_after_seconds = retry_after_seconds


class CallerError(AgentServerError):
    """The request is at fault."""

    error_type = "invalid_request_error"


class InvalidRequestError(CallerError):
    """A field is missing, of the wrong type or out of range."""


class ContextLengthError(InvalidRequestError):
    """The messages hold more tokens than the model takes."""

    default_code = "context_length_exceeded"


class ProblemsError(InvalidRequestError):
    """A document, or values for it, have faults; `problems` are `{path, reason, fix}` each."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        is_retryable: bool | None = None,
        retry_after_seconds: float | None = None,
        problems: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(
            message,
            code=code,
            param=param,
            is_retryable=is_retryable,
            retry_after_seconds=retry_after_seconds,
        )
        self.problems = tuple(dict(problem) for problem in problems)


class UnsupportedFieldError(InvalidRequestError):
    """The chosen provider cannot honour the field."""

    default_code = "unsupported_parameter"


class AuthenticationError(CallerError):
    """No key, or one that the server does not know."""

    default_code = "invalid_api_key"


class PermissionDeniedError(CallerError):
    """The caller is known, but may not do this."""

    error_type = "permission_error"
    default_code = "permission_denied"


class NotFoundError(CallerError):
    """No such route, model or run."""

    default_code = "not_found"


class MethodNotAllowedError(NotFoundError):
    """The route exists, but not with this method."""

    default_code = "method_not_allowed"


class ConflictError(CallerError):
    """The state of the resource does not allow it."""

    default_code = "conflict"


class PayloadTooLargeError(CallerError):
    """The body is larger than the server takes."""

    default_code = "payload_too_large"


class RequestTimeoutError(CallerError):
    """The body did not come within the time that it may take."""

    default_code = "request_timeout"
    retryable = True


class UnsupportedMediaTypeError(CallerError):
    """The body is not JSON by its content type."""

    default_code = "unsupported_media_type"


class MisdirectedRequestError(CallerError):
    """The Host header names a server that this one is not."""

    default_code = "misdirected_request"


class RateLimitError(CallerError):
    """The caller does too much at once, or has spent its budget.

    `limits` says what is left of its limits, by the names of the headers `x-ratelimit-*`.
    """

    error_type = "rate_limit_exceeded"
    default_code = "rate_limit_exceeded"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        is_retryable: bool | None = None,
        retry_after_seconds: float | None = None,
        limits: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(
            message,
            code=code,
            param=param,
            is_retryable=is_retryable,
            retry_after_seconds=retry_after_seconds,
        )
        self.limits = limits


class UpstreamError(AgentServerError):
    """A provider is at fault.

    `provider` names it; `status` is the HTTP status it answered, None if it answered none.
    """

    default_code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        is_retryable: bool | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            param=param,
            is_retryable=is_retryable,
            retry_after_seconds=retry_after_seconds,
        )
        self.provider = provider
        self.status = status


class UpstreamConnectionError(UpstreamError):
    """No connection, or one that ended before the answer did."""

    default_code = "upstream_connection"
    retryable = True


class UpstreamTimeoutError(UpstreamError):
    """The provider did not answer in the time it was given."""

    default_code = "upstream_timeout"
    retryable = True


class UpstreamProtocolError(UpstreamError):
    """The provider sent bytes that are not what its wire format says."""

    default_code = "upstream_protocol"


class UpstreamCredentialsError(UpstreamError):
    """The provider refused the server's own key."""

    default_code = "upstream_credentials"


class UpstreamRateLimitError(UpstreamError):
    """The provider limits the server."""

    error_type = "rate_limit_exceeded"
    default_code = "rate_limit_exceeded"
    retryable = True


class UpstreamOverloadedError(UpstreamError):
    """The provider has no capacity now."""

    default_code = "overloaded"
    retryable = True


class UpstreamRejectedError(UpstreamError):
    """The provider answered an error that no other class describes."""


class BridgeError(AgentServerError):
    """An MCP server is at fault."""

    default_code = "bridge_error"


class BridgeUnavailableError(BridgeError):
    """The MCP server is not ready, or died during the call (which may have run)."""

    default_code = "bridge_unavailable"


class BridgeTimeoutError(BridgeError):
    """The tool did not answer in the time it was given."""

    default_code = "tool_timeout"


class BridgeProtocolError(BridgeError):
    """The MCP server answered something that is not MCP, or that is over the size cap."""

    default_code = "bridge_protocol"


class AgentLimitError(AgentServerError):
    """The agent reached one of its bounds; `param` names the setting that holds it."""

    default_code = "agent_limit"


class OverloadedError(AgentServerError):
    """This server has no room for one more request; nothing was done."""

    default_code = "overloaded"
    retryable = True
