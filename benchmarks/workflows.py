"""How soon what happens in a run is seen, and how soon a cancel has ended it.

`python -m benchmarks.workflows` starts the whole server as `serve` does, with its backend as a
child process, and asks it over HTTP. The lag of an event is the time between the moment that it
carries, when the engine took it, and its arrival at the client: the way through the journal, MCP
over stdio and SSE. A cancel is measured from its request until no process of the step is alive.
"""

import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
import click
import orjson
import psutil

from benchmarks.figures import Figure, print_figures
from benchmarks.server import KEPT_VARIABLES, ROOT

RUNS: Final = "/v1/workflows/runs"
CHAIN_STEPS: Final = 100
START_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 5.0
HONOURS: Final = 'sleep "$WORD" & sleep "$WORD" & echo up; wait'
IGNORES: Final = """trap '' TERM; sleep "$WORD" & echo up; while :; do sleep "$WORD"; done"""


@asynccontextmanager
async def server() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a server of its own, which ends with it."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}  # noqa: TID251
    with tempfile.TemporaryDirectory(prefix="bench-workflows-") as folder:
        words = ["serve", "--port", "0", "--data-dir", folder, "--provider", "offline"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent_server", *words),
            env={**environment, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "ERROR"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            url = await _url_of(Path(folder))
            async with aiohttp.ClientSession(url) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def _url_of(folder: Path) -> str:
    """Where the server answers, once it is ready."""
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as client:
        while True:
            try:
                url = orjson.loads((folder / "server.lock").read_bytes())["url"]
                async with client.get(f"{url}/health/ready") as answer:
                    if answer.status == 200:
                        return str(url)
            except (OSError, ValueError, KeyError, aiohttp.ClientError):
                pass
            await asyncio.sleep(0.05)


async def start(client: aiohttp.ClientSession, steps: list[dict[str, Any]]) -> str:
    """The id of a run that was begun."""
    body = {"workflow": {"name": "bench", "steps": steps}}
    async with client.post(RUNS, json=body) as answer:
        answer.raise_for_status()
        return str((await answer.json())["run_id"])


async def events(
    client: aiohttp.ClientSession, run_id: str
) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    """Each event of the run, with the moment at which it came."""
    async with client.get(f"{RUNS}/{run_id}/events") as answer:
        async for line in answer.content:
            if line.startswith(b"data: {"):
                yield time.time(), orjson.loads(line[6:])


async def measure_lag(client: aiohttp.ClientSession) -> list[float]:
    """The seconds that the events of a chain of short steps take to the client."""
    steps = [
        {"name": f"s{number}", "run": ":", "depends": [f"s{number - 1}"] if number else []}
        for number in range(CHAIN_STEPS)
    ]
    run_id = await start(client, steps)
    return [
        came - datetime.fromisoformat(event["time"]).timestamp()
        async for came, event in events(client, run_id)
        if str(event.get("type", "")).startswith("step_")
    ]


async def measure_cancel(client: aiohttp.ClientSession, script: str) -> float:
    """The seconds from a cancel's request until every process of the step is gone."""
    word = f"9{uuid4().int % 10**8}"
    run_id = await start(client, [{"name": "a", "run": script, "env": {"WORD": word}}])
    async for _, event in events(client, run_id):
        if event.get("type") == "step_output":
            break
    began = time.perf_counter()
    cancelling = asyncio.create_task(_cancel(client, run_id))
    ended = await asyncio.to_thread(_wait_for_end, word)
    await cancelling
    return ended - began


async def _cancel(client: aiohttp.ClientSession, run_id: str) -> None:
    async with client.post(f"{RUNS}/{run_id}/cancel", json={}) as answer:
        answer.raise_for_status()


def _wait_for_end(word: str) -> float:
    """The moment at which no process has the word on its command line any more."""
    alive = [
        process
        for process in psutil.process_iter(["cmdline"])
        if word in (process.info["cmdline"] or ())
    ]
    psutil.wait_procs(alive, timeout=60)
    return time.perf_counter()


async def measure_all(rounds: int) -> list[Figure]:
    """The figures beside their targets."""
    async with server() as client:
        lags = [lag for _ in range(rounds) for lag in await measure_lag(client)]
        honoured = [await measure_cancel(client, HONOURS) for _ in range(rounds)]
        ignored = await measure_cancel(client, IGNORES)
    click.echo(f"{len(lags)} events; the slowest of a hundred takes {_percentile(lags, 99):.1f} ms")
    return [
        Figure("a step's event to the HTTP client, p50, ms", _percentile(lags, 50), 10, True),
        Figure("cancel to dead group, longest, ms", 1000 * max(honoured), 100, True),
        Figure(
            "cancel to dead group that ignores TERM, ms over the grace",
            1000 * (ignored - GRACE_SECONDS),
            100,
            True,
        ),
    ]


def _percentile(seconds: list[float], percent: int) -> float:
    return 1000 * statistics.quantiles(seconds, n=100)[percent - 1]


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Chains and cancels to measure.")
def main(*, rounds: int) -> None:
    """Measure how soon a run is seen and ended."""
    print_figures(asyncio.run(measure_all(rounds)))


if __name__ == "__main__":
    main()
