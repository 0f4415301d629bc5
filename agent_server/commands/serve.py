"""`agent-server serve` and `kubiya mcp agent`: start the server and say how it started."""

import signal
import sys
import threading
from typing import Any

import click

from agent_server.accounts.store_errors import AccountsConfigError
from agent_server.commands.lazy import CommandError
from agent_server.commands.options import (
    provider_of,
    server_options,
    server_settings,
    with_options,
)
from agent_server.data_dir import DataDirError
from agent_server.gateway.config_nodes import ConfigFileError
from agent_server.listener import StartError
from agent_server.mcp_servers import McpConfigError
from agent_server.process import serve as serve_until_stopped
from agent_server.provider_choice import ProviderChoiceError
from agent_server.settings import Settings, unknown_variables, variable_of
from agent_server.telemetry import TelemetryError

ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - the guide's default for `kubiya mcp agent`

until_stdin_closes = click.option(
    "--until-stdin-closes",
    is_flag=True,
    hidden=True,
    help="Stop when whoever started the server is gone.",
)


@click.command(short_help="Serve on 127.0.0.1:8000.")
@with_options(*server_options, until_stdin_closes)
def serve(*, until_stdin_closes: bool, **options: Any) -> None:
    """Serve the OpenAI-compatible API, on 127.0.0.1:8000 unless told otherwise."""
    if until_stdin_closes:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    start(server_settings(**options))


@click.command(short_help="Serve on 0.0.0.0:8000, as the guide documents.")
@with_options(*server_options)
def agent(**options: Any) -> None:
    """Serve the OpenAI-compatible API, on 0.0.0.0:8000 unless told otherwise."""
    settings = server_settings(**options)
    if "host" not in settings.model_fields_set:
        settings = settings.model_copy(update={"host": ALL_INTERFACES})
    start(settings)


def start(settings: Settings) -> None:
    """Serve until a signal, after saying which provider was chosen and who may call."""
    choice = provider_of(settings)
    for name in unknown_variables():
        click.echo(f"warning: {name} is no setting of this server; is it misspelt?", err=True)
    model = f", model {settings.model}" if settings.model else ""
    click.echo(f"Provider: {choice.provider}{model} ({choice.reason})")
    click.echo(_reach(settings))
    try:
        serve_until_stopped(
            settings.model_copy(update={"provider": choice.provider}),
            lambda url: click.echo(f"Agent Server answers at {url} (API: {url}/v1; Ctrl-C stops)"),
        )
    except ConfigFileError as exc:
        raise CommandError(f"{settings.gateway_config}: {exc}") from None
    except (
        AccountsConfigError,
        DataDirError,
        McpConfigError,
        ProviderChoiceError,
        StartError,
        TelemetryError,
    ) as exc:
        raise CommandError(str(exc)) from None


def _reach(settings: Settings) -> str:
    """Who can call, and what that means for running workflows."""
    keys = variable_of("api_keys")
    if not settings.api_keys and (settings.gateway_config or settings.database_url):
        who = "this machine alone" if settings.is_loopback else "other machines"
        return (
            f"Listens on {settings.host}: {who} can call; callers need a key if the gateway's file "
            "or the store has any"
        )
    if settings.is_loopback:
        who = f"Listens on {settings.host}: this machine alone can call"
        return f"{who}, with one of the configured keys" if settings.api_keys else who
    who = f"Listens on {settings.host}: other machines can call"
    if settings.api_keys:
        return f"{who}, with one of the configured keys"
    return f"{who} without a key; workflows are planned but not run until {keys} is set"


def _stop_with_stdin() -> None:
    sys.stdin.buffer.read()
    signal.raise_signal(signal.SIGTERM)
