"""What a run would do, told before it runs: order, commands, hosts, secrets, risks, blockers."""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from workflow_backend.definition.expressions import (
    OPEN,
    ExpressionError,
    expressions_in,
    references,
    render,
    secret_name,
)
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.lint import LOCAL_RUNNER, lint
from workflow_backend.definition.mermaid import to_mermaid
from workflow_backend.definition.model import ActionKind, Step, Workflow
from workflow_backend.definition.places import places_of
from workflow_backend.definition.plain_text import plain_text
from workflow_backend.definition.problems import listed
from workflow_backend.definition.secret_rules import NO_LIMITS, SecretRule
from workflow_backend.definition.values import resolve_inputs

MAX_COMMAND_CHARACTERS = 4_096

_URL = re.compile(r"\bhttps?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])")
_RISKS = tuple(
    (re.compile(pattern, re.IGNORECASE), note)
    for pattern, note in (
        (r"\brm\s+(-\w+\s+)*-\w*[rf]", "deletes files without asking"),
        (r"\bfind\b.{0,300}\s-delete\b", "deletes files without asking"),
        (
            r"\b(mkfs\w*|wipefs|fdisk|parted)\b|\bdd\b.{0,300}\bof=",
            "writes to a disk or device directly",
        ),
        (r"\b(sudo|su|doas)\b", "asks for the rights of another user"),
        (r"\b(curl|wget)\b[^\n|]{0,300}\|\s*(sudo\s+)?(ba|z)?sh\b", "runs what it downloads"),
        (r"\bchmod\b.{0,300}\b[0-7]?777\b|\bchown\s+-R\b", "changes the rights of files widely"),
        (r"\b(shutdown|reboot|poweroff|halt)\b", "stops the machine"),
        (r"\b(kill|pkill|killall)\b", "ends processes"),
        (r"\bsystemctl\s+(stop|disable|restart|mask)\b", "stops or restarts services"),
        (r"\bgit\s+push\b.{0,300}(--force|-f)\b", "overwrites history of a repository"),
        (r"\b(drop|truncate)\s+(table|database|schema)\b", "deletes data of a database"),
        (r"\bkubectl\s+(delete|drain|scale)\b|\bhelm\s+uninstall\b", "changes a cluster"),
        (r"\bterraform\s+(apply|destroy)\b", "changes infrastructure"),
        (
            r"\bdocker\s+(run\b.{0,300}--privileged|system\s+prune)",
            "changes the host through docker",
        ),
    )
)


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlannedStep(_Result):
    """One step as it would run."""

    name: str
    kind: ActionKind
    action: str = Field(description="Script, or method and URL, without control characters.")
    depends: list[str]
    condition: str | None = None
    timeout: str | None = None
    attempts: int = Field(default=1, description="Most attempts.")
    network: bool = False
    hosts: list[str] = []
    secrets: list[str] = []
    risks: list[str] = []


class PlannedInput(_Result):
    """One input with the value that the run would get."""

    name: str
    type: str
    value: object = None
    required: bool = False
    description: str = ""


class PlannedSecret(_Result):
    """One secret that the workflow names."""

    name: str
    available: bool
    steps: list[str]


class Plan(_Result):
    """What a run would do, and what keeps it from running."""

    workflow: str
    description: str
    can_run: bool
    blockers: list[str] = Field(description="What must be mended before it can run.")
    levels: list[list[str]] = Field(description="Steps in order; those of one list run together.")
    steps: list[PlannedStep]
    inputs: list[PlannedInput]
    missing_inputs: list[str]
    secrets: list[PlannedSecret]
    hosts: list[str]
    network: bool
    isolation: str
    runner: str
    needs_command: list[str] = Field(description="Steps that nobody has turned into commands.")
    risks: list[str]
    warnings: list[str]
    mermaid: str


def plan(
    workflow: Workflow,
    inputs: Mapping[str, object],
    *,
    runners: Collection[str] = (LOCAL_RUNNER,),
    secrets: Mapping[str, SecretRule] = MappingProxyType({}),
    isolation: str = "bwrap",
) -> Plan:
    """What a run of the workflow with these inputs would do.

    `runners` are the names that there are, `secrets` those that the run's owner may have, with
    their limits; `isolation` is the profile of the steps.
    Inputs that do not fit are blockers, not errors.
    """
    values, problems = resolve_inputs(workflow, inputs)
    needed = _secrets_by_step(workflow)
    steps = [_plan_step(step, workflow, values, needed) for step in workflow.steps]
    names = sorted({name for found in needed.values() for name in found})
    planned_secrets = [
        PlannedSecret(
            name=name,
            available=name in secrets,
            steps=[step for step, found in needed.items() if name in found],
        )
        for name in names
    ]
    needs_command = [step.name for step in workflow.steps if step.kind == "needs_command"]
    blockers = [
        *(str(problem) for problem in problems),
        *_blockers(workflow, needs_command, planned_secrets, runners, secrets),
        *_withheld(workflow, values, needed, secrets, isolation),
    ]
    hosts = sorted({host for step in steps for host in step.hosts})
    return Plan(
        workflow=workflow.name,
        description=plain_text(workflow.description),
        can_run=not blockers,
        blockers=blockers,
        levels=StepGraph(workflow.steps).levels(),
        steps=steps,
        inputs=_plan_inputs(workflow, values),
        missing_inputs=[
            problem.path.removeprefix("inputs.")
            for problem in problems
            if inputs.get(problem.path.removeprefix("inputs.")) is None
        ],
        secrets=planned_secrets,
        hosts=hosts,
        network=any(step.network for step in steps),
        isolation=isolation,
        runner=workflow.runner,
        needs_command=needs_command,
        risks=list(_all_risks(steps, isolation)),
        warnings=[str(warning) for warning in lint(workflow, runners)],
        mermaid=to_mermaid(workflow),
    )


def _blockers(
    workflow: Workflow,
    needs_command: list[str],
    planned_secrets: list[PlannedSecret],
    runners: Collection[str],
    secrets: Mapping[str, SecretRule],
) -> Iterator[str]:
    """What else than its inputs keeps the workflow from running."""
    for name in needs_command:
        yield f"step `{name}` needs a command"
    if workflow.runner not in runners:
        yield f"there is no runner `{workflow.runner}`; there is {listed(runners)}"
    for secret in planned_secrets:
        if not secret.available:
            known = listed(sorted(secrets))
            yield f"the server has no secret `{secret.name}`; it has {known}"


def _withheld(
    workflow: Workflow,
    values: Mapping[str, object],
    needed: Mapping[str, list[str]],
    secrets: Mapping[str, SecretRule],
    isolation: str,
) -> Iterator[str]:
    """The secrets that a step names and would not be given, by their limits."""
    for step in workflow.all_steps():
        is_offline = isolation != "none" and not step.network
        host = step.http and _known_host(_known(step.http.url, workflow, values))
        for name in needed.get(step.name, ()):
            rule = secrets.get(name, NO_LIMITS)
            refusal = rule.refusal(step.kind, is_offline=is_offline)
            if host and host.isascii():
                refusal = refusal or rule.host_refusal(host)
            if refusal:
                yield f"step `{step.name}` would not be given the secret `{name}`: {refusal}"


def _plan_step(
    step: Step,
    workflow: Workflow,
    values: Mapping[str, object],
    needed: Mapping[str, list[str]],
) -> PlannedStep:
    network = step.network or step.http is not None
    return PlannedStep(
        name=step.name,
        kind=step.kind,
        action=plain_text(_action(step), MAX_COMMAND_CHARACTERS),
        depends=step.depends,
        condition=step.if_,
        timeout=step.timeout or workflow.timeout,
        attempts=1 + (step.retry.limit if step.retry else 0),
        network=network,
        hosts=sorted(_hosts(step, workflow, values)) if network else [],
        secrets=needed.get(step.name, []),
        risks=list(_risks(step, has_secrets=bool(needed.get(step.name)))),
    )


def _action(step: Step) -> str:
    if step.http is not None:
        return f"{step.http.method} {step.http.url}"
    return step.run or step.python or step.needs_command or ""


def _plan_inputs(workflow: Workflow, values: Mapping[str, object]) -> list[PlannedInput]:
    return [
        PlannedInput(
            name=name,
            type=spec.type,
            value=values.get(name),
            required=spec.required,
            description=plain_text(spec.description),
        )
        for name, spec in workflow.inputs.items()
    ]


def _hosts(step: Step, workflow: Workflow, values: Mapping[str, object]) -> Iterator[str]:
    """The hosts that the step names; where data decides, the text that does."""
    if step.http is None:
        yield from _URL.findall(f"{step.run or ''}\n{step.python or ''}")
        for text in step.env.values():
            yield from _URL.findall(_known(text, workflow, values))
        return
    url = _known(step.http.url, workflow, values)
    yield _known_host(url) or f"decided at run time: {plain_text(url, 200)}"


def _known_host(url: str) -> str | None:
    """The host of the URL, None where data of the run decides it."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host if host and OPEN not in url else None


def _known(text: str, workflow: Workflow, values: Mapping[str, object]) -> str:
    """The text with its expressions computed, where inputs and plain variables suffice."""
    try:
        roots = {ref.path[0] for source in expressions_in(text) for ref in references(source)}
        env = {name: value for name, value in workflow.env.items() if OPEN not in value}
        if roots <= {"inputs", "env"}:
            return str(render(text, {"inputs": values, "env": env}))
    except ExpressionError:
        pass
    return text


def _secrets_by_step(workflow: Workflow) -> dict[str, list[str]]:
    """The secrets that each step gets; those of the workflow's `env` go to every command."""
    found: dict[str, set[str]] = {step.name: set() for step in workflow.steps}
    for place in places_of(workflow):
        names = {name for source in place.sources() if (name := secret_name(source))}
        if place.step is not None:
            found[place.step.name] |= names
        elif place.kind == "workflow_env":
            for step in workflow.steps:
                if step.kind in {"run", "python"}:
                    found[step.name] |= names
    return {name: sorted(names) for name, names in found.items()}


def _risks(step: Step, *, has_secrets: bool) -> Iterator[str]:
    script = f"{step.run or ''}\n{step.python or ''}"
    for pattern, note in _RISKS:
        if pattern.search(script):
            yield note
    if step.http is not None and step.http.method not in {"GET", "HEAD"}:
        yield f"changes something at the host ({step.http.method})"
    if step.network and has_secrets:
        yield "has secrets and the network together"


def _all_risks(steps: list[PlannedStep], isolation: str) -> Iterator[str]:
    if isolation == "none" and any(step.kind in {"run", "python"} for step in steps):
        yield "the commands run without isolation, with the rights of the server's user"
    for step in steps:
        for risk in step.risks:
            yield f"{step.name}: {risk}"
