"""What a run would do, told before it runs: order, commands, hosts, secrets, risks, blockers."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from workflow_backend.definition.control import Notification
from workflow_backend.definition.expressions import ExpressionError, render, to_text
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.known_values import KnownValues, known_workflows
from workflow_backend.definition.lint import LOCAL_RUNNER, lint
from workflow_backend.definition.mermaid import to_mermaid
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.plain_text import plain_text
from workflow_backend.definition.plan_models import (
    Plan,
    PlannedGroup,
    PlannedInput,
    PlannedMessage,
    PlannedSchedule,
    PlannedSecret,
    PlannedStep,
)
from workflow_backend.definition.planned_steps import (
    host_of,
    planned_steps,
    secrets_by_step,
    undecided,
)
from workflow_backend.definition.policy import NO_POLICY, Policy
from workflow_backend.definition.problems import listed
from workflow_backend.definition.secret_rules import NO_LIMITS, SecretRule
from workflow_backend.definition.values import resolve_inputs

__all__ = ["Plan", "PlannedInput", "PlannedStep", "plan"]

_UNABLE = {
    "needs_command": "step `{}` needs a command",
    "container": "step `{}` is a container step, which this server does not run yet",
}


def plan(
    workflow: Workflow,
    inputs: Mapping[str, object],
    *,
    runners: Collection[str] = (LOCAL_RUNNER,),
    secrets: Mapping[str, SecretRule] = MappingProxyType({}),
    isolation: str = "bwrap",
    policy: Policy = NO_POLICY,
    owner: str = "local",
) -> Plan:
    """What a run of the workflow with these inputs would do.

    `runners` are the names that there are, `secrets` those that the run's owner may have, with
    their limits; `isolation` is the profile of the steps; `policy` what the server forbids.
    Inputs that do not fit are blockers, not errors.
    """
    values, problems = resolve_inputs(workflow, inputs)
    workflows = known_workflows(workflow, values)
    steps = list(planned_steps(workflows))
    planned_secrets = _secrets(workflow, steps, secrets)
    blockers = [str(problem) for problem in problems]
    blockers += _unable(steps)
    blockers += _missing(workflow, planned_secrets, runners, secrets)
    for known in workflows:
        blockers += _withheld(known, secrets, isolation)
    blockers += _unsigned(workflow, workflows[0], secrets)
    blockers += _group_fault(workflow, values) if not problems else ()
    notify = [_message(message, workflows[0]) for message in workflow.notify]
    hosts = {host for step in steps for host in step.hosts}
    hosts |= {message.host or undecided(message.url) for message in notify}
    found = Plan(
        workflow=workflow.name,
        description=plain_text(workflow.description),
        can_run=not blockers,
        blockers=blockers,
        levels=StepGraph(workflow.steps).levels(),
        steps=steps,
        inputs=_inputs(workflow, values),
        missing_inputs=[
            problem.path.removeprefix("inputs.")
            for problem in problems
            if inputs.get(problem.path.removeprefix("inputs.")) is None
        ],
        secrets=planned_secrets,
        hosts=sorted(hosts),
        network=any(step.network for step in steps),
        isolation=isolation,
        runner=workflow.runner,
        schedule=_schedule(workflow),
        concurrency=_group(workflow, workflows[0]),
        notify=notify,
        needs_command=[step.name for step in steps if step.kind == "needs_command"],
        risks=list(_all_risks(steps, isolation)),
        warnings=[str(warning) for warning in lint(workflow, runners)],
        mermaid=to_mermaid(workflow),
    )
    return _held_to(policy, found, owner)


def _held_to(policy: Policy, found: Plan, owner: str) -> Plan:
    """The plan with the rules that it breaks as blockers."""
    violations = policy.violations(found, owner)
    if not violations:
        return found
    broken = [
        f"policy `{violation.rule}`: {violation.message}"
        + (f" ({listed(violation.steps)})" if violation.steps else "")
        for violation in violations
    ]
    blockers = [*found.blockers, *broken]
    return found.model_copy(update={"policy": violations, "blockers": blockers, "can_run": False})


def _unable(steps: Sequence[PlannedStep]) -> Iterator[str]:
    """The steps that no server of ours can run."""
    for step in steps:
        if step.kind in _UNABLE:
            yield _UNABLE[step.kind].format(step.name)


def _missing(
    workflow: Workflow,
    planned_secrets: Sequence[PlannedSecret],
    runners: Collection[str],
    secrets: Mapping[str, SecretRule],
) -> Iterator[str]:
    """What the server lacks."""
    if workflow.runner not in runners:
        yield f"there is no runner `{workflow.runner}`; there is {listed(runners)}"
    for secret in planned_secrets:
        if not secret.available:
            known = listed(sorted(secrets))
            yield f"the server has no secret `{secret.name}`; it has {known}"


def _withheld(
    known: KnownValues, secrets: Mapping[str, SecretRule], isolation: str
) -> Iterator[str]:
    """The secrets that a step names and would not be given, by their limits."""
    needed = secrets_by_step(known)
    for step in known.body.all_steps():
        is_offline = isolation != "none" and not step.network
        host = step.http and host_of(known.text(step.http.url, step))
        for name in needed[step.name]:
            rule = secrets.get(name, NO_LIMITS)
            refusal = rule.refusal(step.kind, is_offline=is_offline)
            if host and host.isascii():
                refusal = refusal or rule.host_refusal(host)
            if refusal:
                shown = known.name_of(step.name)
                yield f"step `{shown}` would not be given the secret `{name}`: {refusal}"


def _unsigned(
    workflow: Workflow, known: KnownValues, secrets: Mapping[str, SecretRule]
) -> Iterator[str]:
    """The messages that the limits of a secret keep from being signed, and so from being sent."""
    for message in workflow.notify:
        rule = secrets.get(message.secret or "", NO_LIMITS)
        host = host_of(known.text(message.url))
        if host and host.isascii() and (refusal := rule.host_refusal(host)):
            yield f"no message would be signed with the secret `{message.secret}`: {refusal}"


def _group_fault(workflow: Workflow, values: Mapping[str, object]) -> list[str]:
    """Why the run's group has no name, if it has none."""
    if workflow.concurrency is None:
        return []
    try:
        group = to_text(render(workflow.concurrency.group, {"inputs": values}))
    except ExpressionError as error:
        return [f"concurrency.group: {error}"]
    return [] if group.strip() else ["concurrency.group: with these inputs the name is empty"]


def _secrets(
    workflow: Workflow, steps: Sequence[PlannedStep], secrets: Mapping[str, SecretRule]
) -> list[PlannedSecret]:
    """The secrets that steps and messages name; `steps` of one are those that get it."""
    signing = {message.secret for message in workflow.notify if message.secret}
    names = signing | {name for step in steps for name in step.secrets}
    return [
        PlannedSecret(
            name=name,
            available=name in secrets,
            steps=[step.name for step in steps if name in step.secrets],
        )
        for name in sorted(names)
    ]


def _inputs(workflow: Workflow, values: Mapping[str, object]) -> list[PlannedInput]:
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


def _schedule(workflow: Workflow) -> PlannedSchedule | None:
    if workflow.schedule is None:
        return None
    return PlannedSchedule(**workflow.schedule.model_dump())


def _group(workflow: Workflow, known: KnownValues) -> PlannedGroup | None:
    if workflow.concurrency is None:
        return None
    group = plain_text(known.text(workflow.concurrency.group), 200)
    return PlannedGroup(group=group, policy=workflow.concurrency.policy)


def _message(message: Notification, known: KnownValues) -> PlannedMessage:
    url = known.text(message.url)
    return PlannedMessage(
        url=plain_text(url, 500), host=host_of(url), on=list(message.on), secret=message.secret
    )


def _all_risks(steps: Sequence[PlannedStep], isolation: str) -> Iterator[str]:
    if isolation == "none" and any(step.kind in {"run", "python"} for step in steps):
        yield "the commands run without isolation, with the rights of the server's user"
        if any(step.kind == "approval" for step in steps):
            yield "commands that run without isolation could give the approvals themselves"
    for step in steps:
        for risk in step.risks:
            yield f"{step.name}: {risk}"
