"""One of several servers that share limits: admits as many calls as it can, and tells how many.

    python limited_process.py REDIS_URL CALLS KEY_FIELDS(JSON) ASK(JSON)

It prints "ready", waits for a line on stdin, and prints the number of calls admitted; their
reservations stay until a second line comes.
"""

import asyncio
import json
import sys
from typing import Any

from agent_server.accounts.keys import api_key_from_fields
from agent_server.accounts.limits import Ask, Limits
from agent_server.accounts.redis_limits import RedisPool
from agent_server.log_config import configure_logging
from streaming.errors import RateLimitError


async def main(url: str, calls: int, fields: dict[str, Any], ask: Ask) -> None:
    configure_logging()
    pool = RedisPool(url)
    limits = Limits(pool=pool)
    await pool.start()
    assert limits.scope == "shared"
    key = api_key_from_fields({"name": "alice", "sha256": "a" * 64, **fields})
    print("ready", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    admitted = 0
    for _ in range(calls // 20):
        found = await asyncio.gather(
            *(limits.admit(key, ask) for _ in range(20)), return_exceptions=True
        )
        admitted += sum(not isinstance(one, RateLimitError) for one in found)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, RateLimitError):
                raise one
    print(admitted, flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    await pool.stop()


if __name__ == "__main__":
    given = sys.argv
    asyncio.run(main(given[1], int(given[2]), json.loads(given[3]), Ask(*json.loads(given[4]))))
