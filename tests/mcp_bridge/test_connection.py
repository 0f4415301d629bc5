"""Calls over a session: results, errors, progress, cancelling, in both eras of the protocol."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from mcp_bridge import Bridge
from streaming.errors import BridgeProtocolError
from tests.mcp_bridge.bridges import child_spec, counts, held_calls, running, sdk_spec

ERAS = {"legacy": "2025-11-25", "modern": "2026-07-28"}


@pytest.fixture(params=ERAS)
async def bridge(request: pytest.FixtureRequest) -> AsyncIterator[Bridge]:
    async with running(child_spec("--era", request.param, mode="auto")) as bridge:
        assert bridge.status()[0].protocol_version == ERAS[request.param]
        yield bridge


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk_bridge() -> AsyncIterator[Bridge]:
    async with running(sdk_spec(max_in_flight=500)) as bridge:
        yield bridge


async def test_a_tool_is_called_in_either_era(bridge: Bridge) -> None:
    assert (await bridge.call("echo", {"text": "hello"})).text == "hello"


async def test_the_version_can_be_fixed_without_a_probe() -> None:
    async with running(child_spec("--era", "modern", mode="2026-07-28")) as bridge:
        assert bridge.status()[0].protocol_version == "2026-07-28"
        assert (await bridge.call("echo", {"text": "hello"})).text == "hello"


async def test_progress_is_ordered_and_complete_before_the_result(bridge: Bridge) -> None:
    events: list[Any] = []
    messages = [json.dumps({"type": "step_output", "seq": seq}) for seq in range(500)]
    await bridge.call("progress", {"messages": messages}, on_progress=events.append)
    assert [event["seq"] for event in events] == list(range(500))


async def test_hundreds_of_calls_at_once_keep_their_own_events_and_results() -> None:
    async def one(bridge: Bridge, number: int) -> None:
        events: list[Any] = []
        messages = [json.dumps({"type": "e", "n": [number, seq]}) for seq in range(10)]
        await bridge.call("progress", {"messages": messages}, on_progress=events.append)
        assert [event["n"] for event in events] == [[number, seq] for seq in range(10)]
        assert (await bridge.call("echo", {"text": str(number)})).text == str(number)

    async with running(child_spec(max_in_flight=400)) as bridge:
        await asyncio.gather(*(one(bridge, number) for number in range(200)))
        assert bridge.status()[0].in_flight == 0


async def test_cancelling_the_caller_cancels_the_call(bridge: Bridge) -> None:
    calls = await held_calls(bridge, 3)
    calls[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[1]
    assert await counts(bridge) == (3, 1)
    await bridge.call("release", {})
    assert [(await call).text for call in (calls[0], calls[2])] == ["released", "released"]


async def test_a_callback_that_fails_does_not_fail_the_call(bridge: Bridge) -> None:
    def fail(_: Any) -> None:
        raise ValueError("of the callback")

    assert (await bridge.call("progress", {"messages": ["a"]}, on_progress=fail)).text == "done"


@pytest.mark.parametrize("code", [-32602, -32000, -32001, 7])
async def test_an_error_that_the_server_answers_is_a_result_for_the_model(
    bridge: Bridge, code: int
) -> None:
    result = await bridge.call("error", {"code": code, "message": "no such\x1b[1m row"})
    assert result.is_error
    assert result.text == "no such row"


@pytest.mark.parametrize(
    "result", [{"content": "text"}, {"content": [{"type": "hologram"}]}, {"isError": "maybe"}]
)
async def test_a_result_that_is_no_mcp_is_an_error_and_the_session_goes_on(
    bridge: Bridge, result: Any
) -> None:
    with pytest.raises(BridgeProtocolError) as caught:
        await bridge.call("raw", {"result": result})
    assert "may have run" in caught.value.message
    assert (await bridge.call("echo", {"text": "on"})).text == "on"


async def test_a_result_that_breaks_its_own_schema_is_not_lost() -> None:
    tool = {
        "name": "raw",
        "inputSchema": {"type": "object"},
        "outputSchema": {
            "type": "object",
            "required": ["n"],
            "properties": {"n": {"type": "integer"}},
        },
    }
    async with running(child_spec("--tools", json.dumps([tool]))) as bridge:
        lie = {"content": [{"type": "text", "text": "t"}], "structuredContent": {"n": "seven"}}
        result = await bridge.call("raw", {"result": lie})
    assert result.structured == {"n": "seven"}


async def test_a_bad_tool_does_not_lose_the_listing() -> None:
    tools = [{"name": "bad", "inputSchema": 7}, {"name": "echo"}]
    async with running(child_spec("--tools", json.dumps(tools))) as bridge:
        assert [tool.name for tool in bridge.tools()] == ["echo"]
        assert (await bridge.call("echo", {"text": "good"})).text == "good"


async def test_no_more_than_256_tools_are_taken() -> None:
    tools = [{"name": f"t{number}"} for number in range(300)]
    async with running(child_spec("--tools", json.dumps(tools))) as bridge:
        assert len(bridge.tools()) == 256


@pytest.mark.asyncio(loop_scope="module")
class TestWithTheSdksOwnServer:
    async def test_the_modern_era_is_negotiated(self, sdk_bridge: Bridge) -> None:
        assert sdk_bridge.status()[0].protocol_version == "2026-07-28"
        assert (await sdk_bridge.call("echo", {"text": "hi"})).text == "hi"

    async def test_the_structure_of_a_result_comes_through(self, sdk_bridge: Bridge) -> None:
        result = await sdk_bridge.call("run", {"events": 0})
        assert result.structured == {"events": 0}

    async def test_events_of_runs_side_by_side_are_complete(self, sdk_bridge: Bridge) -> None:
        async def one() -> list[Any]:
            events: list[Any] = []
            await sdk_bridge.call("run", {"events": 20}, on_progress=events.append)
            return events

        expected = [{"type": "step_running", "seq": seq} for seq in range(1, 21)]
        for events in await asyncio.gather(*(one() for _ in range(30))):
            assert events == expected

    async def test_the_handler_sees_that_its_call_was_cancelled(self, sdk_bridge: Bridge) -> None:
        arrived = asyncio.Event()
        call = asyncio.create_task(
            sdk_bridge.call("wait", {"label": "mine"}, on_progress=lambda _: arrived.set())
        )
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await sdk_bridge.call("cancelled", {})).text == "mine"

    async def test_the_words_of_a_tool_error_reach_the_model(self, sdk_bridge: Bridge) -> None:
        result = await sdk_bridge.call("fail", {})
        assert result.is_error
        assert "the disk is full" in result.text

    async def test_bad_arguments_are_told_to_the_model(self, sdk_bridge: Bridge) -> None:
        result = await sdk_bridge.call("echo", {"txt": "hi"})
        assert result.is_error
        assert "text" in result.text
