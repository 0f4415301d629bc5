"""Responses that are made without a client that waits for them.

What this module promises: a response that was begun ends, within `max_seconds`, and its end is kept
before any reader sees it; at most `max_running` run at once, `max_running_per_owner` of one owner;
`aclose` ends all of them, and tells so in what is kept.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import orjson

from agent_server.error_responses import INTERNAL_ERROR, log_error
from agent_server.frame_log import FrameLog, frames_of
from agent_server.log_config import get_logger
from agent_server.stored_responses.frames import first_response, last_response
from agent_server.stored_responses.keeper import ResponseKeeper
from agent_server.stored_responses.port import OpenedResponse, ResponseCall, ResponseModels
from agent_server.stored_responses.record import StoredResponse
from agent_server.stored_responses.recorded import kept_record
from streaming.errors import (
    AgentLimitError,
    AgentServerError,
    InvalidRequestError,
    OverloadedError,
    RateLimitError,
)
from streaming.events import JsonObject
from streaming.responses_objects import CANCELLED_CODE, response_object
from streaming.responses_sse import ResponsesEncoder

MAX_RUNNING: Final = 64
MAX_RUNNING_PER_OWNER: Final = 16
MAX_SECONDS: Final = 3600.0
# How often a server looks whether another one was told to cancel, or has finished.
POLL_SECONDS: Final = 1.0
# How much longer than `max_seconds` a response may seem to run before its server counts as gone.
GRACE_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0

log = get_logger()


@dataclass(slots=True)
class _Run:
    call: ResponseCall
    draft: StoredResponse
    log: FrameLog
    response: JsonObject
    task: "asyncio.Task[None] | None" = None
    answer: OpenedResponse | None = None
    end_error: AgentServerError | None = None
    is_ending: bool = False


class BackgroundResponses:
    """The responses that run on this server."""

    def __init__(
        self,
        models: ResponseModels,
        keeper: ResponseKeeper,
        *,
        max_running: int = MAX_RUNNING,
        max_running_per_owner: int = MAX_RUNNING_PER_OWNER,
        max_seconds: float = MAX_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._models = models
        self._keeper = keeper
        self._max_running = max_running
        self._max_running_per_owner = max_running_per_owner
        self._max_seconds = max_seconds
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._runs: dict[tuple[str, str], _Run] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, call: ResponseCall, draft: StoredResponse) -> JsonObject:
        """Begin a response, which then goes on by itself; gives it as it is now, queued.

        Raises:
            RateLimitError: the owner runs as many as one owner may.
            OverloadedError: the server runs as many as it can.
            InvalidRequestError: a field of the request is missing or wrong.
        """
        self._check_room(draft.owner)
        fields = call.request.options.settings
        response = response_object(call.head, fields, "in_progress", [])
        run = _Run(call, replace(draft, response=orjson.dumps(response)), FrameLog(), response)
        key = (draft.owner, draft.response_id)
        # The place is taken before anything is waited for.
        self._runs[key] = run
        try:
            await self._keeper.keep(run.draft)
        except BaseException:
            del self._runs[key]
            raise
        run.task = asyncio.create_task(self._run(run))
        run.task.add_done_callback(lambda _: self._runs.pop(key, None))
        # A task that is cancelled before its first step would never tell its end.
        await asyncio.sleep(0)
        self._watch()
        return {**response, "status": "queued"}

    def shown(self, owner: str, response_id: str) -> JsonObject | None:
        """A response that runs here, as far as it has come."""
        run = self._runs.get((owner, response_id))
        return None if run is None else run.response

    def stalled(self, record: StoredResponse) -> bool:
        """Whether the server that made a response must have gone, because it had to be done."""
        if record.is_final or (record.owner, record.response_id) in self._runs:
            return False
        return self._clock() > record.created_at + self._max_seconds + GRACE_SECONDS

    async def cancel(self, record: StoredResponse) -> StoredResponse:
        """Cancel a response that has not ended, here or on another server."""
        run = self._runs.get((record.owner, record.response_id))
        if run is not None:
            await self._end(run, _cancelled(), is_cancel=True)
            return await self._keeper.require(record.owner, record.response_id)
        cancelled = {**record.object(), "status": "cancelled"}
        record = replace(record, status="cancelled", response=orjson.dumps(cancelled))
        await self._keeper.keep(record)
        return record

    async def read_after(
        self, owner: str, response_id: str, number: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the frames after the one of this number, of a response that runs or has ended.

        Raises:
            InvalidRequestError: its frames are not kept.
        """
        run = self._runs.get((owner, response_id))
        if run is not None:
            async with aclosing(run.log.read_after(number)) as frames:
                async for data in frames:
                    yield data
            return
        record = await self._keeper.require(owner, response_id)
        while not record.is_final and not self.stalled(record):
            # It runs on another server, whose frames come to the store with the last of them.
            await asyncio.sleep(self._poll_seconds)
            record = await self._keeper.require(owner, response_id)
        if record.events is None:
            raise no_events()
        if rest := frames_of(record.events)[number + 1 :]:
            yield b"".join(rest)

    async def aclose(self) -> None:
        """End all responses that run here."""
        if self._watcher is not None:
            self._watcher.cancel()
        stopped = AgentServerError("The server was stopped before the response was complete.")
        await asyncio.gather(*(self._end(run, stopped) for run in list(self._runs.values())))

    def _check_room(self, owner: str) -> None:
        if sum(run_owner == owner for run_owner, _ in self._runs) >= self._max_running_per_owner:
            raise RateLimitError(
                f"You run {self._max_running_per_owner} responses in the background already. "
                "Wait for one, or cancel it.",
                retry_after_seconds=10,
            )
        if len(self._runs) >= self._max_running:
            raise OverloadedError(
                f"The server runs {self._max_running} responses in the background already. Try "
                "again later, or without `background`.",
                retry_after_seconds=10,
            )

    async def _run(self, run: _Run) -> None:
        try:
            last = await self._last_frames(run)
        except asyncio.CancelledError:
            if run.end_error is None:
                raise
            last = self._failure(run, run.end_error)
        except AgentServerError as exc:
            log_error(exc)
            last = self._failure(run, exc)
        except Exception as exc:
            log.exception("Background response failed", error_type=type(exc).__name__)
            last = self._failure(run, AgentServerError(INTERNAL_ERROR, code="internal_error"))
        run.is_ending = True
        await self._finish(run, last)

    async def _last_frames(self, run: _Run) -> bytes:
        """Show all frames but the last, which are given back; raises what the answer raises."""
        try:
            async with asyncio.timeout(self._max_seconds):
                return await self._read_answer(run)
        except TimeoutError as exc:
            raise AgentLimitError(
                f"The response took longer than {self._max_seconds:g} seconds, which is all that "
                "one in the background may take."
            ) from exc

    async def _read_answer(self, run: _Run) -> bytes:
        run.answer = answer = await self._models.open(run.call)
        try:
            while data := await answer.read():
                if last_response(data) is not None:
                    # From here on nothing can end the run but its own end.
                    run.is_ending = True
                    return data
                if response := first_response(data):
                    run.response = response
                run.log.append(data)
        finally:
            await answer.aclose()
        raise AgentServerError("The response ended without its last event.")

    def _failure(self, run: _Run, error: AgentServerError) -> bytes:
        """The last frames of a response that fails, its first ones too if it has none."""
        if run.answer is not None:
            return run.answer.fail(error)
        encoder = ResponsesEncoder(run.call.head, run.call.request.options.settings)
        return encoder.open() + encoder.fail(error)

    async def _finish(self, run: _Run, data: bytes) -> None:
        """Keep the response, then show its last frames."""
        response = last_response(data) or {**run.response, "status": "failed"}
        events = run.log.whole() + b"".join(frames_of(data))
        await self._keeper.keep(replace(kept_record(run.draft, response, None), events=events))
        run.response = response
        run.log.end(data)

    async def _end(self, run: _Run, error: AgentServerError, *, is_cancel: bool = False) -> None:
        """End a run with an error, and wait until that is kept."""
        if run.task is None:
            return
        if not run.is_ending:
            run.end_error = error
            run.call.is_cancelled = is_cancel
            run.task.cancel()
        await asyncio.wait([run.task], timeout=END_SECONDS)

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._look_for_cancels())

    async def _look_for_cancels(self) -> None:
        """End what another server was asked to cancel, for as long as anything runs here."""
        while self._runs:
            await asyncio.sleep(self._poll_seconds)
            statuses = await self._keeper.statuses(list(self._runs))
            for run in list(self._runs.values()):
                if statuses.get(run.draft.response_id) == "cancelled":
                    await self._end(run, _cancelled(), is_cancel=True)


def no_events() -> InvalidRequestError:
    """The error for a stream that cannot be read again."""
    return InvalidRequestError(
        "The events of this response are not kept: only those of a response made with "
        "`background: true` are. GET it without `stream`.",
        code="events_not_kept",
        param="stream",
    )


def _cancelled() -> AgentServerError:
    return AgentServerError("The response was cancelled.", code=CANCELLED_CODE)
