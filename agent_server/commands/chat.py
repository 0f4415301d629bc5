"""`agent-server chat`: talk to a running server, once or for as long as you like."""

import sys
from pathlib import Path

import click
from rich.console import Console

from agent_server.commands.options import client_options, with_options
from agent_server.commands.target import CallFailedError, target_of
from agent_server.conversation import AGENT_MODEL, Conversation, ConversationError
from agent_server.terminal import StepView, plain

FAREWELLS = frozenset({"exit", "quit"})


@click.command(short_help="Talk to a running server.")
@click.argument("text", required=False)
@click.option("--model", default=AGENT_MODEL, show_default=True, help="Model to talk to.")
@with_options(*client_options)
def chat(
    *,
    text: str | None,
    model: str,
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Talk to a running server: send TEXT and print the answer, or talk until `exit`.

    TEXT may also come on stdin.
    """
    conversation = Conversation(*target_of(url, data_dir, config_file), model)
    console = Console()
    try:
        if text is None and not sys.stdin.isatty():
            text = sys.stdin.read()
        if text is None:
            _talk(console, conversation)
        elif not text.strip():
            raise click.UsageError("there is no text to send")
        else:
            _ask(console, conversation, text)
    except ConversationError as exc:
        raise CallFailedError(str(exc)) from None
    finally:
        conversation.close()


def _talk(console: Console, conversation: Conversation) -> None:
    console.print("[dim]Say what you want; `exit` or Ctrl-D ends.[/dim]")
    while True:
        try:
            text = console.input("[bold]You:[/bold] ").strip()
        except EOFError:
            return
        if text.lower() in FAREWELLS:
            return
        if not text:
            continue
        try:
            _ask(console, conversation, text)
        except ConversationError as exc:
            console.print(f"The server failed: {exc}", style="red", markup=False)


def _ask(console: Console, conversation: Conversation, text: str) -> None:
    view = StepView(console)
    try:
        conversation.ask(text, view.show, lambda delta: click.echo(plain(delta), nl=False))
    finally:
        view.close()
    click.echo()
