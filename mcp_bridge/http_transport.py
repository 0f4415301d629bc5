"""The streamable HTTP transport for servers by URL: the SDK's, with bounds of ours.

What this module promises: no body and no event is larger than a line may be, nothing is taken
compressed (a small body could grow without bound), every phase of a request has a timeout, and the
goodbye at the end cannot hang. Redirects are followed within the URL's origin alone.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from typing_extensions import override

from mcp_bridge.server_spec import ServerSpec

_CONNECT_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 2.0
# Calls have timeouts of their own, and passing this one ends the whole session: it is there for
# the answers that a server of the handshake era owes to cancelled calls and may never give.
_SILENCE_SECONDS: Final = 3600.0


@asynccontextmanager
async def http_transport(spec: ServerSpec, url: str) -> AsyncIterator[TransportStreams]:
    """Enters as the pair of streams of a server by URL."""

    async def bound_goodbye(request: httpx2.Request) -> None:
        if request.method == "DELETE":
            phases = ("connect", "read", "write", "pool")
            request.extensions["timeout"] = dict.fromkeys(phases, _GOODBYE_SECONDS)

    async def cap_body(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("a compressed body was not asked for")
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _CappedBody(response.stream, spec.max_line_bytes)

    client = httpx2.AsyncClient(
        headers={**spec.headers, "accept-encoding": "identity"},
        timeout=httpx2.Timeout(
            _CONNECT_SECONDS, read=max(_SILENCE_SECONDS, 2 * spec.call_timeout_seconds)
        ),
        event_hooks={"request": [bound_goodbye], "response": [cap_body]},
    )
    async with (
        client,
        streamable_http_client(
            url, http_client=client, max_sse_event_size=spec.max_line_bytes
        ) as streams,
    ):
        yield streams


class _CappedBody(httpx2.AsyncByteStream):
    def __init__(self, body: object, max_bytes: int) -> None:
        assert isinstance(body, httpx2.AsyncByteStream)  # noqa: S101 - narrows the client's type
        self._body = body
        self._max_bytes = max_bytes

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._body:
            received += len(chunk)
            if received > self._max_bytes:
                # Of this class, for the SDK then fails the one call and not the whole session.
                raise httpx2.StreamError("the body is too large")
            yield chunk

    @override
    async def aclose(self) -> None:
        await self._body.aclose()
