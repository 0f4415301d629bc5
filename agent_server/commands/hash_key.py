"""`agent-server hash-key`: an entry for `AGENT_SERVER_API_KEYS`, for a new key or a given one."""

import sys

import click

from agent_server.accounts.keys import ApiKey, digest_of, make_raw_key, parse_api_keys, parse_scopes
from agent_server.commands.lazy import CommandError

SHORTEST_KEY = 16


@click.command("hash-key", short_help="Make an entry for AGENT_SERVER_API_KEYS.")
@click.option("--name", default="client", show_default=True, help="Name of the key, and its owner.")
@click.option("--owner", help="Owner of its runs, if it is not the key's own name.")
@click.option(
    "--scopes", default="chat+run", show_default=True, help="Of chat, run, approve, admin."
)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the key instead of making one.")
def hash_key(*, name: str, owner: str | None, scopes: str, from_stdin: bool) -> None:
    """Make a key and its entry for AGENT_SERVER_API_KEYS.

    A new key goes to stderr and is shown this once; the entry goes to stdout. The server keeps the
    entry, which does not lead back to the key.
    """
    raw_key = sys.stdin.readline().strip() if from_stdin else make_raw_key()
    if len(raw_key) < SHORTEST_KEY:
        raise CommandError(f"a key has at least {SHORTEST_KEY} characters")
    try:
        entry = ApiKey(name, digest_of(raw_key), parse_scopes(scopes), owner or name).entry()
        parse_api_keys([entry])
    except ValueError as exc:
        raise CommandError(str(exc)) from None
    if not from_stdin:
        click.echo(f"Key (give it to the caller; it is not kept): {raw_key}", err=True)
    click.echo(entry)
