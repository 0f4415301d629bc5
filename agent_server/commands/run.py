"""`agent-server run FILE`: run a workflow file, show its steps, exit by its status."""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from agent_server.commands.options import client_options, settings_of, with_options
from agent_server.commands.target import CallFailedError, client_key, running_url
from agent_server.commands.workflow_file import file_argument, read_workflow
from agent_server.conversation import AGENT_MODEL, Conversation, ConversationError
from agent_server.local_server import LocalServerError, local_server
from agent_server.settings import Settings
from agent_server.terminal import StepView, print_answer

# The rule-based planner takes a workflow as it is; no model reads it and no money is spent.
MODEL = f"{AGENT_MODEL}:offline/planner"


@click.command(short_help="Run a workflow file and show its steps.")
@file_argument
@with_options(*client_options)
def run(*, file: Path, url: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Run the workflow in FILE (YAML or JSON) and show its steps while they happen.

    It runs on the server that holds the data folder, or else on one that lives as long as this
    command. Ctrl-C cancels the run. Exit code 0 means that the workflow succeeded.
    """
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    text = read_workflow(file)
    try:
        with _server(settings, url) as server_url:
            succeeded = _run(server_url, client_key(settings), text)
    except (ConversationError, LocalServerError) as exc:
        raise CallFailedError(str(exc)) from None
    sys.exit(0 if succeeded else 1)


@contextmanager
def _server(settings: Settings, url: str | None) -> Iterator[str]:
    url = url or running_url(settings)
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="agent-server-run-") as folder:
        log_path = Path(folder) / "log"
        with local_server(settings.data_dir, settings.backend_environment(), log_path) as url:
            yield url


def _run(url: str, key: str | None, text: str) -> bool:
    console = Console()
    view = StepView(console)
    conversation = Conversation(url, key, MODEL)
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    try:
        reply = conversation.ask(f"Run this workflow:\n\n{fence}yaml\n{text}\n{fence}\n", view.show)
    finally:
        view.close()
        conversation.close()
    console.print()
    print_answer(console, reply.text)
    return view.status == "success"
