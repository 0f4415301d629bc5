"""`agent-server run FILE`: run a workflow file, show its steps, exit by its status."""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.text import Text

from agent_server.commands.definition_view import print_problems
from agent_server.commands.lazy import CommandError
from agent_server.commands.options import client_options, settings_of, with_options
from agent_server.commands.target import CallFailedError, client_key, running_url
from agent_server.commands.workflow_file import (
    file_argument,
    inputs_option,
    read_inputs,
    read_workflow,
)
from agent_server.conversation import AGENT_MODEL, Conversation, ConversationError
from agent_server.local_server import LocalServerError, local_server
from agent_server.server_client import ServerCallError, ServerClient
from agent_server.settings import Settings
from agent_server.terminal import StepView, plain, print_answer

# The rule-based planner takes a workflow as it is; no model reads it and no money is spent.
MODEL = f"{AGENT_MODEL}:offline/offline"


@click.command(short_help="Run a workflow file and show its steps.")
@file_argument
@with_options(inputs_option, *client_options)
@click.pass_obj
def run(
    faults_of: Callable[[str, Mapping[str, object]], Sequence[object]],
    *,
    file: Path,
    inputs: tuple[str, ...],
    url: str | None,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Run the workflow in FILE (YAML or JSON) and show its steps while they happen.

    It runs on the server that holds the data folder, or else on one that lives as long as this
    command. Where a step asks for a decision, the command waits for it. Ctrl-C cancels the run.
    Exit code 0 means that the workflow succeeded.
    """
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    definition, values = read_workflow(file), read_inputs(inputs)
    if faults := faults_of(definition, values):
        print_problems(faults, ())
        sys.exit(1)
    request = _request(definition, values)
    try:
        with _server(settings, url) as server_url:
            succeeded = _run(server_url, client_key(settings), request)
    except (ConversationError, LocalServerError, ServerCallError) as exc:
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


def _run(url: str, key: str | None, request: str) -> bool:
    """Send the request, show what happens; whether the workflow succeeded."""
    console = Console()
    view = StepView(console)
    conversation = Conversation(url, key, MODEL)
    client = ServerClient(url, key)
    try:
        reply = conversation.ask(request, view.show)
        if view.run_id is not None and view.status is None:
            # The answer ended where somebody has to decide; the run did not.
            for event in client.events(view.run_id, view.seq):
                view.show(event)
    except KeyboardInterrupt:
        if view.run_id is not None:
            client.call("POST", f"/v1/workflows/runs/{view.run_id}/cancel", {})
        raise
    finally:
        view.close()
        conversation.close()
    if view.run_id is None:
        print_answer(console, reply.text)
        return False
    answered = client.call("GET", f"/v1/workflows/runs/{view.run_id}")
    if outputs := answered.get("outputs"):
        text = orjson.dumps(outputs, option=orjson.OPT_INDENT_2).decode()
        console.print(Text(f"Outputs: {plain(text)}"), soft_wrap=True)
    if error := answered.get("error"):
        console.print(Text(plain(error), "red"), soft_wrap=True)
    console.print(Text(f"Run {view.run_id}", "dim"))
    return view.status == "success"


def _request(definition: str, inputs: Mapping[str, object]) -> str:
    """The message that asks for the run, with the definition in a fence that it cannot close."""
    longest = max((len(found) for found in re.findall("`+", definition)), default=0)
    fence = "`" * max(3, longest + 1)
    values = "".join(f" {name}={_quoted(name, str(value))}" for name, value in inputs.items())
    words = f"Run this workflow with{values}" if values else "Run this workflow"
    return f"{words}:\n\n{fence}yaml\n{definition}\n{fence}\n"


def _quoted(name: str, value: str) -> str:
    for quote in "\"'":
        if quote not in value and "\n" not in value:
            return f"{quote}{value}{quote}"
    raise CommandError(f"--input {name}: a value of one line, without both kinds of quotes")
