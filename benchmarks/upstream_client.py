"""CPU time of one call with our upstream client, and with plain aiohttp beside it.

    python -m benchmarks.upstream_client http://127.0.0.1:18290/v1/chat/completions
    python -m benchmarks.upstream_client --stream --calls 400 URL

The upstream is whatever answers `POST URL`: start a fake one on another core. With `--stream` the
body asks for a stream and the figures are for each event; whether events come joined or alone is
the upstream's doing. Both clients take turns in one process and loop, the least of the rounds
counts, and the time of the process alone is measured, so that other work on the machine, the
upstream's included, plays no part.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import click
import uvloop

from providers.upstream import RetryPolicy, Upstream, UpstreamCall

HEADERS = {
    "accept": "application/json, text/event-stream",
    "authorization": "Bearer sk-benchmark",
    "content-type": "application/json",
}
BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello."}]%b}'
STREAM = b',"stream":true'

Ask = Callable[[], Awaitable[int]]


async def main(arguments: argparse.Namespace) -> None:
    """Measure both clients in turn, and print a row for each."""
    body = BODY % (STREAM if arguments.stream else b"")
    upstream = Upstream()
    call = UpstreamCall(
        "benchmark", arguments.url, headers=HEADERS, body=body, retry=RetryPolicy(limit=0)
    )
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    )

    async def ask_with_ours() -> int:
        count = 0
        async with await upstream.request(call) as answer:
            while data := await answer.read():
                count += data.count(b"data: ")
        return count

    async def ask_with_aiohttp() -> int:
        count = 0
        async with session.post(arguments.url, data=body, headers=HEADERS) as answer:
            while data := await answer.content.readany():
                count += data.count(b"data: ")
        return count

    clients: dict[str, Ask] = {"aiohttp": ask_with_aiohttp, "ours": ask_with_ours}
    least: dict[str, float] = {}
    events = 0
    for _ in range(arguments.rounds):
        for name, ask in clients.items():
            seconds, events = await measure(ask, arguments.calls, arguments.parallel)
            least[name] = min(seconds, least.get(name, seconds))
    await session.close()
    await upstream.aclose()
    units = events if arguments.stream else arguments.calls
    unit = "event" if arguments.stream else "call"
    for name, seconds in least.items():
        ratio = least["aiohttp"] / seconds
        click.echo(f"{name:8} {seconds / units * 1e6:8.1f} us CPU/{unit}  {ratio:5.2f} x aiohttp")


async def measure(ask: Ask, calls: int, parallel: int) -> tuple[float, int]:
    """CPU seconds of this process for that many calls, and the events that came."""
    left = iter(range(calls))
    events = 0

    async def work() -> None:
        nonlocal events
        for _ in left:
            count = await ask()
            events += count

    # Connections are made, and caches filled, before the clock runs.
    await asyncio.gather(*(ask() for _ in range(parallel)))
    begun = time.process_time()
    await asyncio.gather(*(work() for _ in range(parallel)))
    return time.process_time() - begun, events


def parse(words: list[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description="CPU time of one upstream call, beside aiohttp's")
    parser.add_argument("url", help="what to post to")
    parser.add_argument("--stream", action="store_true", help="ask for streams, count events")
    parser.add_argument("--calls", type=int, default=5000, help="calls in a round (5000)")
    parser.add_argument("--parallel", type=int, default=32, help="calls at once (32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the least counts")
    return parser.parse_args(words)


if __name__ == "__main__":
    uvloop.run(main(parse(sys.argv[1:])))
