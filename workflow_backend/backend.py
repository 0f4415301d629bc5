"""What the tools work with: the engine, and the facts of this machine that plans need."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.definition.lint import LOCAL_RUNNER
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.plan import Plan, plan
from workflow_backend.definition.policy import NO_POLICY, Policy
from workflow_backend.engines.base import Engine, EngineBusyError, EngineUnavailableError
from workflow_backend.engines.limits import HasLimits
from workflow_backend.engines.runners import DescribesRunners, KnowsRunners, RunnerDetail
from workflow_backend.hooks import Hooks
from workflow_backend.schedules.base import Schedules
from workflow_backend.secrets import Secrets
from workflow_backend.steps.server_link import NO_SERVER

# What stands for the isolation of steps that run on machines of somebody else.
REMOTE = "remote"


@dataclass(slots=True)
class Backend:
    """One engine and its surroundings. `is_closing` is set before calls are cut off at the end.

    `has_server` says whether there is a server for agent steps to ask.
    """

    engine: Engine
    isolation: str
    hooks: Hooks
    artefacts: ArtefactStore
    secrets: Secrets = field(default_factory=Secrets)
    policy: Policy = NO_POLICY
    step_path: str = ""
    http_allow: tuple[str, ...] = ()
    runners: tuple[str, ...] = (LOCAL_RUNNER,)
    has_server: bool = False
    schedules: Schedules | None = None
    is_closing: bool = False

    async def know_runner(self, name: str | None = None) -> None:
        """Ask the engine which runners there are, unless this one is known to be there."""
        if name in self.runners or not isinstance(self.engine, KnowsRunners):
            return
        with contextlib.suppress(EngineUnavailableError, EngineBusyError):
            self.runners = await self.engine.runners(name) or (LOCAL_RUNNER,)

    async def runner_details(self) -> Sequence[RunnerDetail]:
        """What the engine says of its runners, if it says more than their names."""
        if isinstance(self.engine, DescribesRunners):
            with contextlib.suppress(EngineUnavailableError):
                return await self.engine.runner_details()
        return ()

    def plan(self, workflow: Workflow, inputs: Mapping[str, object], owner: str) -> Plan:
        """What a run of the owner would do here."""
        planned = plan(
            workflow,
            inputs,
            runners=self.runners,
            secrets=self.secrets.rules(owner),
            isolation=self.isolation,
            policy=self.policy,
            owner=owner,
        )
        unasked = [] if self.has_server else list(_without_server(workflow))
        if isinstance(self.engine, HasLimits):
            unasked += self.engine.lacks(workflow)
        if not unasked:
            return planned
        blockers = [*planned.blockers, *unasked]
        return planned.model_copy(update={"blockers": blockers, "can_run": False})


def _without_server(workflow: Workflow) -> Iterator[str]:
    """Why the agent steps of the document cannot run."""
    for body in (workflow, *workflow.workflows.values()):
        for step in body.all_steps():
            if step.agent is not None:
                yield f"step `{step.name}`: {NO_SERVER}"
