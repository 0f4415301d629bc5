"""An answer on its way to the client, of which the end is kept before it goes out.

What this module promises: whoever has read the last frame of a response can continue it at once; an
answer that breaks off, or whose client has gone, is not kept.
"""

from collections.abc import Iterable
from dataclasses import replace

import orjson

from agent_server.stored_responses.frames import first_response, last_response
from agent_server.stored_responses.keeper import ResponseKeeper
from agent_server.stored_responses.port import OpenedResponse
from agent_server.stored_responses.record import StoredResponse
from streaming.errors import AgentServerError
from streaming.events import JsonObject


class RecordedAnswer:
    """Reads as the answer does; `draft` is what was known of the response before."""

    def __init__(
        self,
        answer: OpenedResponse,
        keeper: ResponseKeeper,
        draft: StoredResponse,
        *,
        is_stream: bool,
    ) -> None:
        self._answer = answer
        self._keeper = keeper
        self._draft = draft
        self._is_stream = is_stream
        self._is_kept = False

    @property
    def stored_by(self) -> str | None:
        """The provider that keeps the response."""
        return self._answer.stored_by

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Headers that tell who answered."""
        return self._answer.headers

    async def read(self) -> bytes:
        """The next frames, or the body; b"" at the end. Raises what the answer raises."""
        data = await self._answer.read()
        if data and not self._is_kept and (response := self._shown(data)) is not None:
            self._is_kept = True
            await self._keeper.keep(kept_record(self._draft, response, self._answer.stored_by))
        return data

    def fail(self, error: AgentServerError) -> bytes:
        """The last frames of a stream that fails."""
        return self._answer.fail(error)

    async def aclose(self) -> None:
        """End whatever gives the answer, at once."""
        await self._answer.aclose()

    def _shown(self, data: bytes) -> JsonObject | None:
        """The response, as soon as enough of it is known to be kept."""
        if not self._is_stream:
            response = orjson.loads(data)
            return response if isinstance(response, dict) else None
        # Where a provider keeps the response, the id is all that is needed, and is wanted early.
        return first_response(data) if self._answer.stored_by else last_response(data)


def kept_record(
    draft: StoredResponse, response: JsonObject, stored_by: str | None
) -> StoredResponse:
    """The record of a response that was answered: the whole, or who keeps it."""
    response_id, status = response.get("id"), response.get("status")
    named = replace(
        draft,
        response_id=response_id if isinstance(response_id, str) else draft.response_id,
        status=status if isinstance(status, str) else "completed",
    )
    if stored_by is not None:
        return replace(named, provider=stored_by, input=b"[]")
    return replace(named, response=orjson.dumps(response))
