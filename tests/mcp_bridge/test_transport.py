"""What a server may write, and what it costs: one call, never the session, until it is too much."""

import asyncio
import json
import logging

import pytest

from streaming.errors import BridgeProtocolError, BridgeUnavailableError
from tests.mcp_bridge.bridges import child_spec, held_calls, running, state


@pytest.mark.parametrize("id_last", [False, True], ids=["id first", "id last"])
async def test_a_result_over_the_cap_fails_its_call_alone(*, id_last: bool) -> None:
    async with running(child_spec(max_line_bytes=100_000)) as bridge:
        pid = (await bridge.call("pid", {})).text
        (held,) = await held_calls(bridge, 1)
        with pytest.raises(BridgeProtocolError) as caught:
            await bridge.call("big", {"bytes": 3_000_000, "id_last": id_last})
        assert caught.value.code == "result_too_large"
        assert "at most 100000 are allowed; the call has run" in caught.value.message
        await bridge.call("release", {})
        assert (await held).text == "released"
        assert (await bridge.call("pid", {})).text == pid


async def test_a_result_within_the_cap_passes_whole() -> None:
    async with running(child_spec(max_line_bytes=16 * 1024 * 1024)) as bridge:
        result = await bridge.call("big", {"bytes": 10_000_000, "id_last": False})
    assert result.text.endswith("[truncated, 10000000 characters in all]")


async def test_arguments_over_the_cap_are_not_sent() -> None:
    async with running(child_spec(max_line_bytes=10_000)) as bridge:
        with pytest.raises(BridgeProtocolError) as caught:
            await bridge.call("echo", {"text": "x" * 10_000})
        assert caught.value.code == "arguments_too_large"
        assert (await bridge.call("echo", {"text": "short"})).text == "short"


async def test_garbage_is_skipped_and_its_words_stay_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with running(child_spec("--banner", "9")) as bridge:
            assert (await bridge.call("garbage", {"lines": 10})).text == "done"
            assert (await bridge.call("echo", {"text": "still here"})).text == "still here"
            assert bridge.status()[0].restarts == 0
    assert "swordfish" not in caplog.text
    warnings = [r.getMessage() for r in caplog.records if "no JSON-RPC" in r.getMessage()]
    assert (
        warnings
        == ["MCP server child wrote 8 bytes that are no JSON-RPC message to its stdout"] * 3
    )


async def test_too_much_garbage_ends_the_session() -> None:
    async with running(child_spec()) as bridge:
        pid = bridge.status()[0].pid
        with pytest.raises(BridgeUnavailableError):
            await bridge.call("garbage", {"lines": 20})
        status = await state(bridge, "ready", not_pid=pid)
        assert "too much to its stdout" in (status.last_error or "")


async def test_a_huge_notification_fails_no_call() -> None:
    async with running(child_spec(max_line_bytes=10_000)) as bridge:
        events: list[object] = []
        arguments = {"messages": ["x" * 9_000, "small"]}
        result = await bridge.call("progress", arguments, on_progress=events.append)
        assert result.text == "done"
        assert len(events) == 2
        # Written escaped it is over the cap, and only on its way back.
        arguments = {"messages": ["\u00e4" * 4_000, "small"]}
        result = await bridge.call("progress", arguments, on_progress=events.append)
        assert result.text == "done"
        assert events[2:] == [{"type": "progress", "message": "small"}]


async def test_a_child_that_reads_nothing_cannot_make_us_wait_without_bound() -> None:
    async with running(child_spec()) as bridge:
        await bridge.call("echo", {"text": ""})
        filling = {"text": "x" * 500_000}
        stuck = [bridge.call("hold", filling, timeout_seconds=0.5) for _ in range(3)]
        results = await asyncio.gather(*stuck, return_exceptions=True)
        assert {getattr(result, "code", None) for result in results} == {"tool_timeout"}
        assert json.loads((await bridge.call("counts", {})).text) == [3, 3]
