"""`agent-server secrets`: the encrypted store of secrets, which steps of workflows may name.

The store is the workflow backend's, so its own program changes it, in a child that gets the key and
the value by environment and standard input: no other process of this machine can read either.
"""

import subprocess
import sys
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_server.commands.lazy import CommandError
from agent_server.commands.options import config_option, data_dir_option, settings_of, with_options
from agent_server.commands.target import CallFailedError
from agent_server.settings import Settings, variable_of
from agent_server.terminal import plain

FAULT, NOT_FOUND = 2, 3

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Set, list and remove secrets of workflows.")
def secrets() -> None:
    """Set, list and remove the secrets of the encrypted store, which lies in the data folder.

    SECRET_KEY opens it, for this command and for the server, which takes a change at once.
    """


@secrets.command("set")
@click.argument("name")
@click.option("--key", "keys", multiple=True, help="Owner whose runs may have it; all without.")
@click.option("--host", "hosts", multiple=True, help="Host, or *.host, where it may be sent.")
@with_options(data_dir_option, config_option)
def set_secret(
    *,
    name: str,
    keys: tuple[str, ...],
    hosts: tuple[str, ...],
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Keep a value as NAME: from standard input, or asked for without being shown.

    One newline at its end is no part of it. What was kept as NAME is replaced, its limits too.
    """
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    if settings.secret_key is None:
        raise CommandError(
            f"{variable_of('secret_key')} is not set; make a key by `openssl rand -base64 32`, and"
            " give it to the server and to this command"
        )
    value = None
    if sys.stdin.isatty():
        value = str(
            click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
        )
    limits = [*(f"--key={key}" for key in keys), *(f"--host={host}" for host in hosts)]
    _backend(settings, "set", *limits, "--", name, value=value)
    click.echo(f"{plain(name)} set")


@secrets.command("list")
@with_options(as_json, data_dir_option, config_option)
def list_secrets(*, as_json: bool, data_dir: Path | None, config_file: Path | None) -> None:
    """List the names of all sources with their limits; never a value."""
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    said = _backend(settings, "list")
    if as_json:
        click.echo(orjson.dumps(orjson.loads(said), option=orjson.OPT_INDENT_2))
        return
    table = Table(box=None)
    for column in ("name", "source", "keys", "hosts", "fault"):
        table.add_column(column, overflow="fold")
    for row in orjson.loads(said)["data"]:
        table.add_row(
            *(Text(plain(row[column])) for column in ("name", "source")),
            *(Text(plain(" ".join(row[column]) or "all")) for column in ("keys", "hosts")),
            Text(plain(row.get("fault", ""))),
        )
    Console().print(table)


@secrets.command("rm")
@click.argument("name")
@with_options(data_dir_option, config_option)
def remove_secret(*, name: str, data_dir: Path | None, config_file: Path | None) -> None:
    """Take NAME out of the store; no key is needed."""
    _backend(settings_of(data_dir=data_dir, config_file=config_file), "rm", "--", name)
    click.echo(f"{plain(name)} removed")


def _backend(settings: Settings, *arguments: str, value: str | None = None) -> bytes:
    """What the backend's program prints; it reads our standard input unless there is a value."""
    # -P: what stands in the folder where we are called is not our program.
    done = subprocess.run(  # noqa: S603 - our own module, by its absolute interpreter
        [sys.executable, "-P", "-m", "workflow_backend.secrets", *arguments],
        capture_output=True,
        env=settings.backend_environment(),
        input=None if value is None else value.encode(),
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    said = plain(done.stderr.decode("utf-8", "replace").strip())
    if done.returncode == NOT_FOUND:
        raise CallFailedError(said)
    raise CommandError(said if done.returncode == FAULT else f"it ended unexpectedly: {said}")
