"""Servers by URL: the SDK's own behind uvicorn, and one by hand that misbehaves."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from mcp_bridge import Bridge
from streaming.errors import BridgeProtocolError, BridgeTimeoutError, BridgeUnavailableError
from tests.mcp_bridge.bridges import READY_SECONDS, SDK_CHILD, child_spec, running, state


def listening_socket() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def url_spec(listener: socket.socket, path: str = "/mcp", **fields: Any) -> Any:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
    return child_spec(**{"command": (), "env": {}, "url": url, "mode": "auto", **fields})


@contextmanager
def sdk_server(listener: socket.socket) -> "Iterator[subprocess.Popen[bytes]]":
    descriptor = listener.fileno()
    command = [sys.executable, str(SDK_CHILD), str(descriptor)]
    process = subprocess.Popen(command, pass_fds=[descriptor])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listener() -> AsyncIterator[socket.socket]:
    with listening_socket() as listener, sdk_server(listener):
        yield listener


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("mode", "version"),
    [("auto", "2026-07-28"), ("legacy", "2025-11-25")],
    ids=["modern", "legacy"],
)
class TestWithTheSdksOwnServer:
    async def test_calls_progress_and_cancelling_work_over_http(
        self, listener: socket.socket, mode: str, version: str
    ) -> None:
        async with running(url_spec(listener, mode=mode)) as bridge:
            assert bridge.status()[0].protocol_version == version
            assert (await bridge.call("echo", {"text": "hi"})).text == "hi"
            events: list[Any] = []
            await bridge.call("run", {"events": 50}, on_progress=events.append)
            assert [event["seq"] for event in events] == list(range(1, 51))
            assert (await bridge.call("fail", {})).is_error

            arrived = asyncio.Event()
            call = asyncio.create_task(
                bridge.call("wait", {"label": mode}, on_progress=lambda _: arrived.set())
            )
            await arrived.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            async with asyncio.timeout(READY_SECONDS):
                while mode not in (await bridge.call("cancelled", {})).text:
                    pass

    async def test_an_answer_over_the_cap_fails_its_call_alone(
        self, listener: socket.socket, mode: str, version: str
    ) -> None:
        async with running(url_spec(listener, mode=mode, max_line_bytes=50_000)) as bridge:
            with pytest.raises((BridgeProtocolError, BridgeUnavailableError)):
                await bridge.call("echo", {"text": "x", "times": 200_000})
            assert (await bridge.call("echo", {"text": "small"})).text == "small"


async def test_a_killed_server_fails_its_calls_and_is_found_again() -> None:
    with listening_socket() as listener, sdk_server(listener) as process:
        async with running(url_spec(listener, heartbeat_seconds=0.5)) as bridge:
            arrived = asyncio.Event()
            call = asyncio.create_task(
                bridge.call("wait", {"label": "x"}, on_progress=lambda _: arrived.set())
            )
            await arrived.wait()
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(BridgeUnavailableError):
                await call
            with sdk_server(listener):
                assert await bridge.wait_ready(READY_SECONDS)
                result = await bridge.call("echo", {"text": "back"})
                assert result.text == "back"


class HandmadeApp:
    """A server of the handshake era that answers as the name of the tool says."""

    def __init__(self) -> None:
        self.headers: list[dict[bytes, bytes]] = []
        self.sessions = 0
        self.forgotten = False
        self.goodbyes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers.append(dict(scope["headers"]))
        body = b""
        while (event := await receive())["type"] == "http.request":
            body += event["body"]
            if not event["more_body"]:
                break
        if scope["method"] != "POST":
            self.goodbyes += scope["method"] == "DELETE"
            await self.answer(send, 405, b"")
            return
        await self.respond(json.loads(body), receive, send)

    async def client_left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def respond(self, message: dict[str, Any], receive: Any, send: Any) -> None:
        method = message["method"]
        if method == "initialize":
            self.sessions += 1
            self.forgotten = False
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {},
                "serverInfo": {"name": "h", "version": "1"},
            }
            await self.result(send, message, result)
        elif "id" not in message:
            await self.answer(send, 202, b"")
        elif self.forgotten:
            await self.answer(send, 404, b"")
        elif method == "tools/list":
            names = ("big", "zipped", "silent", "forget", "fine")
            await self.result(send, message, {"tools": [{"name": name} for name in names]})
        else:
            await self.call(message, receive, send)

    async def call(self, message: dict[str, Any], receive: Any, send: Any) -> None:
        tool = message["params"]["name"]
        if tool == "silent":
            await self.client_left(receive)
            return
        self.forgotten = tool == "forget"
        text = "x" * 1_000_000 if tool in {"big", "zipped"} else "ok"
        result = {"content": [{"type": "text", "text": text}]}
        await self.result(send, message, result, zipped=tool == "zipped")

    async def result(
        self, send: Any, message: dict[str, Any], result: Any, *, zipped: bool = False
    ) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        headers = [(b"content-type", b"application/json"), (b"mcp-session-id", b"s")]
        if zipped:
            body = gzip.compress(body)
            headers.append((b"content-encoding", b"gzip"))
        await self.answer(send, 200, body, headers)

    async def answer(self, send: Any, status: int, body: bytes, headers: Any = ()) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def handmade(**fields: Any) -> AsyncIterator[tuple[HandmadeApp, Bridge]]:
    app = HandmadeApp()
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    with listening_socket() as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with running(url_spec(listener, mode="legacy", **fields)) as bridge:
                yield app, bridge
        finally:
            server.should_exit = True
            await serving


async def test_headers_are_sent_with_every_request_and_a_goodbye_at_the_end() -> None:
    async with handmade(headers={"Authorization": "Bearer t0ken!"}) as (app, bridge):
        await bridge.call("fine", {})
    assert {headers[b"authorization"] for headers in app.headers} == {b"Bearer t0ken!"}
    assert app.goodbyes == 1


async def test_a_body_over_the_cap_fails_its_call_alone() -> None:
    async with handmade(max_line_bytes=100_000) as (_, bridge):
        with pytest.raises(BridgeProtocolError):
            await bridge.call("big", {})
        assert (await bridge.call("fine", {})).text == "ok"
        assert bridge.status()[0].restarts == 0


async def test_a_compressed_body_is_refused() -> None:
    async with handmade() as (app, bridge):
        with pytest.raises(BridgeUnavailableError):
            await bridge.call("zipped", {})
        assert app.headers[0][b"accept-encoding"] == b"identity"
        assert (await bridge.call("fine", {})).text == "ok"


async def test_a_silent_server_runs_into_the_timeout_of_the_call() -> None:
    async with handmade(call_timeout_seconds=0.3) as (_, bridge):
        with pytest.raises(BridgeTimeoutError):
            await bridge.call("silent", {})
        assert (await bridge.call("fine", {})).text == "ok"


async def test_a_server_that_forgot_the_session_is_greeted_again() -> None:
    async with handmade(heartbeat_seconds=600) as (app, bridge):
        await bridge.call("forget", {})
        assert (await bridge.call("fine", {})).is_error
        await state(bridge, "backoff")
        await state(bridge, "ready")
        assert (await bridge.call("fine", {})).text == "ok"
        assert app.sessions == 2


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    with listening_socket() as listener:
        spec = url_spec(listener)
        listener.close()
        async with running(spec, must_be_ready=False) as bridge:
            status = await state(bridge, "backoff")
            assert "ConnectError" in (status.last_error or "")
