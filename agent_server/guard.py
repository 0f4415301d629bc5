"""What stands before the routes: host and origin, then content type, key, body size and room.

What this module promises: a request that any check refuses has had no effect; at most
`max_concurrent_requests` are inside at once, beside the webhooks, whose room is their own and whose
head is looked at before anything is waited for.
"""

import re
from collections.abc import Container
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from agent_server.access import Access
from agent_server.error_responses import error_response, log_error
from agent_server.local_callers import confirmed
from agent_server.request_headers import headers_of
from agent_server.rooms import HookRoom, Room
from streaming.errors import AgentServerError, NotFoundError, PermissionDeniedError

# What tells nothing and does nothing; probes come by address, so their Host is not checked.
OPEN_PATHS = frozenset({"/", "/health", "/health/ready", "/discover"})
PROBE_PATHS = frozenset({"/health", "/health/ready"})
# What follows is a secret that opens one webhook, so that no key is asked for.
HOOKS_PREFIX = "/v1/workflows/hooks/"
# Of what is shorter or longer, or holds other characters, no key could have made a token.
_HOOK_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22,1024}")
# All that the bearer of a run token may ask for.
RUN_TOKEN_PATHS = frozenset({"/v1/chat/completions"})
# What the backend asks before a schedule begins a run: no caller, and no answer but yes.
RUN_OWNER_PATH = "/v1/workflows/run-owner"
# What changes nothing.
READS = frozenset({"GET", "HEAD", "OPTIONS"})


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
        self,
        app: ASGIApp,
        *,
        access: Access,
        max_body_bytes: int,
        max_concurrent_requests: int,
        model_paths: Container[str] = (),
    ) -> None:
        """Stand before the application, which confirms callers of its `model_paths` by itself."""
        self._app = app
        self._access = access
        self._model_paths = model_paths
        self._room = Room(max_concurrent_requests, max_body_bytes)
        self._hooks = HookRoom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        room = self._hooks if scope["path"].startswith(HOOKS_PREFIX) else self._room
        try:
            has_length = await self._check(scope, room)
        except AgentServerError as exc:
            log_error(exc)
            await error_response(exc, scope)(scope, receive, send)
            return
        with room:
            await self._app(scope, room.receiving(receive, has_length=has_length), send)

    async def _check(self, scope: Scope, room: Room) -> bool:
        """Whether the body has a length, which is as allowed."""
        headers = headers_of(scope)
        if room is self._hooks:
            if not _HOOK_TOKEN.fullmatch(scope["path"], len(HOOKS_PREFIX)):
                raise NotFoundError(
                    "There is no such webhook.", code="hook_not_found", param="token"
                )
            room.check_places()
        elif scope["path"] == RUN_OWNER_PATH:
            await self._access.check_run_owner(headers)
        elif scope["path"] not in OPEN_PATHS:
            peer = scope["client"][0] if scope.get("client") else None
            caller = self._access.identify(headers, peer)
            if caller is None:
                caller = await self._access.find(headers, peer)
                if caller.claims is not None and scope["path"] not in RUN_TOKEN_PATHS:
                    raise _not_for_run_tokens()
            scope.setdefault("state", {})["caller"] = caller
            if scope["method"] not in READS and scope["path"] not in self._model_paths:
                await confirmed(scope)
            room.check_places()
        if scope["method"] == "POST":
            self._access.check_content_type(headers)
        return room.has_length(headers)


def _not_for_run_tokens() -> PermissionDeniedError:
    return PermissionDeniedError(
        "A run token is for POST /v1/chat/completions alone. Send an API key.",
        code="run_token_not_allowed",
    )


def shown_path(path: str) -> str:
    """The path of a request as it may be logged: without the secret of a webhook."""
    return f"{HOOKS_PREFIX}..." if path.startswith(HOOKS_PREFIX) else path[:200]
