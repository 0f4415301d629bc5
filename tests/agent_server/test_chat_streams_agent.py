"""The run behind a detached chat stream: broken off, resumed, and after the end of the server."""

import asyncio
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.detached_chats import DETACHED, STREAM, read_until
from tests.running_server import RunningServer, ask, running_server

# Each test starts one server or two.
pytestmark = pytest.mark.timeout(90)

ENVIRONMENT = {"AGENT_SERVER_ISOLATION": "none", "AGENT_SERVER_SHUTDOWN_GRACE_SECONDS": "1"}
WORKFLOW = """Run this workflow:
```yaml
name: waiting
steps:
  - name: begin
    run: echo begun
  - name: wait
    run: until [ -e {gate} ]; do sleep 0.05; done; echo opened
    depends: [begin]
```"""


async def begin(server: RunningServer, gate: Path, session: aiohttp.ClientSession) -> bytes:
    """What a client had of an answer that it left while the second step ran."""
    text = WORKFLOW.format(gate=gate)
    message = {"id": "1", "role": "user", "parts": [{"type": "text", "text": text}]}
    body = {"id": "chat-1", "messages": [message], "trigger": "submit-message"}
    answer = await session.post(f"{server.url}/api/chat", json=body, headers=DETACHED)
    had = await read_until(answer, b'"step":"wait","attempt":1,"message"')
    answer.close()
    return had


async def test_a_run_goes_on_without_its_reader_and_is_shown_to_who_comes_back(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    with running_server(tmp_path, environment=ENVIRONMENT) as server:
        async with aiohttp.ClientSession() as session:
            had = await begin(server, gate, session)
            following = [await session.get(f"{server.url}{STREAM}") for _ in range(2)]
            gate.touch()
            whole, again = [await answer.read() for answer in following]
            nothing = await session.get(f"{server.url}{STREAM}")
        assert "Client gone before it had its whole answer" in server.log
        assert "Detached answer ended chat_id=chat-1" in server.log
    assert whole == again
    assert whole.startswith(had)
    assert b'"status":"success"' in whole
    assert b"opened" in whole[len(had) :]
    assert whole.endswith(b"data: [DONE]\n\n")
    assert nothing.status == 204


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_after_a_restart_there_is_no_stream_and_the_run_is_followed_by_its_events(
    tmp_path: Path, number: signal.Signals
) -> None:
    gate = tmp_path / "gate"
    with running_server(tmp_path, environment=ENVIRONMENT) as server:
        async with aiohttp.ClientSession() as session:
            had = await begin(server, gate, session)
        server.process.send_signal(number)
        status = await asyncio.to_thread(server.process.wait, 20)
    assert status == (0 if number == signal.SIGTERM else -number)
    found = re.search(rb'"run_id":"([^"]+)"', had)
    assert found is not None
    with running_server(tmp_path, environment=ENVIRONMENT) as server:
        nothing = ask(server.url, "GET", STREAM)
        assert (nothing.status, nothing.body) == (204, b"")
        gate.touch()
        events = ask(server.url, "GET", f"/v1/workflows/runs/{found[1].decode()}/events")
    assert events.status == 200
    assert b'"status":"success"' in events.body
