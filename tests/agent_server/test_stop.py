"""What clients see of a server that stops before their answers are whole."""

import asyncio
import http.client
import signal
from pathlib import Path

import orjson
import pytest

from tests.running_server import running_server
from tests.servers import Scripted, scripted

BEGUN = (
    b'data: {"id":"u","object":"chat.completion.chunk","created":7,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
)
SSE = {"content-type": "text/event-stream"}
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-upstream-key-0123456789",
    "AGENT_SERVER_SHUTDOWN_GRACE_SECONDS": "1",
}


def post(url: str, *, stream: bool, **headers: str) -> http.client.HTTPConnection:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    headers = {"content-type": "application/json", **headers}
    connection.request("POST", "/v1/chat/completions", orjson.dumps(body), headers)
    return connection


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_an_answer_that_a_stop_cuts_short_ends_with_an_error(
    tmp_path: Path, *, stream: bool
) -> None:
    pieces = (BEGUN,) if stream else (b'{"id":',)
    async with scripted(Scripted(pieces=pieces, headers=SSE, ending="silence")) as upstream:
        options = ("--no-agent", "--provider", "openai", "--base-url", f"{upstream.url}/v1")
        with running_server(tmp_path, *options, environment=ENVIRONMENT) as server:
            connection = await asyncio.to_thread(post, server.url, stream=stream)
            await asyncio.wait_for(upstream.asked.wait(), 10)
            if stream:
                answer = await asyncio.to_thread(connection.getresponse)
                server.process.send_signal(signal.SIGTERM)
            else:
                server.process.send_signal(signal.SIGTERM)
                answer = await asyncio.to_thread(connection.getresponse)
            said = await asyncio.to_thread(answer.read)
            connection.close()
            assert await asyncio.to_thread(server.process.wait, 10) == 0
    assert answer.status == (200 if stream else 503)
    assert b'"code":"server_stopping"' in said
    assert "Traceback" not in server.log


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
async def test_a_detached_answer_ends_with_the_server_and_its_reader_is_told(
    tmp_path: Path, *, is_read: bool
) -> None:
    silent = Scripted(pieces=(BEGUN,), headers=SSE, ending="silence")
    detached = {"x-workflow-detached": "true"}
    async with scripted(silent) as upstream:
        options = ("--no-agent", "--provider", "openai", "--base-url", f"{upstream.url}/v1")
        with running_server(tmp_path, *options, environment=ENVIRONMENT) as server:
            connection = await asyncio.to_thread(post, server.url, stream=True, **detached)
            answer = await asyncio.to_thread(connection.getresponse)
            assert b"Hel" in await asyncio.to_thread(answer.readline) + answer.readline()
            if not is_read:
                answer.close()
                connection.close()
            server.process.send_signal(signal.SIGTERM)
            said = await asyncio.to_thread(answer.read) if is_read else b""
            connection.close()
            assert await asyncio.to_thread(server.process.wait, 10) == 0
            # The upstream is not left waiting for somebody to read its answer.
            await asyncio.wait_for(upstream.client_left.wait(), 10)
    assert (b'"code":"server_stopping"' in said) is is_read
    assert "Detached answer ended" in server.log
    assert "Traceback" not in server.log
