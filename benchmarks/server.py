"""The gateway as it is measured: everything that a caller is charged for, on.

`python -m benchmarks.server --port 8000 --base-url http://127.0.0.1:18200/v1` writes the files that
such a server needs into a folder of its own and then becomes the server, so that a harness which
started it holds the server's own process. The caller's key is `KEY`, the one of the harness.
"""

import hashlib
import os
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-bench-master"
MODEL = "gpt-4o-mini"
# Checked for each request, and never reached.
LIMITS = "rpm=1000000000;tpm=1000000000;parallel=100000;budget_day=100000;budget_month=100000"
# What the machine's own environment must not decide.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


def command(port: int, folder: Path, *, provider: str, base_url: str) -> list[str]:
    """The command line of the server."""
    options = {
        "--port": str(port),
        "--data-dir": str(folder / "data"),
        "--provider": provider,
        "--base-url": base_url,
        "--model": MODEL,
    }
    words = [word for option in options.items() for word in option]
    return [sys.executable, "-m", "agent_server", "serve", "--no-agent", *words]


def environment(*, store: bool = True) -> dict[str, str]:
    """The whole environment of the server: one caller's key, and a log as collectors want it.

    With a store, the usage of every call is written into it.
    """
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}  # noqa: TID251
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "AGENT_SERVER_API_KEYS": f"bench=sha256:{digest};scopes=chat+admin;{LIMITS}",
        "AGENT_SERVER_DATABASE_URL": "sqlite" if store else "",
        "AGENT_SERVER_MAX_CONCURRENT_REQUESTS": "4096",
        "AGENT_SERVER_UNKNOWN_PRICE": "charge",
        "OPENAI_API_KEY": "sk-upstream",
        "ANTHROPIC_API_KEY": "sk-upstream",
        "LOG_FORMAT": "json",
    }


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--provider", default="openai", show_default=True)
@click.option("--base-url", required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
def main(port: int, provider: str, base_url: str, folder: Path) -> None:
    """Become the measured server."""
    folder.mkdir(parents=True, exist_ok=True)
    words = command(port, folder, provider=provider, base_url=base_url)
    os.execve(words[0], words, environment())  # noqa: S606 - our own interpreter


if __name__ == "__main__":
    main()
