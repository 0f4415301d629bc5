"""Runs the real command line as a child process."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND_SECONDS = 25.0
AGENT_SERVER = ("-m", "agent_server")
KUBIYA = ("-c", "from agent_server.cli import kubiya; kubiya(prog_name='kubiya')")


def clean_environment(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which no key and no server of this machine counts."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "COLUMNS": "200",
        # A port of loopback where nothing listens, so that `auto` finds no Ollama.
        "OLLAMA_HOST": "127.0.0.1:9",
        **(variables or {}),
    }


def run_command(
    home: Path,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    program: tuple[str, ...] = AGENT_SERVER,
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    """What a command came to; `text` is its stdin, `home` its home folder."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        env=clean_environment(home, variables),
        check=False,
    )
