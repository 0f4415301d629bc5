"""`agent-server keys`: keys in the store, made, listed and ended."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_server.accounts.store_errors import AccountsConfigError, MigrationError
from agent_server.accounts.stored_keys import key_object, new_key
from agent_server.commands.lazy import CommandError
from agent_server.commands.options import config_option, data_dir_option, settings_of, with_options
from agent_server.commands.target import CallFailedError
from agent_server.log_config import configure_logging
from agent_server.settings import Settings, variable_of
from agent_server.terminal import plain
from streaming.errors import AgentServerError

if TYPE_CHECKING:
    from agent_server.accounts.ledger import Ledger

COLUMNS = ("id", "name", "status", "scopes", "owner", "limits")
LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "parallel",
    "budget_per_day",
    "budget_per_month",
    "models",
    "expires_at",
)
LISTED = 1000

_Result = TypeVar("_Result")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Make, list and revoke keys of the store.")
def keys() -> None:
    """Make, list and revoke the keys of callers that are kept in the store.

    The store is the one of AGENT_SERVER_DATABASE_URL, else the file server.db in the data folder.
    """


@keys.command()
@click.option("--name", required=True, help="Name of the key.")
@click.option("--owner", help="Owner of its runs and responses; else the key's own name.")
@click.option("--scopes", default="chat+run", show_default=True, help="chat, run, approve, admin.")
@click.option("--model", "models", multiple=True, help="Model that it may name, or a glob.")
@click.option("--rpm", "requests_per_minute", type=int, help="Requests a minute.")
@click.option("--tpm", "tokens_per_minute", type=int, help="Tokens a minute.")
@click.option("--parallel", type=int, help="Calls at the same time.")
@click.option("--budget-day", "budget_per_day", help="USD a day.")
@click.option("--budget-month", "budget_per_month", help="USD a month.")
@click.option("--expires", "expires_at", help="Date or RFC 3339 time at which it ends.")
@with_options(as_json, data_dir_option, config_option)
def create(
    *,
    as_json: bool,
    data_dir: Path | None,
    config_file: Path | None,
    models: tuple[str, ...],
    **fields: Any,
) -> None:
    """Make a key, and show it this once."""
    try:
        key, raw_key = new_key({**fields, "models": list(models) or None})
    except ValueError as exc:
        raise CommandError(str(exc)) from None
    stored = _with_ledger(data_dir, config_file, lambda ledger: ledger.create_key(key), make=True)
    if as_json:
        _print_json({**key_object(stored), "key": raw_key})
        return
    click.echo(f"Key (give it to the caller; it is not kept): {raw_key}", err=True)
    click.echo(f"{key.key_id} {key.name}")


@keys.command("list")
@with_options(as_json, data_dir_option, config_option)
def list_keys(*, as_json: bool, data_dir: Path | None, config_file: Path | None) -> None:
    """List the keys, revoked ones too."""
    stored = _with_ledger(
        data_dir, config_file, lambda ledger: ledger.list_keys(limit=LISTED, after="")
    )
    objects = [key_object(one) for one in stored]
    if as_json:
        _print_json({"object": "list", "data": objects})
        return
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for one in objects:
        limits = " ".join(f"{name}={_cell(one[name])}" for name in LIMITS if name in one)
        cells = [_cell(one.get(column)) for column in COLUMNS[:-1]]
        table.add_row(*(Text(cell) for cell in (*cells, limits)))
    Console().print(table)


@keys.command()
@click.argument("key")
@with_options(as_json, data_dir_option, config_option)
def revoke(*, key: str, as_json: bool, data_dir: Path | None, config_file: Path | None) -> None:
    """End KEY, by its id or name. Servers follow within half a minute."""
    stored = _with_ledger(data_dir, config_file, lambda ledger: ledger.revoke_key(key))
    if stored is None:
        raise CallFailedError(
            f"no key '{key}' is in the store; `agent-server keys list` shows them"
        )
    if as_json:
        _print_json(key_object(stored))
    else:
        click.echo(f"{stored.key.key_id} {plain(stored.key.name)} revoked")


def _with_ledger(
    data_dir: Path | None,
    config_file: Path | None,
    use: "Callable[[Ledger], Awaitable[_Result]]",
    *,
    make: bool = False,
) -> _Result:
    """What a function gives of the store; `make` makes the file where there is none."""
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    configure_logging("WARNING", secrets=settings.secret_values())
    try:
        return asyncio.run(_open_and_use(settings, use, make=make))
    except (AccountsConfigError, MigrationError) as exc:
        raise CommandError(str(exc)) from None
    except AgentServerError as exc:
        raise CallFailedError(exc.message) from None


async def _open_and_use(
    settings: Settings, use: "Callable[[Ledger], Awaitable[_Result]]", *, make: bool
) -> _Result:
    # A database library is slow to load, and --help needs none.
    from agent_server.accounts.configured import ledger_of  # noqa: PLC0415

    ledger = ledger_of(settings, make=make)
    if ledger is None:
        raise CommandError(
            f"there is no store in {settings.data_dir}; `agent-server keys create` makes one, "
            f"or set {variable_of('database_url')}"
        )
    try:
        if not await ledger.store.try_start():
            raise CommandError(f"{variable_of('database_url')}: the store cannot be reached")
        return await use(ledger)
    finally:
        await ledger.store.stop()


def _cell(value: object) -> str:
    return plain("+".join(value)) if isinstance(value, list) else plain(value)


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
