"""A server that dies, hangs or never starts, and the calls that were under way."""

import asyncio
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_bridge import Bridge
from mcp_bridge.catalogue import listing_digest
from mcp_bridge.listing import ListedTool
from streaming.errors import BridgeTimeoutError, BridgeUnavailableError
from tests.mcp_bridge.bridges import (
    PACING,
    READY_SECONDS,
    child_spec,
    counts,
    held_calls,
    is_alive,
    running,
    state,
)


def pid_of(bridge: Bridge) -> int:
    pid = bridge.status()[0].pid
    assert pid is not None
    return pid


async def test_a_killed_idle_server_is_noticed_and_replaced_without_any_call() -> None:
    async with running(child_spec()) as bridge:
        pid = pid_of(bridge)
        os.kill(pid, signal.SIGKILL)
        status = await state(bridge, "ready", not_pid=pid)
        assert status.restarts == 1
        assert "ended by itself; killed by signal 9" in (status.last_error or "")


async def test_a_dead_server_is_not_ready_from_the_instant_in_which_its_death_is_known() -> None:
    async with running(child_spec()) as bridge:
        child = bridge._servers["child"]._child
        assert child is not None
        was_ready_when_dead: list[bool] = []
        on_death = child._on_death

        def look() -> None:
            on_death()
            was_ready_when_dead.append(bridge.is_ready)

        child._on_death = look
        os.kill(pid_of(bridge), signal.SIGKILL)
        await state(bridge, "starting")
        assert was_ready_when_dead == [False]


async def test_calls_of_a_killed_server_fail_at_once_and_none_is_repeated() -> None:
    async with running(child_spec()) as bridge:
        pid = pid_of(bridge)
        calls = await held_calls(bridge, 20)
        os.kill(pid, signal.SIGKILL)
        errors = await asyncio.wait_for(
            asyncio.gather(*calls, return_exceptions=True), READY_SECONDS
        )
        assert {type(error) for error in errors} == {BridgeUnavailableError}
        assert not any(error.is_retryable for error in errors)  # type: ignore[union-attr]
        # Not one of them reached the new process, though it is there.
        assert (await bridge.call("echo", {"text": "back"})).text == "back"
        assert await counts(bridge) == (0, 0)
        assert pid_of(bridge) != pid


async def test_a_call_right_after_a_death_waits_for_the_new_process() -> None:
    async with running(child_spec()) as bridge:
        with pytest.raises(BridgeUnavailableError):
            await bridge.call("exit", {"code": 3})
        assert (await bridge.call("echo", {"text": "back"})).text == "back"


async def test_a_server_that_closes_its_stdout_is_replaced() -> None:
    async with running(child_spec()) as bridge:
        pid = pid_of(bridge)
        with pytest.raises(BridgeUnavailableError):
            await bridge.call("close_stdout", {})
        await state(bridge, "ready", not_pid=pid)
        assert not is_alive(pid)


async def test_the_last_error_tells_why_without_secrets() -> None:
    environment = {"PATH": os.defpath, "DB_PASSWORD": "swordfish"}
    async with running(child_spec(env=environment)) as bridge:
        pid = pid_of(bridge)
        with pytest.raises(BridgeUnavailableError):
            await bridge.call("exit", {"code": 3, "words": "\x1b[1mbad password swordfish"})
        status = await state(bridge, "ready", not_pid=pid)
        assert status.last_error == ("ended by itself; exit code 3; last words: bad password ***")


async def test_a_server_that_exits_at_start_counts_as_failed_after_a_few_tries() -> None:
    spec = child_spec("--exit-at-start", "7", "--words", "no licence")
    async with running(spec, must_be_ready=False) as bridge:
        status = await state(bridge, "failed")
        assert status.restarts == 3
        assert (status.last_error or "").endswith("exit code 7; last words: no licence")
        with pytest.raises(BridgeUnavailableError) as caught:
            await bridge.call_server("child", "echo", {"text": ""})
        assert "no licence" in caught.value.message
        assert caught.value.is_retryable


async def test_a_server_that_crashes_once_becomes_ready(tmp_path: Path) -> None:
    async with running(child_spec("--crash-once", str(tmp_path / "crashed"))) as bridge:
        assert bridge.status()[0].restarts == 1


async def test_a_missing_command_fails_at_once_and_is_found_once_it_is_there(
    tmp_path: Path,
) -> None:
    spec = child_spec()
    command = tmp_path / "server"
    missing = child_spec(command=(str(command), *spec.command[1:]))
    async with running(missing, must_be_ready=False) as bridge:
        status = await state(bridge, "failed")
        assert "the command 'server' does not exist" in (status.last_error or "")
        assert not await bridge.wait_ready(0)
        command.symlink_to(spec.command[0])
        assert await bridge.wait_ready(READY_SECONDS)
        assert bridge.tools()


async def test_a_missing_working_directory_is_named() -> None:
    async with running(child_spec(cwd="/does/not/exist"), must_be_ready=False) as bridge:
        status = await state(bridge, "failed")
        assert "its working directory does not exist" in (status.last_error or "")


async def test_a_command_that_the_system_refuses_is_a_clear_error() -> None:
    async with running(child_spec("nul\0byte"), must_be_ready=False) as bridge:
        status = await state(bridge, "backoff")
        assert "an argument holds a NUL byte" in (status.last_error or "")


async def test_a_server_that_is_silent_at_the_handshake_is_given_up() -> None:
    spec = child_spec("--silent", connect_timeout_seconds=1)
    async with running(spec, must_be_ready=False) as bridge:
        status = await state(bridge, "backoff")
        assert status.last_error == "gave no answer to the handshake within 1 s"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"protocolVersion": "1999-01-01", "secret": "swordfish"}', "is not valid MCP"),
        ('{"error": {"code": -32000, "message": "go away"}}', "the handshake failed: go away"),
    ],
)
async def test_a_bad_handshake_is_told_without_its_words(answer: str, told: str) -> None:
    async with running(child_spec("--handshake", answer), must_be_ready=False) as bridge:
        status = await state(bridge, "backoff")
        assert told in (status.last_error or "")
        assert "swordfish" not in (status.last_error or "")


async def test_a_server_that_does_not_answer_the_probe_is_tried_without_it() -> None:
    spec = child_spec("--ignore-unknown", mode="auto", connect_timeout_seconds=1)
    async with running(spec) as bridge:
        # Every second start is made without the probe.
        assert bridge.status()[0].restarts % 2 == 1
        assert (await bridge.call("echo", {"text": "old"})).text == "old"


async def test_a_hung_server_is_replaced() -> None:
    pacing = replace(PACING, term_grace_seconds=0.05)
    spec = child_spec(heartbeat_seconds=0.05, heartbeat_timeout_seconds=1, pacing=pacing)
    async with running(spec) as bridge:
        pid = pid_of(bridge)
        (call,) = await held_calls(bridge, 1)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(BridgeUnavailableError):
            await asyncio.wait_for(call, READY_SECONDS)
        status = await state(bridge, "ready", not_pid=pid)
        assert status.last_error == "answered nothing for 1 s; it hung"
        assert not is_alive(pid)


async def test_a_call_that_takes_too_long_fails_and_is_cancelled() -> None:
    async with running(child_spec(call_timeout_seconds=0.2)) as bridge:
        with pytest.raises(BridgeTimeoutError) as caught:
            await bridge.call("hold", {})
        assert "gave no result within 0.2 s" in caught.value.message
        with pytest.raises(BridgeTimeoutError):
            await bridge.call("hold", {}, timeout_seconds=0.1)
        assert await counts(bridge) == (2, 2)
        assert bridge.status()[0].in_flight == 0


async def test_a_call_does_not_wait_for_ever_for_a_server_to_be_ready() -> None:
    spec = child_spec("--silent", ready_wait_seconds=0.05)
    async with running(spec, must_be_ready=False) as bridge:
        with pytest.raises(BridgeUnavailableError) as caught:
            await bridge.call_server("child", "echo", {})
        assert "is not ready after 0.05 s" in caught.value.message
        assert caught.value.is_retryable


async def test_too_many_calls_wait_and_still_more_are_refused() -> None:
    async with running(child_spec(max_in_flight=2, max_waiting=1)) as bridge:
        first = await held_calls_directly(bridge, 2)
        waiting = asyncio.create_task(bridge.call("echo", {"text": "waited"}))
        await asyncio.sleep(0)
        with pytest.raises(BridgeUnavailableError) as caught:
            await bridge.call("echo", {"text": "too much"})
        assert caught.value.code == "bridge_busy"
        os.kill(pid_of(bridge), signal.SIGUSR1)
        assert (await waiting).text == "waited"
        assert [(await call).text for call in first] == ["released", "released"]


async def held_calls_directly(bridge: Bridge, number: int) -> "list[asyncio.Task[object]]":
    """Held calls where none is left over to ask the child for its counts."""
    arrived = asyncio.Semaphore(0)

    def on_progress(_: object) -> None:
        arrived.release()

    calls: list[asyncio.Task[object]] = [
        asyncio.create_task(bridge.call("hold", {}, on_progress=on_progress)) for _ in range(number)
    ]
    for _ in range(number):
        await asyncio.wait_for(arrived.acquire(), READY_SECONDS)
    return calls


async def test_stopping_lets_calls_finish_and_refuses_new_ones() -> None:
    async with running(child_spec()) as bridge:
        (call,) = await held_calls(bridge, 1)
        pid = pid_of(bridge)
        stopping = asyncio.create_task(bridge.stop(grace_seconds=READY_SECONDS))
        await state(bridge, "stopping")
        with pytest.raises(BridgeUnavailableError):
            await bridge.call("echo", {"text": "new"})
        os.kill(pid, signal.SIGUSR1)
        assert (await call).text == "released"
        await stopping
        assert not is_alive(pid)


async def test_stopping_does_not_wait_for_ever_and_cancels_nothing() -> None:
    async with running(child_spec()) as bridge:
        (call,) = await held_calls(bridge, 1)
        await bridge.stop(grace_seconds=0)
        with pytest.raises(BridgeUnavailableError):
            await call


@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_stopping_is_final_at_any_moment_of_a_restart(steps: int) -> None:
    async with running(child_spec()) as bridge:
        os.kill(pid_of(bridge), signal.SIGKILL)
        await state(bridge, "starting")
        for _ in range(steps):
            await asyncio.sleep(0)
        await bridge.stop(grace_seconds=0)
        owner = bridge._servers["child"]._owner
        assert owner is not None
        assert owner.done()


async def test_a_server_can_be_stopped_while_it_starts() -> None:
    async with running(child_spec("--silent"), must_be_ready=False) as bridge:
        await state(bridge, "starting")


async def test_new_tools_are_listed_when_the_server_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changed = [{"name": "echo", "description": "evil", "inputSchema": {"type": "object"}}]
    async with running(child_spec()) as bridge:
        with caplog.at_level(logging.WARNING):
            await bridge.call("change_tools", {"tools": changed})
            await tools_become(bridge, ["echo"])
    assert "MCP server child: tools changed: echo" in caplog.text


async def test_new_tools_that_nobody_announced_are_found_by_the_heartbeat() -> None:
    new = [{"name": "new", "inputSchema": {"type": "object"}}]
    async with running(
        child_spec("--era", "modern", mode="auto", heartbeat_seconds=0.05)
    ) as bridge:
        await bridge.call("change_tools", {"tools": new, "silently": True})
        await tools_become(bridge, ["new"])


async def tools_become(bridge: Bridge, names: list[str]) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while [tool.name for tool in bridge.tools()] != names:
            # Each call is a round trip to the child, so the loop is not busy for nothing.
            await bridge.call_server("child", "counts", {})


async def test_only_the_pinned_tools_are_accepted() -> None:
    listing = '[{"name": "echo", "description": "e", "inputSchema": {"type": "object"}}]'
    digest = listing_digest([ListedTool("echo", "e", {"type": "object"}, {})])
    async with running(child_spec("--tools", listing, tools_sha256=digest)) as bridge:
        assert [tool.name for tool in bridge.tools()] == ["echo"]
    other = child_spec("--tools", listing, tools_sha256="0" * 64)
    async with running(other, must_be_ready=False) as bridge:
        status = await state(bridge, "failed")
        assert f"check them, then pin {digest}" in (status.last_error or "")
        assert status.restarts == 0
        assert bridge.tools() == ()
