"""The Responses door behind its routes: a request becomes an answer, a record, or a run."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from agent_server.access import Caller
from agent_server.requests.model_name import model_name
from agent_server.stored_responses.background import BackgroundResponses
from agent_server.stored_responses.keeper import ResponseKeeper
from agent_server.stored_responses.port import OpenedResponse, ResponseCall, ResponseModels
from agent_server.stored_responses.record import StoredResponse
from agent_server.stored_responses.recorded import RecordedAnswer
from streaming.encoder import StreamHead
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

# What a response is called whose request names no model.
DEFAULT_MODEL: Final = "kubiya-workflow-agent"
# Codex lists these tools by itself, and works without them.
_CODEX_TOOLS: Final = frozenset(
    {"image_generation", "tool_search", "web_search", "web_search_preview"}
)
_LOST: Final = "The server that made this response has gone before it was complete."


@dataclass(frozen=True, slots=True)
class Responses:
    """All that the routes of responses need; made once for a server."""

    models: ResponseModels
    keeper: ResponseKeeper
    background: BackgroundResponses

    async def prepare(
        self,
        caller: Caller,
        body: JsonObject,
        headers: Mapping[str, str],
        *,
        progress_text: bool | None = None,
        forwarded: Mapping[str, str] | None = None,
    ) -> ResponseCall:
        """The call that a request makes, with the conversation that it continues.

        The names of `headers` are in lower case.

        Raises:
            InvalidRequestError: the model's name or a switch is wrong, or the conversation is
                unknown.
        """
        continued = await self.keeper.continued(caller.owner, body)
        # Where none is named, the conversation goes on with the model that it was with.
        model = model_name(continued.body) or continued.model
        is_background = _switch(body, "background", default=False)
        return ResponseCall(
            caller=caller,
            head=StreamHead(
                response_id=f"resp_{uuid.uuid4().hex}",
                model=model or DEFAULT_MODEL,
                created=int(time.time()),
                progress_text=progress_text,
            ),
            body=continued.body,
            model=model,
            # What runs in the background is always read as a stream, so that it can be followed.
            stream=_switch(body, "stream", default=False) or is_background,
            history=continued.history,
            provider=continued.provider,
            is_background=is_background,
            droppable_tools=_CODEX_TOOLS if _is_codex(headers) else frozenset(),
            forwarded=forwarded or {},
        )

    def runs_here(self, call: ResponseCall) -> bool:
        """Whether a response in the background is this server's own to run."""
        return call.is_background and self.models.kept_by(call) is None

    async def start(self, call: ResponseCall) -> JsonObject:
        """Begin a response in the background; gives it as it is now."""
        return await self.background.start(call, self._draft(call))

    async def open(self, call: ResponseCall) -> OpenedResponse:
        """The answer to a call; it is kept by its end, unless the client does not want that."""
        if call.is_background:
            # The provider's own background: its stream is what the client asked for, or nothing.
            call.stream = call.body.get("stream") is True
        is_kept = _switch(call.body, "store", default=True)
        draft = self._draft(call) if is_kept else None
        answer = await self.models.open(call)
        if draft is None:
            return answer
        return RecordedAnswer(answer, self.keeper, draft, is_stream=call.stream)

    async def shown(self, record: StoredResponse) -> JsonObject:
        """A response that we keep, as it is now."""
        running = self.background.shown(record.owner, record.response_id)
        if running is not None:
            return running
        if not self.background.stalled(record):
            return record.object()
        error: JsonObject = {"code": "server_error", "message": _LOST}
        lost: JsonObject = {**record.object(), "status": "failed", "error": error}
        await self.keeper.keep(replace(record, status="failed", response=orjson.dumps(lost)))
        return lost

    async def cancel(self, record: StoredResponse) -> JsonObject:
        """Cancel a response that we run; one that has ended stays as it is.

        Raises:
            InvalidRequestError: it was not made in the background.
        """
        if not record.is_background:
            raise InvalidRequestError(
                "Cannot cancel a synchronous response: only those made with `background: true` "
                "can be cancelled.",
                param="response_id",
            )
        if not record.is_final:
            record = await self.background.cancel(record)
        return record.object()

    async def forget(self, record: StoredResponse) -> None:
        """Delete a response that we keep; one that runs is cancelled first."""
        if record.is_background and not record.is_final:
            await self.background.cancel(record)
        await self.keeper.forget(record.owner, record.response_id)

    async def aclose(self) -> None:
        """End what runs, and write what is still to be kept."""
        await self.background.aclose()
        await self.keeper.aclose()

    def _draft(self, call: ResponseCall) -> StoredResponse:
        return self.keeper.draft(
            call.caller.owner,
            call.head.response_id,
            call.body,
            model=call.head.model,
            is_background=call.is_background,
        )


def _switch(body: JsonObject, name: str, *, default: bool) -> bool:
    value: JsonValue = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequestError(f"`{name}` must be true or false.", param=name)
    return value


def _is_codex(headers: Mapping[str, str]) -> bool:
    names = (headers.get("originator", ""), headers.get("user-agent", ""))
    return any(name.lower().startswith("codex") for name in names)
