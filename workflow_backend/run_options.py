"""What a run of a workflow begins with besides its inputs."""

from collections.abc import Mapping
from dataclasses import replace

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import RunOptions
from workflow_backend.rendering import concurrency_group


def options_of(
    workflow: Workflow,
    inputs: Mapping[str, object],
    run_id: str,
    options: RunOptions | None = None,
) -> RunOptions:
    """The options with the group of `concurrency`, filled in.

    Raises:
        ExpressionError: The name of the group cannot be computed.
    """
    options = options or RunOptions()
    group = concurrency_group(workflow, inputs, run_id)
    if group is None or workflow.concurrency is None:
        return options
    return replace(options, group=group, group_policy=workflow.concurrency.policy)
