"""What a warm request asks of the database: nothing, and of one that is gone nothing either."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Engine, event

from agent_server.accounts.keys import digest_of, parse_api_keys
from tests.serving import serving

ROOT = f"as-{'r' * 40}"
CHAT = "/v1/chat/completions"
CALLS = 50
# A refresh of what is cached may come in between, on a slow machine.
MOST_READS = 2


@contextlib.contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that the process sends to any database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def reads(sent: list[str]) -> list[str]:
    """Those that look up a key or its spend; rows of usage are written behind the calls."""
    return [text for text in sent if text.startswith("SELECT") and "FROM usage" not in text]


async def ask(web: aiohttp.ClientSession, url: str, key: str) -> int:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    async with web.post(url + CHAT, json=body, headers={"x-api-key": key}) as answer:
        await answer.read()
        return answer.status


async def new_key(web: aiohttp.ClientSession, url: str, **fields: Any) -> str:
    headers = {"x-api-key": ROOT}
    async with web.post(f"{url}/v1/keys", json=fields, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["key"])


@pytest.fixture
def settings() -> dict[str, Any]:
    return {
        "database_url": "sqlite",
        "api_keys": parse_api_keys([f"root=sha256:{digest_of(ROOT)};scopes=admin"]),
        "model": "offline/offline",
    }


async def test_a_warm_request_reads_nothing_from_the_database(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with serving(tmp_path, **settings) as url, aiohttp.ClientSession() as web:
        key = await new_key(
            web, url, name="warm", scopes=["chat"], budget_per_day=5, requests_per_minute=1000
        )
        with statements() as cold:
            assert await ask(web, url, key) == 200
        with statements() as warm:
            assert [await ask(web, url, key) for _ in range(CALLS)] == [200] * CALLS
    assert reads(cold)
    assert len(reads(warm)) <= MOST_READS


async def test_a_key_that_nobody_knows_costs_the_database_one_read(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with serving(tmp_path, **settings) as url, aiohttp.ClientSession() as web:
        with statements() as sent:
            assert [await ask(web, url, "bogus") for _ in range(CALLS)] == [401] * CALLS
    assert 0 < len(reads(sent)) <= MOST_READS


async def test_a_database_that_is_gone_stops_no_key_that_was_used(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with serving(tmp_path, **settings) as url, aiohttp.ClientSession() as web:
        key = await new_key(web, url, name="warm", scopes=["chat"], budget_per_day=5)
        assert await ask(web, url, key) == 200

        def refuse(*_: Any) -> None:
            raise OSError("the disk is gone")

        event.listen(Engine, "before_cursor_execute", refuse)
        try:
            assert [await ask(web, url, key) for _ in range(CALLS)] == [200] * CALLS
        finally:
            event.remove(Engine, "before_cursor_execute", refuse)
