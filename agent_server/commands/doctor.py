"""`agent-server doctor`: look at everything that can be wrong, and say the mend."""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from agent_server.commands.options import (
    config_option,
    data_dir_option,
    gateway_option,
    with_options,
)
from agent_server.commands.target import client_key
from agent_server.doctor import LOCAL_CHECKS, Finding
from agent_server.doctor_kubiya import check_kubiya
from agent_server.doctor_probes import check_backend, check_provider_answers, check_server
from agent_server.doctor_temporal import check_cluster
from agent_server.setting_names import SettingsError
from agent_server.settings import load_settings
from agent_server.terminal import plain

SIGNS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "broken": ("✗", "red")}


@click.command(short_help="Find what is wrong, and say the mend.")
@click.option("--provider", help="Provider to look at; else the configured one.")
@click.option("--model", help="Model to look for.")
@click.option("--base-url", help="Where the provider answers.")
@click.option("--host", help="Address that the server would listen on.")
@click.option("--port", type=int, help="Port that the server would listen on.")
@click.option("--url", help="Also look at this server, and at the proxy before it.")
@click.option("--offline", is_flag=True, help="Ask this machine alone, not the provider.")
@with_options(gateway_option, data_dir_option, config_option)
def doctor(*, url: str | None, offline: bool, data_dir: Path | None, **options: object) -> None:
    """Look at everything that can be wrong, and say the mend.

    With --url it also runs a one-second workflow there, to see whether events arrive as they
    happen. Exit code 1 means that something is broken.
    """
    # What the probes find wrong is told once, as a finding.
    logging.disable(logging.CRITICAL)
    console = Console()
    try:
        settings = load_settings(data_dir=data_dir, **options)
    except SettingsError as exc:
        mend = "correct it; docs/configuration.md lists every setting"
        sys.exit(_show(console, [Finding("Settings", "broken", str(exc), mend)]))
    broken = sum(_show(console, check(settings)) for check in LOCAL_CHECKS)
    broken += _show(console, check_cluster(settings))
    if not offline:
        broken += _show(console, check_provider_answers(settings))
        broken += _show(console, check_kubiya(settings))
    broken += _show(console, check_backend(settings))
    if url:
        broken += _show(console, check_server(url, client_key(settings)))
    console.print("Something is broken." if broken else "Nothing is broken.")
    sys.exit(1 if broken else 0)


def _show(console: Console, findings: Iterable[Finding]) -> int:
    """Print the findings as they come; give how many of them are broken."""
    broken = 0
    for finding in findings:
        sign, style = SIGNS[finding.state]
        line = Text.assemble((sign, style), f" {finding.title}: {plain(finding.detail)}")
        console.print(line, soft_wrap=True)
        if finding.mend:
            console.print(Text(f"    mend: {plain(finding.mend)}"), soft_wrap=True)
        broken += finding.state == "broken"
    return broken
