"""`agent-server schedules`: the workflows of a server that begin by themselves."""

from pathlib import Path
from urllib.parse import quote

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

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

ROUTE = "/v1/workflows/schedules"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
name_argument = click.argument("name")
owner_option = click.option("--owner", help="Another owner, for a key with the scope admin.")


@click.group(short_help="Register, list, pause and trigger schedules.")
def schedules() -> None:
    """Register, list, pause and trigger workflows that begin by themselves."""


@schedules.command("list")
@with_options(as_json, owner_option, *client_options)
def list_schedules(
    *,
    as_json: bool,
    owner: str | None,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """List schedules by name."""
    with explained():
        answer = client_of(url, data_dir, config_file).call("GET", f"{ROUTE}{_query(owner)}")
    if as_json:
        _print_json(answer)
        return
    table = Table(box=None)
    for column in ("name", "workflow", "cron", "timezone", "next", "error"):
        table.add_column(column, overflow="fold")
    rows = answer.get("data")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            table.add_row(*(Text(cell) for cell in _cells(row)))
    Console().print(table)


@schedules.command()
@name_argument
@with_options(*client_options)
def show(*, name: str, url: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Print one schedule with its workflow and its newest firings, as JSON."""
    _call("GET", name, "", url, data_dir, config_file)


@schedules.command()
@file_argument
@click.option("--name", help="Name of the schedule; else the workflow's.")
@with_options(inputs_option, *client_options)
def add(
    *,
    file: Path,
    name: str | None,
    inputs: tuple[str, ...],
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Register the workflow in FILE to begin at the times of its `schedule`.

    A schedule of the name gets this workflow and these inputs.
    """
    body: dict[str, object] = {"workflow": read_workflow(file), "inputs": read_inputs(inputs)}
    if name is not None:
        body["name"] = name
    with explained():
        made = client_of(url, data_dir, config_file).call("POST", ROUTE, body)
    click.echo(f"{plain(made.get('name'))}: next at {plain(made.get('next_at'))}")


@schedules.command()
@name_argument
@with_options(*client_options)
def pause(*, name: str, url: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Leave a schedule's times out until it is resumed."""
    _call("POST", name, "/pause", url, data_dir, config_file)


@schedules.command()
@name_argument
@with_options(*client_options)
def resume(*, name: str, url: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Let a paused schedule go on."""
    _call("POST", name, "/resume", url, data_dir, config_file)


@schedules.command()
@name_argument
@with_options(*client_options)
def trigger(*, name: str, url: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Begin a run of a schedule now, under its overlap policy."""
    _call("POST", name, "/trigger", url, data_dir, config_file)


@schedules.command("rm")
@name_argument
@with_options(owner_option, *client_options)
def remove(
    *,
    name: str,
    owner: str | None,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Forget a schedule; runs that it began go on."""
    _call("DELETE", name, _query(owner), url, data_dir, config_file)


def _call(
    method: str,
    name: str,
    action: str,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Ask for one schedule and print the answer."""
    body: JsonObject | None = {} if method == "POST" else None
    with explained():
        client = client_of(url, data_dir, config_file)
        _print_json(client.call(method, f"{ROUTE}/{quote(name, safe='')}{action}", body))


def _query(owner: str | None) -> str:
    return "" if owner is None else f"?owner={quote(owner, safe='')}"


def _cells(row: JsonObject) -> list[str]:
    times = row.get("schedule")
    when = times if isinstance(times, dict) else {}
    next_at = plain(row.get("next_at"))
    # To the minute, in UTC: the line shall fit into a narrow terminal.
    shown = "paused" if row.get("is_paused") else f"{next_at[:16].replace('T', ' ')}Z"
    return [
        plain(row.get("name")),
        plain(row.get("workflow")),
        plain(when.get("cron")),
        plain(when.get("timezone")),
        shown if next_at or row.get("is_paused") else "never",
        plain(row.get("last_error")),
    ]


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
