"""Which task queues there are: a workflow's `runner` is one."""

from datetime import timedelta

from temporalio.api.enums.v1 import TaskQueueType, WorkerStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workflow_backend.definition.lint import LOCAL_RUNNER
from workflow_backend.engines.temporal.options import OWN_RUNNERS, TemporalSettings

MOST_WORKERS = 1_000
_NOT_TOLD = frozenset(
    {
        RPCStatusCode.UNIMPLEMENTED,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.NOT_FOUND,
    }
)


class UnknownRunnerError(ValueError):
    """Nobody polls the task queue that a workflow names."""


class Runners:
    """The task queues of a namespace that make attempts."""

    def __init__(self, client: Client, settings: TemporalSettings, timeout: timedelta) -> None:
        self._client = client
        self._settings = settings
        self._timeout = timeout

    async def names(self, asked: str | None = None) -> tuple[str, ...]:
        """The own queue, the configured ones, and those that are polled.

        Clusters that do not list their workers are asked for `asked` alone.
        """
        names = [LOCAL_RUNNER, *self._settings.runners, *await self._polled()]
        if asked is not None and asked not in names and await self.is_polled(asked):
            names.append(asked)
        own = self._settings.task_queue
        return tuple(dict.fromkeys(name for name in names if name != own))

    async def require(self, runner: str) -> None:
        """Refuse a runner that nobody polls.

        Raises:
            UnknownRunnerError: The message lists those that there are.
        """
        own = {*OWN_RUNNERS, self._settings.task_queue, *self._settings.runners}
        if runner in own or await self.is_polled(runner):
            return
        there = ", ".join(await self.names())
        raise UnknownRunnerError(
            f"no worker polls the task queue {runner!r}, so nothing would run; runners: {there}."
            f" Start one with `agent-server worker --task-queue {runner}`"
        )

    async def is_polled(self, queue: str) -> bool:
        """Whether somebody takes attempts from the queue."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        service = self._client.workflow_service
        answer = await service.describe_task_queue(request, timeout=self._timeout)
        return bool(answer.pollers)

    async def _polled(self) -> list[str]:
        request = ListWorkersRequest(namespace=self._client.namespace, page_size=MOST_WORKERS)
        service = self._client.workflow_service
        try:
            answer = await service.list_workers(request, timeout=self._timeout)
        except RPCError as error:
            if error.status in _NOT_TOLD:
                return []
            raise
        return sorted(
            {
                worker.task_queue
                for worker in answer.workers
                if worker.status == WorkerStatus.WORKER_STATUS_RUNNING
            }
        )
