"""Rooms: how many requests are inside at once, how much each may send, and how slowly.

Webhooks have one of their own. Their callers show no key, so that anybody who reaches the server
may fill it: what they hold there is nobody else's, and soon theirs no more.

What this module promises: a room never holds more requests than it has places; a body over the
limit is never read further than the limit; a place among the webhooks is lost when the body has not
come within `HOOK_SECONDS`.
"""

import asyncio

from starlette.types import Message, Receive
from typing_extensions import override

from agent_server.request_headers import RequestHeaders
from streaming.errors import (
    AgentServerError,
    OverloadedError,
    PayloadTooLargeError,
    RequestTimeoutError,
)

MAX_HOOKS = 32
MAX_HOOK_BYTES = 256 * 1024
HOOK_SECONDS = 10.0


class Room:
    """One room; a request is inside within `with`."""

    def __init__(self, places: int, max_body_bytes: int) -> None:
        self._places = places
        self._max_body_bytes = max_body_bytes
        self._inside = 0

    def __enter__(self) -> None:
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1

    def check_places(self) -> None:
        """Raise unless there is room for one more."""
        if self._inside >= self._places:
            raise self._full(self._places)

    def has_length(self, headers: RequestHeaders) -> bool:
        """Whether the body has a length, which is as allowed: HTTP ends it there."""
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return False
        if int(length) > self._max_body_bytes:
            raise self._too_large(self._max_body_bytes)
        return True

    def receiving(self, receive: Receive, *, has_length: bool) -> Receive:
        """What a request in this room is read by."""
        return receive if has_length else self._limited(receive)

    def _limited(self, receive: Receive) -> Receive:
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_body_bytes:
                    raise self._too_large(self._max_body_bytes)
            return message

        return limited

    def _full(self, places: int) -> AgentServerError:
        return OverloadedError(
            f"The server answers {places} requests already. Come again in a second, or raise "
            "AGENT_SERVER_MAX_CONCURRENT_REQUESTS.",
            retry_after_seconds=1,
        )

    def _too_large(self, limit: int) -> AgentServerError:
        return PayloadTooLargeError(
            f"The body is larger than {limit} bytes. Send less, or raise "
            "AGENT_SERVER_MAX_BODY_BYTES.",
            param="body",
        )


class HookRoom(Room):
    """The room of the webhooks."""

    def __init__(self) -> None:
        super().__init__(MAX_HOOKS, MAX_HOOK_BYTES)

    @override
    def receiving(self, receive: Receive, *, has_length: bool) -> Receive:
        """What a webhook is read by, which ends in time."""
        received = super().receiving(receive, has_length=has_length)
        deadline = asyncio.get_running_loop().time() + HOOK_SECONDS
        is_whole = False

        async def timed() -> Message:
            nonlocal is_whole
            if is_whole:
                # What comes after the body is that its client has gone.
                return await received()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await received()
            except TimeoutError as exc:
                raise RequestTimeoutError(
                    f"The body of a webhook has to come within {HOOK_SECONDS:g} seconds."
                ) from exc
            is_whole = not message.get("more_body", False)
            return message

        return timed

    @override
    def _full(self, places: int) -> AgentServerError:
        return OverloadedError(
            f"The server takes {places} webhooks already. Come again in a second.",
            retry_after_seconds=1,
        )

    @override
    def _too_large(self, limit: int) -> AgentServerError:
        return PayloadTooLargeError(
            f"The body of a webhook has {limit} bytes at most.", param="body"
        )
