"""`agent-server runs`: the runs of a server, as lists for people or JSON for programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_server.commands.options import client_options, with_options
from agent_server.commands.run_decisions import COMMANDS
from agent_server.commands.run_files import artefacts, logs
from agent_server.commands.target import client_of, explained
from agent_server.terminal import StepView, plain

COLUMNS = ("run_id", "workflow", "status", "created_at")
STATUSES = ("queued", "running", "success", "failed", "cancelled", "timed_out")
ROUTE = "/v1/workflows/runs"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Start, follow, decide, repeat and cancel runs.")
def runs() -> None:
    """Start, list, follow, decide, repeat and cancel workflow runs."""


for command in (artefacts, logs, *COMMANDS):
    runs.add_command(command)


@runs.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Runs of this status alone.")
@click.option("--workflow", help="Runs of this workflow alone.")
@click.option("--parent", help="The runs that this run made; else they are left out.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--cursor", help="Go on where an earlier list ended.")
@with_options(as_json, *client_options)
def list_runs(*, as_json: bool, **options: Any) -> None:
    """List runs, newest first."""
    target = {name: options.pop(name) for name in ("url", "data_dir", "config_file")}
    query = urlencode({name: value for name, value in options.items() if value is not None})
    with explained():
        answer = client_of(**target).call("GET", f"{ROUTE}?{query}")
    if as_json:
        _print_json(answer)
        return
    rows = answer.get("data")
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column != "workflow")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            table.add_row(*(Text(_cell(column, row.get(column))) for column in COLUMNS))
    Console().print(table)
    if cursor := answer.get("next_cursor"):
        click.echo(f"More: --cursor {plain(cursor)}")


def _cell(column: str, value: object) -> str:
    text = plain(value)
    # To the minute, in UTC: the line shall fit into a narrow terminal.
    return f"{text[:16].replace('T', ' ')}Z" if column == "created_at" else text


@runs.command()
@click.argument("run_id")
@click.option("--graph", is_flag=True, help="A Mermaid flowchart, coloured by status, instead.")
@with_options(*client_options)
def show(
    *,
    run_id: str,
    graph: bool,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Print one run with its steps, as JSON."""
    with explained():
        client = client_of(url, data_dir, config_file)
        path = f"{ROUTE}/{quote(run_id, safe='')}"
        if graph:
            click.echo(b"".join(client.stream(f"{path}/graph")))
        else:
            _print_json(client.call("GET", path))


@runs.command()
@click.argument("run_id")
@click.option("--after", type=click.IntRange(0), default=0, help="Events after this number alone.")
@click.option("--until-asked", is_flag=True, help="No further than where somebody is asked.")
@with_options(as_json, *client_options)
def events(
    *,
    run_id: str,
    after: int,
    until_asked: bool,
    as_json: bool,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Follow the events of a run until it ends."""
    view = StepView(Console())
    with explained():
        try:
            for event in client_of(url, data_dir, config_file).events(run_id, after):
                if as_json:
                    click.echo(orjson.dumps(event))
                else:
                    view.show(event)
                if until_asked and _asks(event):
                    break
        finally:
            view.close()


def _asks(event: Mapping[str, object]) -> bool:
    if event.get("type") == "wait_started":
        return event.get("kind") != "timer"
    return event.get("type") == "approval_requested"


@runs.command()
@click.argument("run_id")
@with_options(*client_options)
def cancel(
    *, run_id: str, url: str | None, data_dir: Path | None, config_file: Path | None
) -> None:
    """Cancel a run and print what it has come to."""
    with explained():
        client = client_of(url, data_dir, config_file)
        _print_json(client.call("POST", f"{ROUTE}/{quote(run_id, safe='')}/cancel", {}))


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
