"""The options that several commands share, and the settings that come of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent_server.commands.lazy import CommandError
from agent_server.provider_choice import ProviderChoice, ProviderChoiceError, choose_provider
from agent_server.setting_names import SettingsError
from agent_server.settings import Settings, load_settings
from providers.rows import ROWS

Command = TypeVar("Command", bound=Callable[..., Any])
LONGEST_KEY_FILE = 10_000

config_option = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="TOML file of settings."
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the journal and the lock file are."
)
gateway_option = click.option(
    "--gateway-config",
    type=click.Path(path_type=Path),
    help="YAML file of named models and their routes.",
)
client_options = (
    click.option("--url", help="Server to call; else the one that holds the data folder."),
    data_dir_option,
    config_option,
)
server_options = (
    click.option(
        "--provider", help="openai, anthropic, together, groq, ollama, offline, ... or auto."
    ),
    click.option("--model", help="Model of the provider; else the provider's default."),
    click.option("--port", type=int, help="Port to listen on (8000); 0 takes a free one."),
    click.option("--host", help="Address to listen on."),
    click.option(
        "--api-key", help="Key of the provider. It shows in the process list: prefer the file."
    ),
    click.option(
        "--api-key-file",
        type=click.Path(path_type=Path),
        help="File that holds the provider's key.",
    ),
    click.option("--base-url", help="Where the provider answers."),
    gateway_option,
    click.option(
        "--allowed-host", multiple=True, help="Name by which clients may call; may be repeated."
    ),
    click.option("--engine", help="Engine of new runs: journal, temporal or kubiya."),
    click.option(
        "--agent/--no-agent", default=None, help="Serve the workflow agent (the default)."
    ),
    data_dir_option,
    config_option,
)


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Put several options on a command, shown in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def settings_of(**options: object) -> Settings:
    """The settings, with options before everything else; a wrong one ends the command."""
    try:
        return load_settings(**options)
    except SettingsError as exc:
        raise CommandError(str(exc)) from None


def server_settings(
    *,
    api_key: str | None,
    api_key_file: Path | None,
    allowed_host: tuple[str, ...],
    **options: object,
) -> Settings:
    """The settings of a server from its options."""
    if api_key is not None and api_key_file is not None:
        raise CommandError("give --api-key or --api-key-file, not both")
    if api_key is not None:
        click.echo(
            "warning: --api-key shows in the process list; use --api-key-file, or the provider's "
            f"variable, such as {ROWS['openai'].key_variables[0]}",
            err=True,
        )
    if api_key_file is not None:
        api_key = _read_key(api_key_file)
    return settings_of(provider_api_key=api_key, allowed_hosts=allowed_host or None, **options)


def provider_of(settings: Settings) -> ProviderChoice:
    """The provider that these settings come to."""
    try:
        return choose_provider(settings)
    except ProviderChoiceError as exc:
        raise CommandError(str(exc)) from None


def _read_key(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            key = file.read(LONGEST_KEY_FILE).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"--api-key-file: cannot read {path}: {exc}") from None
    if not key or len(key.split()) > 1:
        raise CommandError(f"--api-key-file: {path} must hold one key and nothing else")
    return key
