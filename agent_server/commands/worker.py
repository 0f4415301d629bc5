"""`agent-server worker`: makes steps of workflows for a server on another machine, by Temporal."""

import os
import sys
from pathlib import Path

import click

from agent_server.commands.options import (
    config_option,
    data_dir_option,
    settings_of,
    with_options,
)


@click.command(short_help="Make steps for a server elsewhere, by Temporal.")
@click.option(
    "--task-queue", required=True, help="Task queue to poll: what `runner` of a workflow names."
)
@click.option("--max-steps", type=click.IntRange(1, 1000), help="Steps at the same time (16).")
@click.option(
    "--grace-seconds",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="How long steps may go on after SIGTERM; the rest is made again elsewhere.",
)
@with_options(data_dir_option, config_option)
def worker(
    *,
    task_queue: str,
    max_steps: int | None,
    grace_seconds: float,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Poll a task queue of Temporal and make the steps that servers put there.

    It takes the place of this process, prints one line when it polls, and ends at SIGTERM. It needs
    TEMPORAL_HOST, or the data folder of a server that runs the dev server on this machine; it gets
    no provider's key.
    """
    settings = settings_of(data_dir=data_dir, config_file=config_file, max_steps=max_steps)
    command = [
        sys.executable, "-m", "workflow_backend.engines.temporal.worker",
        "--task-queue", task_queue, "--grace-seconds", str(grace_seconds),
    ]  # fmt: skip
    os.execve(command[0], command, settings.backend_environment())  # noqa: S606
