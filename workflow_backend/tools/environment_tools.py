"""Tools that tell what there is to work with: runners, programs, names of secrets."""

import shutil
from collections.abc import Mapping

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from workflow_backend.backend import REMOTE, Backend
from workflow_backend.definition.lint import LOCAL_RUNNER
from workflow_backend.definition.model import ActionKind
from workflow_backend.definition.plain_text import plain_text
from workflow_backend.engines.runners import RunnerDetail
from workflow_backend.tools.calls import ToolContext, owner_of
from workflow_backend.tools.results import (
    Integration,
    IntegrationsResult,
    Runner,
    RunnersResult,
    SecretItem,
    SecretsResult,
    StepKind,
)

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

MAX_DESCRIPTION = 300

# Name of the program, what it is for, whether it is of use without a network.
PROGRAMS = (
    ("sh", "shell", False),
    ("bash", "shell", False),
    ("python3", "language", False),
    ("node", "language", False),
    ("go", "language", False),
    ("java", "language", False),
    ("make", "build", False),
    ("npm", "build", True),
    ("pip", "build", True),
    ("uv", "build", True),
    ("git", "version control", False),
    ("gh", "version control", True),
    ("docker", "containers", True),
    ("podman", "containers", True),
    ("kubectl", "kubernetes", True),
    ("helm", "kubernetes", True),
    ("terraform", "infrastructure", True),
    ("ansible", "infrastructure", True),
    ("aws", "cloud", True),
    ("gcloud", "cloud", True),
    ("az", "cloud", True),
    ("psql", "database", True),
    ("mysql", "database", True),
    ("sqlite3", "database", False),
    ("redis-cli", "database", True),
    ("curl", "network", True),
    ("ssh", "network", True),
    ("rsync", "files", False),
    ("tar", "files", False),
    ("jq", "data", False),
)
_KINDS = ["run", "python", "http"]
_WITHOUT_COMMANDS: Mapping[ActionKind, str] = {
    "approval": "A person decides.",
    "wait": "A time, a signal or a webhook.",
    "agent": "A task for a model, with tools of this server.",
    "workflow": "Another workflow of the same document.",
}


def register_environment_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""

    @server.tool(title="List runners", annotations=_READS)
    async def get_workflow_runners() -> RunnersResult:
        """List the places where workflows can run; `runner` of a workflow names one."""
        await backend.know_runner()
        details = {one.name: one for one in await backend.runner_details()}
        runners = [
            Runner(
                name=name,
                description=_description(name, details),
                available=name not in details or details[name].is_healthy is not False,
                engine=backend.engine.name,
                isolation=backend.isolation,
                step_kinds=_KINDS,
            )
            for name in backend.runners
        ]
        return RunnersResult(runners=runners, default=backend.runners[0])

    @server.tool(title="List programs", annotations=_READS)
    async def get_integrations() -> IntegrationsResult:
        """List which programs steps can call on this machine, and how each kind of step runs."""
        return IntegrationsResult(
            integrations=[_integration(*row, path=backend.step_path) for row in PROGRAMS],
            step_kinds=_step_kinds(backend),
        )

    @server.tool(title="List secrets", annotations=_READS)
    async def get_workflow_secrets(ctx: ToolContext) -> SecretsResult:
        """List the secrets that your steps may use, with the hosts they may go to; no values."""
        return SecretsResult(
            secrets=[
                SecretItem(name=name, hosts=list(rule.hosts))
                for name, rule in backend.secrets.rules(owner_of(ctx)).items()
            ],
            usage="Write `${{ secrets.NAME }}` in `env` of a step, or in `http` headers or body.",
        )


def _description(name: str, details: Mapping[str, RunnerDetail]) -> str:
    if name in details:
        return plain_text(details[name].description, MAX_DESCRIPTION) or "A runner."
    return "This machine." if name == LOCAL_RUNNER else "A task queue."


def _integration(name: str, kind: str, needs_network: bool, *, path: str) -> Integration:
    found = shutil.which(name, path=path)
    return Integration(
        name=name,
        kind=kind,
        available=found is not None,
        path=found,
        needs_network=needs_network,
    )


def _step_kinds(backend: Backend) -> list[StepKind]:
    if backend.isolation == REMOTE:
        network = "that of the runner"
    elif backend.isolation == "none":
        network = "allowed (there is no isolation)"
    else:
        network = "none, unless the step says `network: true`"
    hosts = "public addresses"
    if backend.http_allow:
        hosts += f" and {', '.join(backend.http_allow)}"
    return [
        StepKind(
            name="run", description="Shell script.", isolation=backend.isolation, network=network
        ),
        StepKind(
            name="python",
            description="Python script, standard library.",
            isolation=backend.isolation,
            network=network,
        ),
        StepKind(name="http", description="HTTP request.", isolation="in process", network=hosts),
        *(
            StepKind(name=name, description=text, isolation="in process", network="none")
            for name, text in _WITHOUT_COMMANDS.items()
            if name != "agent" or backend.has_server
        ),
    ]
