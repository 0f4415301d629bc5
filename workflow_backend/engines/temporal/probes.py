"""What the workflow of a concurrency group asks of the cluster."""

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.groups import Liveness
from workflow_backend.engines.temporal.link import Link


class Probe:
    """Whether runs are still there."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @activity.defn(name=wire.PROBE)
    async def probe(self, run_id: str) -> Liveness:
        """Whether the run goes on."""
        client = await self._link.client()
        handle = client.get_workflow_handle(run_id)
        try:
            description = await handle.describe(rpc_timeout=self._link.call_timeout)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return "unknown"
            raise
        return "open" if description.status is WorkflowExecutionStatus.RUNNING else "closed"
