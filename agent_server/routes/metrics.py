"""`GET /metrics`: the numbers of this server, for Prometheus."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from agent_server.access import Caller
from agent_server.metrics import CONTENT_TYPE, Metrics
from agent_server.services import caller_of
from streaming.errors import PermissionDeniedError


async def metrics(request: Request) -> Response:
    """Everything in the text format, for a key of the scope `admin`; on loopback without keys."""
    _check(caller_of(request))
    gathered: Metrics = request.app.state.services.metrics
    # A thread writes the text, so that streams do not wait for it.
    text = await asyncio.to_thread(gathered.render)
    return Response(text, media_type=CONTENT_TYPE)


def _check(caller: Caller) -> None:
    caller.require("admin")
    # Without keys everyone has every scope; those from elsewhere have a refusal as well.
    if caller.refusal is not None and "run" in caller.scopes:
        raise PermissionDeniedError(
            "The metrics are for callers that this server knows: no API key is configured, and "
            "the request is not local. Set AGENT_SERVER_API_KEYS, and ask with a key of the scope "
            "'admin'.",
            param="scopes",
        )
