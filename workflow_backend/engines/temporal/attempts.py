"""The activities of a worker: one attempt at a step each.

Guarantees: while an attempt runs, its worker tells the cluster so; an attempt whose run was
cancelled has ended its processes before it answers; what a worker that ends gives up is never
recorded as the attempt's result, so that another worker makes it again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from typing_extensions import override

from workflow_backend.engines.base import AttemptResult, AttemptWatch, Executor
from workflow_backend.engines.temporal import wire
from workflow_backend.retries import will_retry

BEAT_SECONDS = 0.5
# At least so many beats within the time after which a worker counts as lost.
BEATS_IN_TIMEOUT = 6

_logger = logging.getLogger(__name__)


class Attempts:
    """The attempts that this machine makes, by its executor; `visit` is told of each one's run."""

    def __init__(self, executor: Executor, visit: Callable[[str], None]) -> None:
        self._executor = executor
        self._visit = visit

    @property
    def activities(self) -> list[Callable[..., Any]]:
        """What a worker registers."""
        return [self.attempt, self.hidden_attempt]

    @activity.defn(name=wire.ATTEMPT)
    async def attempt(self, document: wire.Json) -> wire.Json:
        """An attempt that the run's events tell of."""
        return await self._make(document)

    @activity.defn(name=wire.HIDDEN_ATTEMPT)
    async def hidden_attempt(self, document: wire.Json) -> wire.Json:
        """An attempt that they do not tell of, such as a notification."""
        return await self._make(document)

    async def _make(self, document: wire.Json) -> wire.Json:
        spec = wire.spec_from_json(document)
        await asyncio.to_thread(self._visit, spec.run_id)
        running = asyncio.create_task(self._executor.run_attempt(spec, _Silent()))
        is_given_up = False
        try:
            await _beat_until(running)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            is_given_up = details is None or not details.cancel_requested
            await _end(running)
        result = _result_of(running)
        if is_given_up and result.status == "cancelled":
            raise ApplicationError(
                "the worker ended",
                type=wire.WORKER_STOPPED,
                category=ApplicationErrorCategory.BENIGN,
            )
        return wire.result_to_json(replace(result, will_retry=will_retry(spec, result)))


async def _beat_until(running: "asyncio.Task[AttemptResult]") -> None:
    timeout = activity.info().heartbeat_timeout
    most = timeout.total_seconds() / BEATS_IN_TIMEOUT if timeout else BEAT_SECONDS
    while not running.done():
        activity.heartbeat()
        await asyncio.wait([running], timeout=min(BEAT_SECONDS, most))


async def _end(running: "asyncio.Task[AttemptResult]") -> None:
    """Cancel the attempt and wait for its end, however often we are cancelled ourselves."""
    running.cancel()
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            continue


def _result_of(running: "asyncio.Task[AttemptResult]") -> AttemptResult:
    try:
        return running.result()
    except asyncio.CancelledError:
        return wire.cancelled_result("")
    except Exception as error:
        _logger.exception("an attempt failed inside the worker")
        return wire.failed_result(f"the worker failed: {type(error).__name__}; see its log")


class _Silent(AttemptWatch):
    """Temporal carries no output while it is written; the worker's reaper watches processes."""

    @override
    async def output(self, text: str) -> None:
        return

    @override
    def process_started(self, pgid: int, birth: str | None, mark: str) -> None:
        return
