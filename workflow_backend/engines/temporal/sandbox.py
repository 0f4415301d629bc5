"""The sandbox of workflow code, and the orderly end of what is in it.

Guarantee: after `evict_all` no workflow of this worker is left to the garbage collector, which
would close its coroutines on whatever thread it runs on, in the middle of another workflow. The SDK
evicts workflows itself while a worker runs, but leaves those that are cached when it ends.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

from temporalio.bridge.proto.workflow_activation import (
    RemoveFromCache,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import Info
from typing_extensions import override

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sandbox(SandboxedWorkflowRunner):
    """The SDK's sandbox, which knows what is in it."""

    cached: "dict[str, _Tracked]" = field(default_factory=dict)

    @override
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Tracked(super().create_instance(det), self.cached)

    def evict_all(self) -> None:
        """Take every workflow apart; for a thread on which none runs, once the worker has ended."""
        for run_id, instance in list(self.cached.items()):
            job = WorkflowActivationJob(remove_from_cache=RemoveFromCache(message="worker ended"))
            try:
                instance.activate(WorkflowActivation(run_id=run_id, jobs=[job]))
            except Exception:
                _logger.exception("the workflow execution %s cannot be taken apart", run_id)


class _Tracked(WorkflowInstance):
    """An instance, noted from its first activation until it is evicted."""

    def __init__(self, instance: WorkflowInstance, cached: "dict[str, _Tracked]") -> None:
        self._instance = instance
        self._cached = cached

    @override
    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        self._cached[act.run_id] = self
        completion = self._instance.activate(act)
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            self._cached.pop(act.run_id, None)
        return completion

    @override
    def get_serialization_context(self, command_info: Any) -> SerializationContext | None:
        return self._instance.get_serialization_context(command_info)

    @override
    def get_external_store_context(self, command_info: Any) -> Any:
        return self._instance.get_external_store_context(command_info)

    @override
    def get_info(self) -> Info:
        return self._instance.get_info()

    @override
    def get_thread_id(self) -> int | None:
        return self._instance.get_thread_id()
