"""The response cache through the whole server: a hit is a miss again, and costs nothing."""

import asyncio
import re
from pathlib import Path

import orjson
import pytest

from agent_server.accounts.keys import digest_of
from tests.conftest import ALICE, BOB
from tests.running_server import Answer, ask
from tests.servers import Scripted, scripted
from tests.serving import serving

SSE = {"content-type": "text/event-stream"}
KEYS = " ".join(
    f"{name}=sha256:{digest_of(key)};scopes=chat+admin" for name, key in (("a", ALICE), ("b", BOB))
)


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    data = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-real"}
    return b"data: " + orjson.dumps({**data, "choices": [choice]}) + b"\n\n"


STREAM = (chunk("Hel"), chunk("lo", "stop"), b"data: [DONE]\n\n")
WHOLE = orjson.dumps(
    {
        "id": "up-2",
        "object": "chat.completion",
        "created": 7,
        "model": "gpt-real",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
)


async def asked(url: str, key: str, *, stream: bool, text: str = "hi") -> Answer:
    body = {
        "model": "gpt-real",
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
    }
    headers = {"authorization": f"Bearer {key}"}
    return await asyncio.to_thread(ask, url, "POST", "/v1/chat/completions", body, headers)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_the_same_request_of_the_same_key_is_answered_from_the_cache(
    tmp_path: Path, *, stream: bool
) -> None:
    answer = Scripted(pieces=STREAM, headers=SSE) if stream else Scripted(pieces=(WHOLE,))
    async with scripted(answer) as upstream:
        settings = {
            "provider": "openai",
            "base_url": f"{upstream.url}/v1",
            "provider_api_key": "sk-upstream-key-0123456789",
            "api_keys": KEYS,
            "cache": "memory",
        }
        async with serving(tmp_path, **settings) as url:
            miss = await asked(url, ALICE, stream=stream)
            hit = await asked(url, ALICE, stream=stream)
            assert (miss.headers["x-cache"], hit.headers["x-cache"]) == ("miss", "hit")
            assert hit.body == miss.body
            assert hit.headers["content-type"] == miss.headers["content-type"]
            assert len(upstream.requests) == 1
            other = await asked(url, BOB, stream=stream)
            changed = await asked(url, ALICE, stream=stream, text="ho")
            assert (other.headers["x-cache"], changed.headers["x-cache"]) == ("miss", "miss")
            metrics = await asyncio.to_thread(
                ask, url, "GET", "/metrics", None, {"authorization": f"Bearer {ALICE}"}
            )
    assert b'agent_server_cache_requests_total{result="hit"} 1.0' in metrics.body
    assert re.search(rb'requests_total\{[^}]*outcome="cached"[^}]*\} 1.0', metrics.body)


async def test_an_answer_that_was_cut_is_not_kept(tmp_path: Path) -> None:
    async with scripted(Scripted(pieces=STREAM[:1], headers=SSE, ending="cut")) as upstream:
        settings = {
            "provider": "openai",
            "base_url": f"{upstream.url}/v1",
            "provider_api_key": "sk-upstream-key-0123456789",
            "cache": "memory",
            "max_retries": 0,
        }
        async with serving(tmp_path, **settings) as url:
            for _ in range(2):
                cut = await asked(url, ALICE, stream=True)
                assert cut.headers["x-cache"] == "miss"
                assert b'"error"' in cut.body
            assert len(upstream.requests) == 2
