"""Posts its standard input to the chat door of a server on loopback; fails if that is refused."""

import asyncio
import sys

from benchmarks.loopback import Client

if __name__ == "__main__":
    status, _ = asyncio.run(Client(int(sys.argv[1])).ask(sys.stdin.buffer.read()))
    sys.exit(status != 200)
