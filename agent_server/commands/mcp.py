"""`agent-server mcp`: the workflow backend as an MCP server over stdio."""

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


@click.command(short_help="Run the workflow backend as an MCP server over stdio.")
@with_options(data_dir_option, config_option)
def mcp(*, data_dir: Path | None, config_file: Path | None) -> None:
    """Run the workflow backend as an MCP server over stdio, for any MCP client.

    It takes the place of this process, and gets no provider's key.
    """
    settings = settings_of(data_dir=data_dir, config_file=config_file)
    command = [sys.executable, "-m", "workflow_backend"]
    os.execve(command[0], command, settings.backend_environment())  # noqa: S606
