"""What a provider cannot be told is named in the answer, where leaving it out does no harm."""

import asyncio
from pathlib import Path

import orjson
import pytest

from tests.running_server import ask
from tests.servers import Scripted, scripted
from tests.serving import serving

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 7,
    "model": "llama3.2",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    ],
}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("provider", "answer", "body", "dropped"),
    [
        ("anthropic", MESSAGE, {"seed": 7}, "seed"),
        ("ollama", COMPLETION, {"user": "u-1"}, "user"),
        ("ollama", COMPLETION, {}, None),
    ],
    ids=["translated", "relayed", "nothing"],
)
async def test_the_answer_names_the_fields_that_its_provider_was_not_told(
    tmp_path: Path, provider: str, answer: object, body: dict[str, object], dropped: str | None
) -> None:
    async with scripted(Scripted(pieces=(orjson.dumps(answer),))) as upstream:
        settings = {
            "provider": provider,
            "base_url": upstream.url,
            "provider_api_key": "sk-0123456",
        }
        async with serving(tmp_path, **settings) as url:
            given = await asyncio.to_thread(
                ask, url, "POST", "/v1/chat/completions", {**CHAT, "model": "m", **body}
            )
        assert given.status == 200
        assert given.headers.get("x-dropped-fields") == dropped
        assert not body.keys() & upstream.requests[0].json.keys()
