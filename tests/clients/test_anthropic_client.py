"""The format `messages` as Anthropic's TypeScript SDK reads it."""

from pathlib import Path

import pytest

from streaming.errors import UpstreamOverloadedError
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder
from tests.npm_clients import found_by
from tests.servers import scripted
from tests.streaming.test_messages_sdk import EVENTS, HEAD, STEP, answer

# The first test may have to install the packages.
pytestmark = [pytest.mark.npm, pytest.mark.timeout(240)]


async def test_the_sdk_reads_answers_and_failures(npm_clients: Path) -> None:
    del npm_clients
    failed = MessagesEncoder(HEAD).fail(UpstreamOverloadedError("Full."))
    async with scripted(answer()) as whole, scripted(answer(failed)) as broken:
        found = await found_by("anthropic-client.mjs", whole.url, broken.url)
    body = MessageBody(HEAD)
    for event in EVENTS:
        body.add(event)
    expected = body.body()
    assert expected.pop("workflow_events")
    assert found["helper"]["text"] == "Hello"
    assert found["helper"]["message"] == {**expected, "parsed_output": None}
    assert found["helper"]["blocks"] == ["thinking", "text", "tool_use"]
    workflow = [event for event in found["raw"] if event["type"] == "workflow_event"]
    assert [event["workflow_event"] for event in workflow] == [STEP.data] * 3
    for failure in (found["rawFailure"], found["helperFailure"]):
        assert failure == {"isAPIError": True, "type": "overloaded_error"}
