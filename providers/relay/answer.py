"""An upstream's answer on its way to the client, as the upstream sent it.

What this module promises: an answer is handed out only after it has proved itself; what goes out
are whole frames; a stream that is cut or breaks raises, and never looks like a quiet end; closing
the answer ends the upstream's request at once.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from providers.answer_events import first_bytes
from providers.relay.frames import FrameScanner
from providers.relay.json_answer import JsonAnswer
from providers.upstream import UpstreamAnswer
from streaming.errors import AgentServerError, UpstreamProtocolError
from streaming.events import FinishReason, Usage
from streaming.sse import MAX_EVENT_BYTES

JSON_CONTENT_TYPE = "application/json"
SSE_CONTENT_TYPE = "text/event-stream; charset=utf-8"


class RelayedAnswer:
    """Read it to its end, or close it; it is an asynchronous context manager that closes it."""

    __slots__ = ("_ready", "_told", "_upstream")

    def __init__(
        self, upstream: UpstreamAnswer, told: "FrameScanner | JsonAnswer", ready: bytes
    ) -> None:
        self._upstream = upstream
        self._told = told
        self._ready = ready

    @property
    def request_id(self) -> str | None:
        """The upstream's own id of the request."""
        return self._upstream.request_id

    @property
    def is_stream(self) -> bool:
        """Whether frames come, or one JSON body."""
        return isinstance(self._told, FrameScanner)

    @property
    def content_type(self) -> str:
        """The content type of what goes out."""
        return SSE_CONTENT_TYPE if self.is_stream else JSON_CONTENT_TYPE

    @property
    def is_over(self) -> bool:
        """Whether nothing follows what was read last."""
        told = self._told
        return not self._ready and (
            isinstance(told, JsonAnswer) or (told.is_ended and told.failure is None)
        )

    @property
    def usage(self) -> Usage | None:
        """What the answer used, in OpenAI's sense; None until it is known, at the end at last."""
        return self._told.usage

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; None until then, and where it failed or goes on elsewhere."""
        return self._told.finish_reason

    @property
    def response_id(self) -> str | None:
        """The upstream's id of the answer."""
        return self._told.response_id

    @property
    def model(self) -> str | None:
        """The model that answered, by the upstream's name."""
        return self._told.model

    @property
    def reported_error(self) -> AgentServerError | None:
        """An error that the client reads in what went out, such as a `response.failed`."""
        return self._told.reported_error

    async def read(self) -> bytes:
        """The next whole frames, or the whole JSON body; b"" at the end.

        Raises:
            UpstreamError: the stream broke; what was read before is good.
            CallerError: the upstream broke it off and blames the request.
        """
        if ready := self._ready:
            self._ready = b""
            if self.is_over:
                self._upstream.leave()
            return ready
        scanner = self._told
        if isinstance(scanner, JsonAnswer):
            return b""
        while scanner.failure is None and not scanner.is_ended:
            data = await self._upstream.read()
            if out := scanner.feed(data) if data else scanner.end():
                if self.is_over:
                    self._upstream.leave()
                return out
        if scanner.failure is not None:
            self._upstream.close()
            self._upstream.conceal(scanner.failure)
            raise scanner.failure
        self._upstream.leave()
        return b""

    async def aclose(self) -> None:
        """End the upstream's request now; does nothing to an answer that was read to its end."""
        self._upstream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._upstream.close()


async def proved_answer(
    upstream: UpstreamAnswer,
    provider: str,
    scanner: FrameScanner | None,
    read_json: Callable[[bytes], JsonAnswer],
    *,
    takes_either: bool = False,
) -> RelayedAnswer:
    """The answer, once it has proved itself; without a `scanner` it has to be JSON.

    With one it has to be a stream, unless it `takes_either`. Closes the upstream's answer where it
    raises.

    Raises:
        UpstreamError: the answer is of another kind, malformed, cut, or tells of a failure.
        CallerError: the answer tells of a failure that blames the request.
    """
    try:
        head = await first_bytes(upstream)
        if head.startswith(b"{"):
            told = read_json(head if upstream.is_over else head + await upstream.body())
            if scanner is None or takes_either:
                return RelayedAnswer(upstream, told, told.body)
        elif scanner is not None and head and not head.startswith(b"<"):
            return RelayedAnswer(upstream, scanner, await _proof(upstream, scanner, head))
    except BaseException as exc:
        upstream.close()
        upstream.conceal(exc)
        raise
    upstream.close()
    kind = upstream.media_type or "no content type"
    wanted = "JSON" if scanner is None else "a stream of events"
    raise UpstreamProtocolError(
        f"{provider} answered something that is not {wanted} ({kind}); check its base URL",
        provider=provider,
        status=upstream.status,
    )


async def _proof(upstream: UpstreamAnswer, scanner: FrameScanner, head: bytes) -> bytes:
    """The frames up to the one that holds the first content."""
    held: list[bytes] = []
    held_bytes = 0
    data = head
    while data:
        out = scanner.feed(data)
        if scanner.failure is not None:
            raise scanner.failure
        held.append(out)
        held_bytes += len(out)
        if scanner.has_content:
            break
        if held_bytes > MAX_EVENT_BYTES:
            raise UpstreamProtocolError("An upstream sent frames without any content for too long.")
        data = await upstream.read()
    else:
        held.append(scanner.end())
    return b"".join(held)
