"""What the gateway keeps and holds up: `python -m benchmarks.memory`.

It starts the server as it is measured for speed, on loopback with an upstream of its own: how much
memory it takes idle, after many requests with errors and clients that leave, and with a thousand
streams at once; how long a large body keeps others waiting; what the start costs. Needs no harness.
"""

import asyncio
import contextlib
import itertools
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import click
import psutil

from benchmarks.figures import Figure, print_figures
from benchmarks.loopback import SLOW_EVENTS, Client, chat, upstream
from benchmarks.server import command, environment

MEBIBYTE: Final = 1024 * 1024
START_SECONDS: Final = 30.0
CONNECTIONS: Final = 32
WINDOWS: Final = 5
STREAMS: Final = 1000
LARGE_BYTES: Final = 5 * 1000 * 1000
LARGE_BODIES: Final = 10
# Of twenty requests: two fail, one is cut, one client leaves, the others are answered.
MIX: Final = (*["json"] * 10, *["stream"] * 6, "status-500", "status-400", "cut", "leave")


class Server:
    """The measured server as a child process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = psutil.Process(process.pid)

    @property
    def mebibytes(self) -> float:
        """The memory of the whole process tree."""
        family = [self._process, *self._process.children(recursive=True)]
        return sum(process.memory_info().rss for process in family) / MEBIBYTE

    @property
    def peak_mebibytes(self) -> float:
        """The most that the process has had; it has no children."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """What the process has used so far."""
        times = self._process.cpu_times()
        return times.user + times.system


@contextlib.asynccontextmanager
async def running(base_url: str, *, store: bool = True) -> AsyncIterator[Server]:
    """A server that answers."""
    with tempfile.TemporaryDirectory(prefix="agent-server-bench-") as folder:
        words = command(0, Path(folder), provider="openai", base_url=base_url)
        with (Path(folder) / "server.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own server, and it is quick
                words, stdout=subprocess.PIPE, stderr=log, env=environment(store=store)
            )
        try:
            yield Server(process, _port(process, Path(folder) / "server.log"))
        finally:
            process.terminate()
            process.wait(START_SECONDS)
            if process.stdout is not None:
                process.stdout.close()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    said, deadline = b"", time.monotonic() + START_SECONDS
    while process.stdout is not None and time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 1)[0]:
            piece = os.read(process.stdout.fileno(), 4096)
            said += piece
            if found := re.search(rb"answers at http://[^:\s]+:(\d+)", said):
                return int(found[1])
            if not piece:
                break
    raise click.ClickException(f"the server did not start:\n{log.read_text()}")


async def idle(base_url: str) -> list[Figure]:
    """What a server costs that nobody has asked anything."""
    async with running(base_url):
        pass  # The first start compiles the modules; every later one is what users wait for.
    async with running(base_url, store=False) as server:
        plain, cpu_seconds = server.mebibytes, server.cpu_seconds
    async with running(base_url) as server:
        with_store = server.mebibytes
    return [
        Figure("CPU seconds until it answers", cpu_seconds, 1.0, at_most=True),
        Figure("idle memory, MiB", plain, 70.0, at_most=True),
        Figure("idle memory with a store, MiB", with_store, 85.0, at_most=True),
    ]


async def growth(base_url: str, requests: int) -> list[Figure]:
    """How much more memory a server has after all requests than after the first windows."""
    async with running(base_url) as server:
        sizes = []
        for window in range(WINDOWS):
            await _mixed(server.port, requests // WINDOWS)
            sizes.append(server.mebibytes)
            click.echo(f"  {(window + 1) * requests // WINDOWS:,} requests: {sizes[-1]:.1f} MiB")
    return [
        Figure(
            "growth from window 2 to window 5, %",
            100 * (sizes[-1] / sizes[1] - 1),
            5.0,
            at_most=True,
        )
    ]


async def _mixed(port: int, requests: int) -> None:
    numbers = iter(range(requests))
    # Names of models that no upstream knows: what is kept for each must be bounded.
    bodies = {
        kind: chat("hang" if kind == "leave" else kind, stream=kind in {"stream", "cut", "leave"})
        for kind in MIX
    }

    async def one_after_the_other() -> None:
        client = Client(port)
        for number in numbers:
            kind = MIX[number % len(MIX)]
            leave_after = 200 if kind == "leave" else None
            status, _ = await client.ask(bodies[kind], leave_after=leave_after)
            if kind in {"json", "stream"} and status != 200:
                raise click.ClickException(f"a {kind} request was answered with {status}")
        client.close()

    await asyncio.gather(*(one_after_the_other() for _ in range(CONNECTIONS)))


async def streams(base_url: str) -> list[Figure]:
    """A thousand slow streams at once."""
    async with running(base_url) as server:
        body = chat("slow", stream=True)
        answers = await asyncio.gather(*(Client(server.port).ask(body) for _ in range(STREAMS)))
        peak = server.peak_mebibytes
    whole = [
        data
        for status, data in answers
        if status == 200 and data.count(b"words") == SLOW_EVENTS and b"[DONE]" in data
    ]
    return [
        Figure(f"of {STREAMS} slow streams not whole", STREAMS - len(whole), 0, at_most=True),
        Figure(f"most memory with {STREAMS} streams, MiB", peak, 140.0, at_most=True),
    ]


async def large_bodies(base_url: str) -> list[Figure]:
    """How long others wait while a body of 5 MB is taken.

    Of several bodies the one with the shortest wait counts: other programs only ever add to it.
    """
    image = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "A" * LARGE_BYTES},
    }
    text = 'Words and "quotes" of a long conversation. ' * (LARGE_BYTES // 46)
    contents = {"image": [image], "text": text}
    figures = []
    async with running(base_url) as server:
        for name, content in contents.items():
            body = chat("json", content)
            waits = [await _longest_wait(server.port, body) for _ in range(LARGE_BODIES)]
            figure = min(waits) * 1000
            label = f"longest wait beside a body of 5 MB ({name}), ms"
            figures.append(Figure(label, figure, 20.0, at_most=True))
    return figures


async def _longest_wait(port: int, body: bytes) -> float:
    """The longest time of a health check while another process posts the body."""
    poster = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.post", str(port), stdin=asyncio.subprocess.PIPE
    )
    probe, longest = Client(port), 0.0
    posting = asyncio.create_task(poster.communicate(body))
    while not posting.done():
        began = time.perf_counter()
        await probe.health()
        longest = max(longest, time.perf_counter() - began)
        await asyncio.sleep(0.001)
    probe.close()
    if poster.returncode:
        raise click.ClickException("the large body was not answered")
    return longest


Part = Callable[[str], Awaitable[list[Figure]]]


@click.command()
@click.option("--requests", default=50_000, show_default=True, help="Mixed requests of the growth.")
@click.option("--only", help="One of: idle, growth, streams, bodies.")
def main(requests: int, only: str | None) -> None:
    """Measure what the gateway keeps; the exit code is 1 if a target is missed."""
    parts: dict[str, Part] = {
        "idle": idle,
        "growth": lambda base_url: growth(base_url, requests),
        "streams": streams,
        "bodies": large_bodies,
    }
    chosen = [parts[only]] if only else list(parts.values())
    print_figures(asyncio.run(_measure(chosen)))


async def _measure(parts: list[Part]) -> list[Figure]:
    async with upstream() as base_url:
        return list(itertools.chain(*[await part(base_url) for part in parts]))


if __name__ == "__main__":
    main()
