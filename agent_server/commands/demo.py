"""`agent-server demo`: the whole way, from plain words to a workflow that ran, in seconds."""

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from agent_server.conversation import Conversation, ConversationError
from agent_server.local_server import LocalServerError, local_server
from agent_server.settings import child_environment
from agent_server.terminal import StepView, print_answer

REQUEST = "Create and run a system health check"


@click.command(short_help="Run a system health check on a server of its own.")
def demo() -> None:
    """Start a server, ask it for a system health check, show the steps, and stop it.

    The provider is the rule-based `offline`, on a free port with a temporary data folder: no key
    is read and no money spent. Exit code 0 means that the workflow ran to its end.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="agent-server-demo-") as folder:
        data_dir = Path(folder) / "data"
        try:
            with local_server(data_dir, child_environment(), Path(folder) / "log") as url:
                console.print(f"[dim]Server at {url}, provider offline (rule-based, no LLM)[/dim]")
                console.print(f"[bold]You:[/bold] {REQUEST}\n")
                succeeded = _ask(console, url)
        except LocalServerError as exc:
            console.print(f"Demo failed: {exc}", markup=False)
            sys.exit(1)
    console.print("[dim]Server stopped.[/dim]")
    sys.exit(0 if succeeded else 1)


def _ask(console: Console, url: str) -> bool:
    view = StepView(console)
    conversation = Conversation(url, None)
    try:
        reply = conversation.ask(REQUEST, view.show)
    except ConversationError as exc:
        console.print(f"Demo failed: {exc}", markup=False)
        return False
    finally:
        view.close()
        conversation.close()
    console.print()
    print_answer(console, reply.text)
    return view.status == "success" and reply.finish_reason == "stop" and bool(reply.text.strip())
