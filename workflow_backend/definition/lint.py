"""What is allowed in a workflow, but probably not meant."""

import ast
import re
from collections.abc import Callable, Collection, Iterator

from workflow_backend.definition.durations import DurationError, parse_duration
from workflow_backend.definition.expressions import (
    ExpressionError,
    condition_source,
    functions_in,
    references,
)
from workflow_backend.definition.model import Step, Workflow, WorkflowBody
from workflow_backend.definition.places import (
    bodies_of,
    parts_of,
    places_of_step,
    sources_of,
    steps_of,
)
from workflow_backend.definition.problems import Problem, listed

LOCAL_RUNNER = "local"
# What `finally` is given at most, whatever its steps are given.
FINALLY_SECONDS = 600.0
NETWORK_COMMANDS = frozenset({
    "curl", "wget", "ssh", "scp", "rsync", "ping", "dig", "nslookup", "nc", "telnet", "ftp",
    "docker", "kubectl", "terraform", "helm", "aws", "gcloud", "az", "psql", "mysql",
    "redis-cli", "mongosh", "gh",
})  # fmt: skip
NETWORK_SUBCOMMANDS = re.compile(
    r"\b(git\s+(clone|fetch|pull|push|ls-remote)|pip3?\s+(install|download)"
    r"|npm\s+(ci|install|i|publish)|apt(-get)?\s+(update|install)|apk\s+add|yum\s+install"
    r"|dnf\s+install|cargo\s+install|go\s+(get|install))\b"
)

_COMMAND = re.compile(
    r"(?:^|[;&|(]|\b(?:then|do|else|exec|sudo|xargs|time)\b)\s*([A-Za-z][\w.-]*)", re.MULTILINE
)
_FOREIGN_BRACES = re.compile(r"(?<!\$)\{\{\s*(inputs|steps|secrets|env|run|item|index)\b")
_BOUNDED_BY_TIMEOUT = frozenset({"run", "python", "agent"})


def lint(workflow: Workflow, runners: Collection[str] = (LOCAL_RUNNER,)) -> list[Problem]:
    """The warnings; `runners` are the names of the runners that there are."""
    warnings = list(_lint_document(workflow, runners))
    for prefix, body in bodies_of(workflow):
        is_bounded = body.timeout is not None or workflow.timeout is not None
        warnings += _lint_inputs(body, prefix)
        for path, step in steps_of(body, prefix):
            for check in _STEP_CHECKS:
                warnings += check(step, path)
            if not is_bounded:
                warnings += _lint_time(step, path)
        warnings += _lint_approved(body, prefix)
        warnings += _lint_finally(body, prefix)
    return warnings


def uses_network_command(script: str) -> str | None:
    """The first command of a shell script that needs the network, or None."""
    for match in _COMMAND.finditer(script):
        if match.group(1) in NETWORK_COMMANDS:
            return match.group(1)
    found = NETWORK_SUBCOMMANDS.search(script)
    return found.group() if found else None


def _lint_document(workflow: Workflow, runners: Collection[str]) -> Iterator[Problem]:
    if workflow.runner not in runners:
        yield Problem(
            "runner",
            f"there is no runner `{workflow.runner[:64]}`, so this will not run.",
            f"Use one of: {listed(runners)}.",
        )
    called = {
        step.workflow.ref
        for _, body in bodies_of(workflow)
        for _, step in steps_of(body)
        if step.workflow is not None
    }
    for name in workflow.workflows:
        if name not in called:
            yield Problem(
                f"workflows.{name[:64]}",
                "no step calls this workflow.",
                f"Add a step with `workflow: {{ref: {name[:64]}}}`, or remove it.",
            )
    if workflow.schedule is None:
        return
    for name, spec in workflow.inputs.items():
        if spec.required and spec.default is None:
            yield Problem(
                f"inputs.{name}",
                "a scheduled run has this input only if the schedule is registered with it.",
                "Give it a `default`, or give it when you register the schedule.",
            )


def _lint_inputs(body: WorkflowBody, prefix: str) -> Iterator[Problem]:
    used = _used_inputs(body)
    for name, spec in body.inputs.items():
        if used is not None and name not in used:
            yield Problem(
                f"{prefix}inputs.{name}",
                "nothing uses this input.",
                f"Pass it by `env` as `${{{{ inputs.{name} }}}}`, or remove it.",
            )
        if spec.required and spec.default is not None:
            yield Problem(
                f"{prefix}inputs.{name}.required",
                "an input with a default is never missing.",
                "Remove `required` or `default`.",
            )


def _lint_action(step: Step, path: str) -> Iterator[Problem]:
    if step.needs_command is not None:
        yield Problem(
            path,
            "this step needs a command before the workflow can run.",
            "Replace `needs_command` by `run`, `python` or `http`.",
        )
    if step.container is not None:
        yield Problem(
            path,
            "container steps are not run by this server yet.",
            "Use a `run` step on a machine that has what it needs.",
        )
    if step.python is not None and (fault := _python_fault(step.python)):
        yield Problem(f"{path}.python", fault, "Mend the script.")


def _lint_network(step: Step, path: str) -> Iterator[Problem]:
    command = uses_network_command(step.run) if step.run and not step.network else None
    if command:
        yield Problem(
            f"{path}.run",
            f"`{command}` needs the network, which this step lacks.",
            "Add `network: true` to the step.",
        )
    if step.network and step.http is not None:
        yield Problem(f"{path}.network", "an http step has the network anyway.", "Remove it.")


def _lint_approval(step: Step, path: str) -> Iterator[Problem]:
    if step.approval is None:
        return
    if step.approval.on_timeout == "approve":
        yield Problem(
            f"{path}.approval.on_timeout",
            "when nobody decides, this approves by itself.",
            "Write `on_timeout: fail` if a person must have decided.",
        )
    if step.continue_on_error:
        yield Problem(
            f"{path}.continue_on_error",
            "the run goes on though the approval is refused.",
            "Remove it if a refusal must stop what depends on this step.",
        )


def _lint_items(step: Step, path: str) -> Iterator[Problem]:
    if not step.is_fanned_out:
        return
    for place in places_of_step(step, path):
        try:
            sources = place.sources()
        except ExpressionError:
            continue
        roots = {reference.path[0] for source in sources for reference in references(source)}
        if roots & {"item", "index"}:
            return
    key = "foreach" if step.foreach is not None else "matrix"
    use = "${{ item }}" if step.foreach is not None else "${{ item.NAME }}"
    yield Problem(
        f"{path}.{key}",
        "the step does the same for each item: nothing in it names `item`.",
        f"Pass it on as `{use}`, in `env` of a script.",
    )


def _lint_braces(step: Step, path: str) -> Iterator[Problem]:
    for place, text in _plain_texts(step, path):
        if match := _FOREIGN_BRACES.search(text):
            yield Problem(
                place,
                f"`{match.group()}` is plain text without a `$` before it.",
                "Write `${{ ... }}` for an expression.",
            )


def _lint_time(step: Step, path: str) -> Iterator[Problem]:
    """What may take for ever, in a workflow without a limit of its own."""
    if step.kind in _BOUNDED_BY_TIMEOUT and step.timeout is None:
        yield Problem(
            path,
            "nothing bounds the step's time but the server's default.",
            "Add a `timeout`, such as `timeout: 5m`.",
        )
    if step.approval is not None and step.approval.timeout is None:
        yield Problem(
            f"{path}.approval",
            "if nobody decides, the run waits for ever.",
            "Add a `timeout`, such as `timeout: 24h`.",
        )
    wait = step.wait
    if wait is not None and wait.for_ is None and wait.timeout is None:
        yield Problem(
            f"{path}.wait",
            "if nothing comes, the run waits for ever.",
            "Add a `timeout`, such as `timeout: 1h`.",
        )


def _lint_approved(body: WorkflowBody, prefix: str) -> Iterator[Problem]:
    """Steps that wait for an approval, and run though it is refused."""
    for key, steps in parts_of(body):
        asked = {step.name for step in steps if step.approval is not None}
        for index, step in enumerate(steps):
            before = [name for name in step.depends if name in asked]
            if not before or step.if_ is None:
                continue
            if "always" in functions_in(condition_source(step.if_)):
                yield Problem(
                    f"{prefix}{key}[{index}].if",
                    f"with `always()` the step runs though `{before[0]}` is refused.",
                    "Remove `always()` if the step needs the approval.",
                )


def _lint_finally(body: WorkflowBody, prefix: str) -> Iterator[Problem]:
    for index, step in enumerate(body.finally_):
        path = f"{prefix}finally[{index}]"
        for limit in (step.timeout, step.wait and (step.wait.for_ or step.wait.timeout)):
            if limit and _seconds(limit) > FINALLY_SECONDS:
                yield Problem(
                    path,
                    f"`finally` is ended after {FINALLY_SECONDS / 60:.0f} minutes, whatever its"
                    " steps may take.",
                    "Move long work to `steps`.",
                )
        if step.approval is not None:
            yield Problem(
                path,
                f"`finally` is ended after {FINALLY_SECONDS / 60:.0f} minutes, decided or not.",
                "Ask in `steps`.",
            )


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except DurationError:
        return 0.0


def _python_fault(script: str) -> str | None:
    try:
        ast.parse(script)
    except SyntaxError as error:
        return f"line {error.lineno or 1} is no Python: {error.msg}."
    except (ValueError, RecursionError, MemoryError):
        return "the script cannot be parsed."
    return None


def _plain_texts(step: Step, path: str) -> Iterator[tuple[str, str]]:
    for place in places_of_step(step, path):
        yield place.path, place.text
    for key in ("run", "python"):
        if text := getattr(step, key):
            yield f"{path}.{key}", text


def _used_inputs(body: WorkflowBody) -> set[str] | None:
    """The inputs that some expression names; None if one reads them all or by computation."""
    used: set[str] = set()
    for source in sources_of(body):
        for reference in references(source):
            if reference.path == ("inputs",):
                return None
            if reference.path[0] == "inputs":
                used.add(reference.path[1])
    return used


_STEP_CHECKS: tuple[Callable[[Step, str], Iterator[Problem]], ...] = (
    _lint_action,
    _lint_network,
    _lint_approval,
    _lint_items,
    _lint_braces,
)
