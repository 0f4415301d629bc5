"""Whether a schedule's owner may still begin runs: what the server's answers come to."""

import socket
import time

import orjson
import pytest

from streaming.run_tokens import read_claims
from tests.servers import Scripted, scripted
from workflow_backend.run_owners import PATH, RunOwners
from workflow_backend.schedules.base import FiringRefusedError
from workflow_backend.steps.server_link import ServerLink

KEY = b"k" * 32


def error(status: int, code: str) -> Scripted:
    body = orjson.dumps({"error": {"message": "So it is.", "code": code}})
    return Scripted(status, (body,), {"Content-Type": "application/json"})


async def test_the_server_is_asked_by_a_token_for_this_question_alone() -> None:
    async with scripted(Scripted(200, (b"{}",))) as server:
        await RunOwners(ServerLink(server.url, KEY)).check("eve", "nightly-1")
    [asked] = server.requests
    assert (asked.method, asked.path) == ("GET", PATH)
    scheme, _, token = asked.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    claims = read_claims(token, KEY, time.time())
    assert (claims.owner, claims.run_id) == ("eve", "nightly-1")
    assert (claims.tokens, claims.turns, claims.tools) == (0, 0, ())


@pytest.mark.parametrize(
    ("answer", "is_temporary", "said"),
    [
        (error(401, "run_owner_gone"), False, "'eve' has no API key with the scope run any more"),
        (error(401, "expired_run_token"), True, "HTTP 401 So it is."),
        (error(503, "overloaded"), True, "HTTP 503"),
        (Scripted(502, (b"<html>",)), True, "HTTP 502"),
        (Scripted(302, (), {"Location": "http://127.0.0.1:9/"}), True, "HTTP 302"),
        (Scripted(None, ending="cut"), True, "does not answer"),
    ],
)
async def test_without_a_yes_nothing_begins(
    answer: Scripted, is_temporary: bool, said: str
) -> None:
    async with scripted(answer) as server:
        with pytest.raises(FiringRefusedError) as raised:
            await RunOwners(ServerLink(server.url, KEY)).check("eve", "nightly-1")
    assert raised.value.is_temporary is is_temporary
    assert said in str(raised.value)


async def test_a_server_that_is_away_is_asked_again_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FiringRefusedError) as raised:
        await RunOwners(ServerLink(f"http://127.0.0.1:{port}", KEY)).check("eve", "r")
    assert raised.value.is_temporary


async def test_without_a_server_there_are_no_keys_to_have() -> None:
    await RunOwners(None).check("local", "r")
