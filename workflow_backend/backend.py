"""What the tools work with: the engine, and the facts of this machine that plans need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow_backend.definition.lint import LOCAL_RUNNER
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.plan import Plan, plan
from workflow_backend.engines.base import Engine
from workflow_backend.hooks import Hooks
from workflow_backend.secrets import Secrets


@dataclass(slots=True)
class Backend:
    """One engine and its surroundings. `is_closing` is set before calls are cut off at the end."""

    engine: Engine
    isolation: str
    hooks: Hooks
    secrets: Secrets = field(default_factory=Secrets)
    step_path: str = ""
    http_allow: tuple[str, ...] = ()
    runners: tuple[str, ...] = (LOCAL_RUNNER,)
    is_closing: bool = False

    def plan(self, workflow: Workflow, inputs: Mapping[str, object], owner: str) -> Plan:
        """What a run of the owner would do here."""
        return plan(
            workflow,
            inputs,
            runners=self.runners,
            secrets=self.secrets.rules(owner),
            isolation=self.isolation,
        )
