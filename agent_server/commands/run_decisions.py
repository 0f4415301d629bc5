"""`agent-server runs start`, `approve`, `reject`, `approvals`, `signal`, `rerun`: what is done."""

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_server.commands.lazy import CommandError
from agent_server.commands.options import client_options, with_options
from agent_server.commands.target import client_of, explained
from agent_server.commands.workflow_file import (
    file_argument,
    inputs_option,
    read_inputs,
    read_workflow,
)
from agent_server.terminal import plain
from streaming.events import JsonObject

ROUTE = "/v1/workflows/runs"
COLUMNS = ("approval_id", "message", "expires")

run_argument = click.argument("run_id")
# `RUN STEP`, or the approval's own id `RUN/STEP`.
step_argument = click.argument("step", required=False)
reason_option = click.option("--reason", default="", help="Why; it is recorded.")


@click.command(short_help="Start a run that goes on by itself.")
@file_argument
@click.option("--run-id", "new_run_id", help="Its id; the same one again starts nothing.")
@with_options(inputs_option, *client_options)
def start(
    *,
    file: Path,
    new_run_id: str | None,
    inputs: tuple[str, ...],
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Start a run of the workflow in FILE, print its id, and leave it to the server."""
    body: JsonObject = {"workflow": read_workflow(file)}
    if values := read_inputs(inputs):
        body["inputs"] = {name: str(value) for name, value in values.items()}
    if new_run_id is not None:
        body["run_id"] = new_run_id
    with explained():
        started = client_of(url, data_dir, config_file).call("POST", ROUTE, body)
    click.echo(plain(started.get("run_id")))


@click.command(short_help="Approve what a run asks.")
@run_argument
@step_argument
@click.option(
    "--value",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value of the form; may be repeated.",
)
@with_options(reason_option, *client_options)
def approve(
    *,
    run_id: str,
    step: str | None,
    values: tuple[str, ...],
    reason: str,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Approve STEP of RUN_ID, or RUN_ID/STEP. Exit code 1: it had been rejected before."""
    body: JsonObject = {"approved": True, "reason": reason}
    if given := read_inputs(values, option="--value"):
        body["values"] = {name: str(value) for name, value in given.items()}
    _decide(run_id, step, body, (url, data_dir, config_file))


@click.command(short_help="Reject what a run asks.")
@run_argument
@step_argument
@with_options(reason_option, *client_options)
def reject(
    *,
    run_id: str,
    step: str | None,
    reason: str,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Reject STEP of RUN_ID, or RUN_ID/STEP. Exit code 1: it had been approved before."""
    _decide(run_id, step, {"approved": False, "reason": reason}, (url, data_dir, config_file))


@click.command(short_help="List what runs ask people to decide.")
@click.argument("run_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_options(*client_options)
def approvals(
    *,
    run_id: str | None,
    as_json: bool,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """List the open approvals, of one run or of all."""
    path = "/v1/workflows/approvals" if run_id is None else f"{_path(run_id)}/approvals"
    with explained():
        answer = client_of(url, data_dir, config_file).call("GET", path)
    if as_json:
        _print_json(answer)
        return
    data = answer.get("data")
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in data if isinstance(data, list) else []:
        if isinstance(row, dict):
            table.add_row(*(Text(plain(row.get(column))) for column in COLUMNS))
    Console().print(table)
    if answer.get("has_more") is True:
        click.echo("More runs are under way; name a run to see all of its own.")


@click.command(short_help="Send a signal that a run waits for.")
@run_argument
@click.argument("name")
@click.option("--data", default="{}", show_default=True, help="What it says, as JSON.")
@with_options(*client_options)
def signal(
    *,
    run_id: str,
    name: str,
    data: str,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Send the signal NAME to RUN_ID; the first one stays."""
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise CommandError(f"--data is no JSON: {exc}") from None
    with explained():
        client = client_of(url, data_dir, config_file)
        _print_json(client.call("POST", f"{_path(run_id)}/signals/{quote(name, safe='')}", payload))


@click.command(short_help="Run an ended run again, from where it failed.")
@run_argument
@click.option("--from", "from_step", help="Step to begin with; without it what failed.")
@click.option("--run-id", "new_run_id", help="Id of the new run; the same one starts nothing.")
@with_options(*client_options)
def rerun(
    *,
    run_id: str,
    from_step: str | None,
    new_run_id: str | None,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Run RUN_ID again as a new run, keep what had succeeded, and print the new id."""
    given = {"from_step": from_step, "run_id": new_run_id}
    body = {name: value for name, value in given.items() if value is not None}
    with explained():
        started = client_of(url, data_dir, config_file).call("POST", f"{_path(run_id)}/rerun", body)
    click.echo(plain(started.get("run_id")))


COMMANDS = (start, approve, reject, approvals, signal, rerun)


def _decide(
    run_id: str,
    step: str | None,
    body: Mapping[str, object],
    target: tuple[str | None, Path | None, Path | None],
) -> None:
    if step is None:
        run_id, _, step = run_id.rpartition("/")
    if not run_id or not step:
        raise CommandError("name the run and the step, as RUN STEP or as RUN/STEP")
    path = f"{_path(run_id)}/approvals/{quote(step, safe='')}"
    with explained():
        decided = client_of(*target).call("POST", path, body)
    word = "approved" if decided.get("approved") is True else "rejected"
    before = "" if decided.get("is_first") is True else " before"
    click.echo(plain(f"{run_id}/{step} {word} by {decided.get('by')}{before}"))
    if decided.get("approved") != body["approved"]:
        sys.exit(1)


def _path(run_id: str) -> str:
    return f"{ROUTE}/{quote(run_id, safe='')}"


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
