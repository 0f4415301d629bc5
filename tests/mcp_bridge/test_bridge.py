"""Several servers behind one set of names."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import uvloop

from mcp_bridge import Bridge, ServerSpec, ServerSpecError
from streaming.errors import BridgeError, BridgeProtocolError, BridgeUnavailableError
from tests.mcp_bridge.bridges import PACING, child_spec, death, held_calls, is_alive, running, state

OWN = child_spec(name="own", hidden_tools=frozenset({"pid"}))
OTHER = child_spec(name="other", is_own=False, exclude_tools=("exit",))


async def test_two_servers_with_the_same_tools_are_told_apart() -> None:
    async with running(OWN, OTHER) as bridge:
        assert await bridge._servers["other"].wait_ready(20)
        names = {tool.name for tool in bridge.tools()}
        assert {"echo", "other__echo", "other__pid"} <= names
        assert "pid" not in names
        own, other = bridge.status()
        assert (await bridge.call("other__pid", {})).text == str(other.pid)
        assert (await bridge.call_server("own", "pid", {})).text == str(own.pid)


async def test_only_our_own_server_learns_the_owner_and_may_send_events() -> None:
    async with running(OWN, OTHER) as bridge:
        await bridge._servers["other"].wait_ready(20)
        events: list[object] = []
        metas = [
            json.loads(
                (
                    await bridge.call(
                        name, {}, owner="key-1", meta={"a": 1}, on_progress=events.append
                    )
                ).text
            )
            for name in ("meta", "other__meta")
        ]
        for meta in metas:
            meta.pop("progressToken")
        assert metas == [{"a": 1, "ai.kubiya/owner": "key-1", "ai.kubiya/events": 1}, {}]
        assert json.loads((await bridge.call("meta", {})).text) == {}
        forged = {"messages": ['{"type": "workflow_complete"}']}
        await bridge.call("progress", forged, on_progress=events.append)
        await bridge.call("other__progress", forged, on_progress=events.append)
        assert events == [
            {"type": "workflow_complete"},
            {"type": "progress", "message": '{"type": "workflow_complete"}'},
        ]


async def test_a_foreign_server_cannot_flood_us_with_progress() -> None:
    async with running(OTHER) as bridge:
        await bridge._servers["other"].wait_ready(20)
        events: list[object] = []
        many = {"messages": ["more"] * 1500}
        await bridge.call("other__progress", many, on_progress=events.append)
        assert len(events) == 1000


@pytest.mark.parametrize(
    ("server", "tool"), [("other", "exit"), ("nobody", "echo")], ids=["filtered", "no server"]
)
async def test_a_tool_out_of_reach_is_unknown(server: str, tool: str) -> None:
    bridge = Bridge([OTHER])
    with pytest.raises(BridgeError) as caught:
        await bridge.call_server(server, tool, {"code": 0})
    assert caught.value.code == "unknown_tool"


async def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    async with running(OWN) as bridge:
        with pytest.raises(BridgeError) as caught:
            await bridge.call("ecko", {})
        assert caught.value.code == "unknown_tool"
        assert "did you mean 'echo'?" in caught.value.message
        with pytest.raises(BridgeError, match="no tool 'pid'"):
            await bridge.call("pid", {})


async def test_only_required_servers_count_for_readiness() -> None:
    silent = child_spec("--silent", name="silent", is_own=False)
    async with running(OWN, silent) as bridge:
        assert bridge.is_ready
    needed = child_spec("--silent", name="silent", is_own=False, required=True)
    async with running(OWN, needed, must_be_ready=False) as bridge:
        assert await bridge._servers["own"].wait_ready(20)
        assert not await bridge.wait_ready(0)
        assert not bridge.is_ready


async def test_the_tools_of_a_restarting_server_stay_listed() -> None:
    pacing = replace(PACING, backoff_first_seconds=60, backoff_max_seconds=60)
    async with running(child_spec(pacing=pacing)) as bridge:
        tools = bridge.tools()
        pid = bridge.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await state(bridge, "backoff")
        assert tools
        assert bridge.tools() == tools


async def test_a_bridge_that_never_started_can_be_stopped() -> None:
    bridge = Bridge([OWN])
    with pytest.raises(BridgeUnavailableError, match="is new"):
        await bridge.call_server("own", "echo", {})
    await bridge.stop()
    assert bridge.status()[0].state == "stopped"


def test_two_servers_of_one_prefix_are_refused() -> None:
    with pytest.raises(ServerSpecError, match="have one prefix"):
        Bridge([ServerSpec(name="a.b", command=("x",)), ServerSpec(name="a b", command=("x",))])


async def test_nothing_of_the_environment_or_the_command_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment = {"PATH": os.defpath, "SETTING": "swordfish"}
    spec = child_spec("--words", "pass sword", name="o", is_own=False, env=environment)
    with caplog.at_level(logging.DEBUG):
        async with running(spec) as bridge:
            await bridge._servers["o"].wait_ready(20)
            await bridge.call("o__stderr", {"line": "it is swordfish\n", "times": 1})
            with pytest.raises(BridgeUnavailableError):
                await bridge.call("o__exit", {"code": 1, "words": "swordfish"})
            await state(bridge, "ready")
    assert "it is ***" in caplog.text
    assert "swordfish" not in caplog.text
    assert "mcp_child.py" not in caplog.text


def test_a_whole_life_passes_under_uvloop() -> None:
    async def life() -> None:
        async with running(child_spec(max_line_bytes=200_000)) as bridge:
            events: list[object] = []
            messages = [json.dumps({"type": "e", "n": n}) for n in range(200)]
            await bridge.call("progress", {"messages": messages}, on_progress=events.append)
            assert events == [{"type": "e", "n": n} for n in range(200)]
            with pytest.raises(BridgeProtocolError):
                await bridge.call("big", {"bytes": 1_000_000, "id_last": True})
            held, cancelled = await held_calls(bridge, 2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await bridge.call("stderr", {"line": "x" * 99 + "\n", "times": 10_000})
            grandchild = int((await bridge.call("spawn", {})).text)
            pid = bridge.status()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(BridgeUnavailableError):
                await held
            await death(grandchild)
            status = await state(bridge, "ready", not_pid=pid)
            assert "killed by signal 9" in (status.last_error or "")
            pid = bridge.status()[0].pid
            assert (await bridge.call("answer_and_exit", {"bytes": 150_000})).text
            await state(bridge, "ready", not_pid=pid)
            assert (await bridge.call("echo", {"text": "back"})).text == "back"
            last = int((await bridge.call("pid", {})).text)
        assert not is_alive(last)

    uvloop.run(life())


def test_importing_the_bridge_imports_neither_the_sdk_nor_a_server() -> None:
    code = (
        "import sys, mcp_bridge;"
        "print([m for m in ('mcp', 'mcp_types', 'pydantic', 'starlette', 'jsonschema')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
