"""What stands before the routes: host and origin, then content type, key, body size and room.

What this module promises: a request that any check refuses has had no effect; a body over the
limit is never read further than the limit; at most `max_concurrent_requests` are inside at once.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_server.access import Access
from agent_server.error_responses import error_response, log_error
from agent_server.request_headers import headers_of
from streaming.errors import (
    AgentServerError,
    OverloadedError,
    PayloadTooLargeError,
    PermissionDeniedError,
)

# What tells nothing and does nothing; probes come by address, so their Host is not checked.
OPEN_PATHS = frozenset({"/", "/health", "/health/ready", "/discover"})
PROBE_PATHS = frozenset({"/health", "/health/ready"})
# What follows is a secret that opens one webhook, so that no key is asked for.
HOOKS_PREFIX = "/v1/workflows/hooks/"
# All that the bearer of a run token may ask for.
RUN_TOKEN_PATHS = frozenset({"/v1/chat/completions"})


class Gate:
    """Pure ASGI middleware: lets in only what was meant for this server, before CORS answers."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check Host and Origin, then hand the request on."""
        if scope["type"] == "http" and scope["path"] not in PROBE_PATHS:
            headers = headers_of(scope)
            self._access.check_host(headers)
            self._access.check_origin(headers)
        await self._app(scope, receive, send)


class Guard:
    """Pure ASGI middleware: who calls, with what, and whether there is room.

    It answers what it refuses by itself, inside CORS, so that a page may read why.
    """

    def __init__(
        self, app: ASGIApp, *, access: Access, max_body_bytes: int, max_concurrent_requests: int
    ) -> None:
        self._app = app
        self._access = access
        self._max_body_bytes = max_body_bytes
        self._max_concurrent = max_concurrent_requests
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            is_bounded = await self._check(scope)
        except AgentServerError as exc:
            log_error(exc)
            await error_response(exc, scope)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive if is_bounded else self._limited(receive), send)
        finally:
            self._inside -= 1

    async def _check(self, scope: Scope) -> bool:
        """Whether the body has a length, which is as allowed: HTTP ends it there."""
        headers = headers_of(scope)
        if scope["path"].startswith(HOOKS_PREFIX):
            self._check_room()
        elif scope["path"] not in OPEN_PATHS:
            peer = scope["client"][0] if scope.get("client") else None
            caller = self._access.identify(headers, peer)
            if caller is None:
                caller = await self._access.find(headers, peer)
                if caller.claims is not None and scope["path"] not in RUN_TOKEN_PATHS:
                    raise _not_for_run_tokens()
            scope.setdefault("state", {})["caller"] = caller
            self._check_room()
        if scope["method"] == "POST":
            self._access.check_content_type(headers)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return False
        if int(length) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)
        return True

    def _check_room(self) -> None:
        if self._inside >= self._max_concurrent:
            raise OverloadedError(
                f"The server answers {self._max_concurrent} requests already. Come again in a "
                "second, or raise AGENT_SERVER_MAX_CONCURRENT_REQUESTS.",
                retry_after_seconds=1,
            )

    def _limited(self, receive: Receive) -> Receive:
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_body_bytes:
                    raise _too_large(self._max_body_bytes)
            return message

        return limited


def _not_for_run_tokens() -> PermissionDeniedError:
    return PermissionDeniedError(
        "A run token is for POST /v1/chat/completions alone. Send an API key.",
        code="run_token_not_allowed",
    )


def shown_path(path: str) -> str:
    """The path of a request as it may be logged: without the secret of a webhook."""
    return f"{HOOKS_PREFIX}..." if path.startswith(HOOKS_PREFIX) else path[:200]


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The body is larger than {limit} bytes. Send less, or raise AGENT_SERVER_MAX_BODY_BYTES.",
        param="body",
    )
