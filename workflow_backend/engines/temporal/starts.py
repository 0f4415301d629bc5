"""Begins runs: each id once, each in its group's order."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import RunConflictError, RunNotFoundError, RunOptions
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.feed import RunFeed
from workflow_backend.engines.temporal.groups import group_id
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.options import TemporalSettings
from workflow_backend.engines.temporal.runners import Runners
from workflow_backend.engines.temporal.search_attributes import attributes_of
from workflow_backend.interpreter import INTERPRETER_VERSION
from workflow_backend.step_state import states_to_json
from workflow_backend.steps.run_folder import run_folder


class Starts:
    """What begins runs on one task queue."""

    def __init__(self, link: Link, settings: TemporalSettings, feed: RunFeed) -> None:
        self._link = link
        self._settings = settings
        self._feed = feed

    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
        told: str | None = None,
    ) -> bool:
        """Whether the run is new; False for one that was begun like this before.

        `told` is the workflow that the run tells of its end.

        Raises:
            RunConflictError: The id is taken by another owner's run or another definition, or the
                group is busy and the run would not wait.
            UnknownRunnerError: Nobody makes the attempts of this runner.
            ValueError: The run id cannot be the name of a folder, or the inputs are no JSON.
        """
        arguments = replace(self._arguments(run_id, workflow, inputs, owner, options), told=told)
        client = await self._link.client()
        runners = Runners(client, self._settings, self._link.call_timeout)
        await self._link.call(runners.require(workflow.runner))
        if options.group is not None:
            if await self._exists(arguments):
                return False
            arguments = await self._join(client, arguments, options)
        try:
            await self._link.call(self._begin(client, arguments, workflow.name))
        except WorkflowAlreadyStartedError:
            if await self._exists(arguments):
                return False
            raise _taken(run_id) from None
        return True

    def _arguments(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> wire.RunArguments:
        run_folder(self._settings.data_dir, run_id)
        try:
            plain = orjson.loads(orjson.dumps(dict(inputs)))
        except orjson.JSONEncodeError as error:
            raise ValueError(f"the inputs cannot be written as JSON: {error}") from error
        definition, sha256 = wire.workflow_to_json(workflow)
        return wire.RunArguments(
            run_id=run_id,
            owner=owner,
            workflow=definition,
            sha256=sha256,
            inputs=plain,
            interpreter=INTERPRETER_VERSION,
            heartbeat_timeout_seconds=self._settings.heartbeat_timeout_seconds,
            depth=options.depth,
            trace=dict(options.trace),
            kept=states_to_json(options.kept),
            rerun_of=options.rerun_of,
            scheduled_by=options.scheduled_by,
        )

    async def _begin(self, client: Client, arguments: wire.RunArguments, name: str) -> None:
        status = "running" if arguments.is_admitted else "queued"
        about = {
            "sha256": arguments.sha256,
            "rerun_of": arguments.rerun_of,
            "scheduled_by": arguments.scheduled_by,
            "depth": arguments.depth,
        }
        await client.start_workflow(
            wire.RUN,
            arguments.to_json(),
            id=arguments.run_id,
            task_queue=self._settings.task_queue,
            task_timeout=timedelta(seconds=self._settings.task_timeout_seconds),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            memo={wire.ABOUT: about},
            search_attributes=attributes_of(arguments.owner, name, status, None),
            rpc_timeout=self._link.call_timeout,
        )

    async def _exists(self, arguments: wire.RunArguments) -> bool:
        """Whether this run was begun before.

        Raises:
            RunConflictError: Its id is taken.
        """
        try:
            found = await self._feed.arguments(arguments.run_id, arguments.owner)
        except RunNotFoundError:
            return False
        if found.sha256 != arguments.sha256 or found.parent_run_id is not None:
            raise _taken(arguments.run_id)
        return True

    async def _join(
        self, client: Client, arguments: wire.RunArguments, options: RunOptions
    ) -> wire.RunArguments:
        """The arguments of the run once it stands in its group's line.

        Raises:
            RunConflictError: Another one is under way, and this one would not wait.
        """
        group = str(options.group)
        workflow_id = group_id(arguments.owner, group)
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            wire.GROUP,
            {"name": group},
            id=workflow_id,
            task_queue=self._settings.task_queue,
            task_timeout=timedelta(seconds=self._settings.task_timeout_seconds),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        answer = await self._link.call(
            client.execute_update_with_start_workflow(
                wire.JOIN,
                args=[arguments.run_id, options.group_policy],
                start_workflow_operation=start,
                rpc_timeout=self._link.call_timeout,
            )
        )
        if answer == "refused":
            raise RunConflictError(
                f"another run of the group `{group}` is under way, and its policy is `refuse`;"
                " wait for its end"
            )
        fields = {**arguments.to_json(), "group": workflow_id, "is_admitted": answer == "admitted"}
        return wire.RunArguments.from_json(fields)


def _taken(run_id: str) -> RunConflictError:
    return RunConflictError(
        f"the run id {run_id!r} is taken by another run; choose another, or leave it out"
    )
