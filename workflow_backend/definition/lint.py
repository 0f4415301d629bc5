"""What is allowed in a workflow, but probably not meant."""

import ast
import re
from collections.abc import Collection, Iterator

from workflow_backend.definition.expressions import references
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.places import places_of_step, sources_of
from workflow_backend.definition.problems import Problem, listed

LOCAL_RUNNER = "local"
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
_FOREIGN_BRACES = re.compile(r"(?<!\$)\{\{\s*(inputs|steps|secrets|env|run)\b")


def lint(workflow: Workflow, runners: Collection[str] = (LOCAL_RUNNER,)) -> list[Problem]:
    """The warnings; `runners` are the names of the runners that there are."""
    warnings = []
    if workflow.runner not in runners:
        warnings.append(
            Problem(
                "runner",
                f"there is no runner `{workflow.runner[:64]}`, so this will not run.",
                f"Use one of: {listed(runners)}.",
            )
        )
    used = _used_inputs(workflow)
    for name, spec in workflow.inputs.items():
        if used is not None and name not in used:
            warnings.append(
                Problem(
                    f"inputs.{name}",
                    "nothing uses this input.",
                    f"Pass it by `env` as `${{{{ inputs.{name} }}}}`, or remove it.",
                )
            )
        if spec.required and spec.default is not None:
            warnings.append(
                Problem(
                    f"inputs.{name}.required",
                    "an input with a default is never missing.",
                    "Remove `required` or `default`.",
                )
            )
    for index, step in enumerate(workflow.steps):
        warnings += _lint_step(step, f"steps[{index}]", workflow)
    return warnings


def uses_network_command(script: str) -> str | None:
    """The first command of a shell script that needs the network, or None."""
    for match in _COMMAND.finditer(script):
        if match.group(1) in NETWORK_COMMANDS:
            return match.group(1)
    found = NETWORK_SUBCOMMANDS.search(script)
    return found.group() if found else None


def _lint_step(step: Step, path: str, workflow: Workflow) -> Iterator[Problem]:
    if step.needs_command is not None:
        yield Problem(
            path,
            "this step needs a command before the workflow can run.",
            "Replace `needs_command` by `run`, `python` or `http`.",
        )
    elif step.timeout is None and workflow.timeout is None and step.http is None:
        yield Problem(
            path,
            "nothing bounds the step's time but the server's default.",
            "Add a `timeout`, such as `timeout: 5m`.",
        )
    command = uses_network_command(step.run) if step.run and not step.network else None
    if command:
        yield Problem(
            f"{path}.run",
            f"`{command}` needs the network, which this step lacks.",
            "Add `network: true` to the step.",
        )
    if step.python is not None and (fault := _python_fault(step.python)):
        yield Problem(f"{path}.python", fault, "Mend the script.")
    if step.network and step.http is not None:
        yield Problem(f"{path}.network", "an http step has the network anyway.", "Remove it.")
    for place, text in _plain_texts(step, path):
        if match := _FOREIGN_BRACES.search(text):
            yield Problem(
                place,
                f"`{match.group()}` is plain text without a `$` before it.",
                "Write `${{ ... }}` for an expression.",
            )


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


def _used_inputs(workflow: Workflow) -> set[str] | None:
    """The inputs that some expression names; None if one reads them all or by computation."""
    used: set[str] = set()
    for source in sources_of(workflow):
        for reference in references(source):
            if reference.path == ("inputs",):
                return None
            if reference.path[0] == "inputs":
                used.add(reference.path[1])
    return used
