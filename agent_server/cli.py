"""The command line: `agent-server` and, for the guide's commands, `kubiya`.

This is the one module outside the backend that reads workflow definitions.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_server.commands.lazy import CommandError, LazyGroup
from agent_server.commands.workflow_file import (
    file_argument,
    inputs_option,
    read_inputs,
    read_workflow,
)

if TYPE_CHECKING:
    from workflow_backend.definition import Checked
    from workflow_backend.definition.importers import FormatChoice

_COMMANDS = "agent_server.commands"


@click.group(
    cls=LazyGroup,
    rows={
        "serve": (f"{_COMMANDS}.serve:serve", "Serve on 127.0.0.1:8000."),
        "demo": (f"{_COMMANDS}.demo:demo", "Run a system health check on a server of its own."),
        "chat": (f"{_COMMANDS}.chat:chat", "Talk to a running server."),
        "run": (f"{_COMMANDS}.run:run", "Run a workflow file and show its steps."),
        "runs": (f"{_COMMANDS}.runs:runs", "Start, follow, decide, repeat and cancel runs."),
        "schedules": (
            f"{_COMMANDS}.schedules:schedules",
            "Register, list, pause and trigger schedules.",
        ),
        "doctor": (f"{_COMMANDS}.doctor:doctor", "Find what is wrong, and say the mend."),
        "mcp": (f"{_COMMANDS}.mcp:mcp", "Run the workflow backend as an MCP server over stdio."),
        "worker": (f"{_COMMANDS}.worker:worker", "Make steps for a server elsewhere, by Temporal."),
        "keys": (f"{_COMMANDS}.keys:keys", "Make, list and revoke keys of the store."),
        "secrets": (f"{_COMMANDS}.secrets:secrets", "Set, list and remove secrets of workflows."),
        "hash-key": (f"{_COMMANDS}.hash_key:hash_key", "Make an entry for AGENT_SERVER_API_KEYS."),
    },
)
@click.version_option(package_name="agent-server")
@click.pass_context
def main(context: click.Context) -> None:
    """An OpenAI-compatible LLM gateway and workflow agent."""
    context.obj = faults_of


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command(short_help="Check a workflow file.")
@file_argument
@as_json
def validate(*, file: Path, as_json: bool) -> None:
    """Check the workflow in FILE. Exit code 1 means that it has faults."""
    # What the two commands need is imported when they are called, to keep --help fast.
    from agent_server.commands.definition_view import print_json, print_problems  # noqa: PLC0415

    checked = _check(file)
    if as_json:
        print_json(_as_object(checked))
    else:
        print_problems(checked.problems, checked.warnings)
        click.echo(f"{file}: {'valid' if checked.workflow else 'not valid'}")
    sys.exit(0 if checked.workflow else 1)


@main.command(short_help="Show what a workflow file would do.")
@file_argument
@inputs_option
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="A file of rules, as AGENT_SERVER_POLICY_FILE names it for a server.",
)
@as_json
def plan(*, file: Path, inputs: tuple[str, ...], policy: Path | None, as_json: bool) -> None:
    """Show what the workflow in FILE would do, without doing it. Exit code 1: it cannot run."""
    from agent_server.commands import definition_view as view  # noqa: PLC0415
    from workflow_backend.definition.plan import plan as plan_of  # noqa: PLC0415
    from workflow_backend.definition.policy import (  # noqa: PLC0415
        NO_POLICY,
        PolicyError,
        read_policy,
    )
    from workflow_backend.definition.secret_rules import NO_LIMITS  # noqa: PLC0415

    try:
        rules = read_policy(policy) if policy else NO_POLICY
    except PolicyError as exc:
        raise CommandError(str(exc)) from None
    checked = _check(file)
    if checked.workflow is None:
        if as_json:
            view.print_json(_as_object(checked))
        else:
            view.print_problems(checked.problems, checked.warnings)
        raise SystemExit(1)
    given = read_inputs(inputs)
    # The server's secrets are not known here, so those that the workflow names count as there.
    named = plan_of(checked.workflow, given).secrets
    secrets = {secret.name: NO_LIMITS for secret in named}
    planned = plan_of(checked.workflow, given, secrets=secrets, policy=rules)
    if as_json:
        view.print_json(planned.model_dump(mode="json"))
    else:
        view.print_plan(planned.model_dump(mode="json"))
    sys.exit(0 if planned.can_run else 1)


@main.command(name="import", short_help="Take a workflow of Kubiya or Dagu over.")
@file_argument
@click.option(
    "--from",
    "source",
    type=click.Choice(["auto", "kubiya", "dagu"]),
    default="auto",
    help="Format of the file; without it that is found out.",
)
def import_(*, file: Path, source: "FormatChoice") -> None:
    """Print the workflow in FILE, which Kubiya or Dagu runs, as one of this server.

    What has no counterpart is named on standard error, with what was done instead.
    """
    from agent_server.terminal import plain  # noqa: PLC0415
    from workflow_backend.definition.importers import import_definition  # noqa: PLC0415
    from workflow_backend.definition.problems import InvalidWorkflowError  # noqa: PLC0415

    try:
        found = import_definition(read_workflow(file), source, file.stem)
    except InvalidWorkflowError as exc:
        for problem in exc.problems:
            click.echo(f"error: {plain(problem)}", err=True)
        raise SystemExit(1) from None
    click.echo(found.yaml, nl=False)
    for note in found.notes:
        click.echo(f"note: {plain(note)}", err=True)


def faults_of(definition: str, inputs: Mapping[str, object]) -> Sequence[object]:
    """What is wrong with a definition, or with the inputs that were given for it."""
    from workflow_backend.definition import (  # noqa: PLC0415
        InvalidWorkflowError,
        parse_workflow,
        validate_inputs,
    )

    try:
        validate_inputs(parse_workflow(definition), inputs)
    except InvalidWorkflowError as exc:
        return exc.problems
    return ()


def _check(file: Path) -> "Checked":
    from workflow_backend.definition import check_definition  # noqa: PLC0415

    return check_definition(read_workflow(file))


def _as_object(checked: "Checked") -> dict[str, object]:
    return {
        "valid": checked.workflow is not None,
        "problems": [asdict(problem) for problem in checked.problems],
        "warnings": [asdict(problem) for problem in checked.warnings],
    }


@click.group(
    cls=LazyGroup,
    rows={"agent": (f"{_COMMANDS}.serve:agent", "Serve on 0.0.0.0:8000, as the guide documents.")},
)
def mcp() -> None:
    """The agent server, as the guide calls it."""


@click.group()
@click.version_option(package_name="agent-server")
def kubiya() -> None:
    """The guide's commands: `kubiya mcp agent`."""


kubiya.add_command(mcp)
