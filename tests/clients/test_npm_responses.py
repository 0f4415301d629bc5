"""The AI SDK's Responses provider, from 4 to 7, against the routes of responses."""

from pathlib import Path

import pytest

from agent_server.stored_responses.memory_store import MemoryResponseStore
from tests.agent_server.response_server import serving
from tests.npm_clients import found_by

pytestmark = [
    pytest.mark.npm,
    # The first test may have to install the packages.
    pytest.mark.timeout(240),
]


@pytest.mark.parametrize("major", ["4", "5", "6", "7"])
async def test_the_ai_sdk_streams_calls_tools_and_sees_failures(
    npm_clients: Path, major: str
) -> None:
    async with serving(MemoryResponseStore()) as server:
        found = await found_by("responses.mjs", major, server.url)
    ended = {"reasoning": "", "errors": [], "finishReason": "stop", "steps": 1}
    assert found["plain"] == {**ended, "text": "I heard user:hi"}
    assert found["workflow"] == {**ended, "text": "I heard user:hi"}
    assert found["generated"] == {"text": "I heard user:hi", "finishReason": "stop"}
    # AI SDK 4 sends no thinking back, and texts as JSON. The others refer to what is kept of it.
    result = '"seen Oslo", and the thought is broken'
    if major != "4":
        result = "seen Oslo, and the thought is whole"
    text = f"Let me look. {result}"
    assert found["tools"] == {**ended, "reasoning": "think", "text": text, "steps": 2}
    assert found["failure"]["text"] == "I heard user:hi"
    assert found["failure"]["errors"] == ["the line was cut"]
