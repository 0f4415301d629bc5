"""`agent-server runs artefacts` and `runs logs`: what the steps of a run left and wrote."""

import contextlib
import os
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_server.commands.lazy import CommandError
from agent_server.commands.options import client_options, with_options
from agent_server.commands.target import client_of, explained
from agent_server.server_client import ServerClient
from agent_server.terminal import PlainText, plain
from streaming.events import JsonObject

ROUTE = "/v1/workflows/runs"


@click.command(short_help="List or fetch the files that a run kept.")
@click.argument("run_id")
@click.option(
    "--download",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write them to, each below the name of its step.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_options(*client_options)
def artefacts(
    *,
    run_id: str,
    folder: Path | None,
    as_json: bool,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """List the files that the steps of a run left, or fetch them."""
    with explained():
        client = client_of(url, data_dir, config_file)
        found = _listed(client, run_id)
        if folder is not None:
            for item in found:
                click.echo(plain(_download(client, run_id, item, folder)))
        elif as_json:
            click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        else:
            _show(found)


@click.command(short_help="Print what the steps of a run wrote.")
@click.argument("run_id")
@click.option("--step", help="Of this step alone.")
@click.option("--attempt", type=click.IntRange(1), help="Of this attempt alone.")
@click.option("--follow", is_flag=True, help="While they write it, until the run has ended.")
@with_options(*client_options)
def logs(
    *,
    run_id: str,
    step: str | None,
    attempt: int | None,
    follow: bool,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Print what the steps of a run wrote, whole."""
    given = {"step": step, "attempt": attempt, "follow": "true" if follow else None}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    # A terminal obeys what it is sent; a file or a program gets every byte.
    shown = PlainText() if sys.stdout.isatty() else None
    with explained():
        client = client_of(url, data_dir, config_file)
        for data in client.stream(f"{ROUTE}/{quote(run_id, safe='')}/logs?{query}"):
            click.echo(shown.feed(data) if shown else data, nl=False)
        if shown:
            click.echo(shown.end(), nl=False)


def _listed(client: ServerClient, run_id: str) -> list[JsonObject]:
    """All artefacts of a run."""
    found: list[JsonObject] = []
    path = f"{ROUTE}/{quote(run_id, safe='')}/artefacts"
    page = client.call("GET", path)
    while True:
        data = page.get("data")
        rows = data if isinstance(data, list) else []
        found += [row for row in rows if isinstance(row, dict)]
        if not page.get("next_cursor"):
            return found
        page = client.call("GET", f"{path}?{urlencode({'cursor': str(page['next_cursor'])})}")


def _show(found: list[JsonObject]) -> None:
    table = Table(box=None)
    for column in ("step", "name", "size", "sha256"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for item in found:
        row = (item.get("step"), item.get("name"), item.get("size"), str(item.get("sha256"))[:12])
        table.add_row(*(Text(plain(value)) for value in row))
    Console().print(table)


def _download(client: ServerClient, run_id: str, item: JsonObject, folder: Path) -> Path:
    """Write one artefact below the folder; where to."""
    step, name = str(item["step"]), str(item["name"])
    target = folder / below(step, name)
    path = "/".join(quote(part, safe="") for part in (run_id, "artefacts", step))
    part = target.with_name(f".{target.name[:200]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for data in client.stream(f"{ROUTE}/{path}/{quote(name)}"):
                file.write(data)
        part.replace(target)
    except OSError as exc:
        raise CommandError(f"cannot write {target}: {exc.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return target


def below(step: str, name: str) -> Path:
    """The path of an artefact below a folder: a step chose the name, and it leads nowhere else."""
    parts = [step, *name.split("/")]
    if any(part in {"", ".", ".."} or os.sep in part for part in parts):
        raise CommandError(f"the artefact {plain(name)!r} has no name that can be written")
    return Path(*parts)
