"""The paths that models are called by, in front of the router.

They are asked for on every call, and a look into a dictionary finds them for a seventh of what the
router takes; `docs/adr/0012` has the figures. The same endpoints are routes as well,
so that the router answers for every other method.
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from agent_server.error_responses import error_response, log_error
from streaming.errors import AgentServerError


class HotPaths:
    """Pure ASGI middleware: answers POST to one of the `endpoints`, hands on everything else."""

    def __init__(self, app: ASGIApp, *, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand the request on."""
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            await endpoint(scope, receive, send)
        except AgentServerError as exc:
            # An endpoint raises before its first byte alone.
            log_error(exc)
            await error_response(exc, scope)(scope, receive, send)
