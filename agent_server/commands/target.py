"""Which server a command calls: the one of `--url`, or the one that holds the data folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from agent_server.commands.lazy import CommandError
from agent_server.commands.options import settings_of
from agent_server.data_dir import owner_of
from agent_server.server_client import ServerCallError, ServerClient
from agent_server.settings import Settings, variable_of


class CallFailedError(click.ClickException):
    """The server refused, or did not answer: exit code 1."""


def running_url(settings: Settings) -> str | None:
    """The URL of the server that holds the data folder, if there is one."""
    owner = owner_of(settings.data_dir)
    if owner is not None and not owner.url:
        raise CommandError(f"a server just starts on {settings.data_dir}; try again in a moment")
    return owner.url if owner else None


def client_key(settings: Settings) -> str | None:
    """The caller's key for a server with keys."""
    return settings.client_key.get_secret_value() if settings.client_key else None


def target_of(
    url: str | None, data_dir: Path | None, config_file: Path | None
) -> tuple[str, str | None]:
    """The URL to call and the key to call with."""
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    url = url or running_url(settings)
    if url is None:
        raise CommandError(
            f"no server runs on {settings.data_dir}; start one with `agent-server serve`, "
            "or name one with --url"
        )
    return url, client_key(settings)


def client_of(url: str | None, data_dir: Path | None, config_file: Path | None) -> ServerClient:
    """A client of the server to call."""
    return ServerClient(*target_of(url, data_dir, config_file))


@contextmanager
def explained() -> Iterator[None]:
    """A call that fails ends the command with what the server said, and the mend."""
    try:
        yield
    except ServerCallError as exc:
        raise explain(str(exc), exc.status) from None


def explain(message: str, status: int = 0) -> CallFailedError:
    """The failure of a call, with the mend where the status tells it."""
    if status == 401:
        message += f"; put your key into {variable_of('client_key')}"
    return CallFailedError(message)
