"""`http` steps against a real server on loopback, which has to be allowed first."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Scripted, scripted
from tests.workflow_backend.attempts import LIMITS, attempt, opened, run
from workflow_backend.engines.base import AttemptResult
from workflow_backend.secrets import Secrets
from workflow_backend.steps import StepExecutor
from workflow_backend.steps.addresses import AddressPolicy, AddressRefusedError, as_address
from workflow_backend.steps.http_step import MAX_READ_BYTES
from workflow_backend.steps.server_link import ServerLink

HELLO = Scripted(200, (b"hello",), {"Content-Type": "text/plain", "X-Seen": "yes"})


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[StepExecutor]:
    secrets = Secrets({"TOKEN": "hunter2-is-long"})
    async with opened(tmp_path, allowed_hosts=("127.0.0.1",), secrets=secrets) as executor:
        yield executor


async def get(executor: StepExecutor, url: str, **fields: Any) -> AttemptResult:
    parse = fields.pop("parse", "text")
    secrets = fields.pop("secrets", ())
    timeout = fields.pop("timeout", 10.0)
    http = {"url": url, **fields}
    return await run(executor, attempt(http=http, parse=parse, secrets=secrets, timeout=timeout))


async def test_an_answer_becomes_outputs(executor: StepExecutor) -> None:
    async with scripted(HELLO) as server:
        result = await get(executor, f"{server.url}/path?q=1")
    assert result.status == "success"
    assert result.exit_code is None
    assert result.outputs["status"] == 200
    assert result.outputs["body"] == result.outputs["stdout"] == "hello"
    headers = result.outputs["headers"]
    assert isinstance(headers, dict)
    assert headers["x-seen"] == "yes"
    assert server.requests[0].path == "/path?q=1"


async def test_method_headers_and_bodies_are_sent(executor: StepExecutor) -> None:
    async with scripted(HELLO) as server:
        await get(executor, server.url, method="POST", json={"a": ["é", 1]}, headers={"X-A": "b"})
        await get(executor, server.url, method="PUT", body="text")
    first, second = server.requests
    assert (first.method, first.json) == ("POST", {"a": ["é", 1]})
    assert first.headers["content-type"] == "application/json"
    assert first.headers["x-a"] == "b"
    assert (second.method, second.body) == ("PUT", b"text")


async def test_a_request_to_the_server_of_the_step_says_that_it_is_not_its_users(
    tmp_path: Path,
) -> None:
    async with scripted(HELLO) as own, scripted(HELLO) as other:
        link = ServerLink(own.url, b"")
        async with opened(tmp_path, allowed_hosts=("127.0.0.1",), server=link) as executor:
            await get(executor, own.url, headers={"via": ""})
            await get(executor, other.url)
    assert "agent-server-step" in own.requests[0].headers["via"]
    assert "via" not in other.requests[0].headers


@pytest.mark.parametrize(
    ("status", "expect", "good"),
    [
        (201, None, True),
        (302, None, True),
        (404, None, False),
        (404, [404], True),
        (200, [201], False),
    ],
)
async def test_the_status_decides(
    executor: StepExecutor, status: int, expect: list[int] | None, good: bool
) -> None:
    async with scripted(Scripted(status)) as server:
        result = await get(executor, server.url, expect_status=expect)
    assert (result.status == "success") is good
    assert good or f"HTTP status {status}" in (result.error or "")
    assert result.outputs["status"] == status


async def test_json_is_parsed_or_the_step_fails(executor: StepExecutor) -> None:
    async with scripted(Scripted(200, (b'{"up":', b"true}"))) as server:
        assert (await get(executor, server.url, parse="json")).outputs["json"] == {"up": True}
    async with scripted(HELLO) as server:
        failed = await get(executor, server.url, parse="json")
    assert failed.status == "failed"
    assert "no JSON" in (failed.error or "")


async def test_a_large_body_is_cut_and_a_packed_one_is_read_no_further_than_the_cap(
    executor: StepExecutor,
) -> None:
    packed = gzip.compress(b"z" * 64 * 1024**2)
    async with scripted(Scripted(200, (packed,), {"Content-Encoding": "gzip"})) as server:
        result = await get(executor, server.url)
    assert result.status == "success"
    left_out = MAX_READ_BYTES - LIMITS.stdout_characters
    assert f"\n... {left_out} characters left out ...\n" in str(result.outputs["body"])


async def test_secrets_are_sent_and_masked(executor: StepExecutor) -> None:
    echo = Scripted(200, (b'{"token": "hunter2-is-long"}',), {"X-Echo": "hunter2-is-long"})
    async with scripted(echo) as server:
        result = await get(
            executor,
            server.url,
            method="POST",
            headers={"Authorization": "Bearer ${{ secrets.TOKEN }}"},
            json={"deep": ["${{ secrets.TOKEN }}"]},
            secrets=("TOKEN",),
        )
    [request] = server.requests
    assert request.headers["authorization"] == "Bearer hunter2-is-long"
    assert request.json == {"deep": ["hunter2-is-long"]}
    assert "hunter2" not in repr(result)


async def test_a_silent_server_times_out(executor: StepExecutor) -> None:
    async with scripted(Scripted(None, ending="silence")) as server:
        result = await get(executor, server.url, timeout=0.3)
    assert (result.status, result.error) == ("timed_out", "timed out after 0.3 s")


async def test_a_request_can_be_cancelled(executor: StepExecutor) -> None:
    async with scripted(Scripted(None, ending="silence")) as server:
        task = asyncio.create_task(get(executor, server.url))
        await asyncio.wait_for(server.asked.wait(), 10)
        task.cancel("stop")
        result = await task
        await asyncio.wait_for(server.client_left.wait(), 10)
    assert (result.status, result.error) == ("cancelled", "cancelled: stop")


@pytest.mark.parametrize("ending", ["cut", "reset"])
async def test_a_connection_that_breaks_fails_the_step(executor: StepExecutor, ending: Any) -> None:
    async with scripted(Scripted(None, ending=ending)) as server:
        result = await get(executor, server.url)
    assert result.status == "failed"
    assert result.error


async def test_redirects_are_followed_only_if_asked_for(executor: StepExecutor) -> None:
    async with scripted(Scripted(302, (), {"Location": "/next"}), HELLO) as server:
        stayed = await get(executor, server.url)
        assert stayed.outputs["status"] == 302
    async with scripted(Scripted(302, (), {"Location": "/next"}), HELLO) as server:
        went = await get(executor, server.url, follow_redirects=True)
        assert went.outputs["body"] == "hello"
    assert [request.path for request in server.requests] == ["/", "/next"]


async def test_a_redirect_elsewhere_carries_no_credentials_and_no_body(
    executor: StepExecutor,
) -> None:
    async with (
        scripted(HELLO) as other,
        scripted(Scripted(303, (), {"Location": other.url})) as server,
    ):
        await get(
            executor,
            server.url,
            method="POST",
            body="data",
            headers={"Authorization": "Bearer x", "X-Keep": "1"},
            follow_redirects=True,
        )
    [request] = other.requests
    assert (request.method, request.body) == ("GET", b"")
    assert "authorization" not in request.headers
    assert request.headers["x-keep"] == "1"


async def test_a_redirect_elsewhere_is_given_no_secret(executor: StepExecutor) -> None:
    asked = {
        "headers": {"X-Api-Key": "${{ secrets.TOKEN }}", "X-Keep": "1"},
        "follow_redirects": True,
        "secrets": ("TOKEN",),
    }
    body = {"method": "POST", "json": {"key": "${{ secrets.TOKEN }}"}}
    async with (
        scripted(HELLO) as other,
        scripted(*[Scripted(307, (), {"Location": other.url})] * 2) as server,
    ):
        await get(executor, server.url, **asked)
        refused = await get(executor, server.url, **asked, **body)
    [request] = other.requests
    assert "x-api-key" not in request.headers
    assert request.headers["x-keep"] == "1"
    assert refused.status == "failed"
    assert "the body holds a secret" in (refused.error or "")


@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "zlib", "utf-7", "nonsense"])
async def test_a_charset_that_is_none_is_read_as_utf_8(
    executor: StepExecutor, charset: str
) -> None:
    # Punycode takes time that grows with the square of the length: two million take minutes.
    content_type = {"Content-Type": f"text/plain; charset={charset}"}
    async with scripted(Scripted(200, ("é".encode(), b"a" * 2_000_000), content_type)) as server:
        result = await get(executor, server.url, timeout=60.0)
    assert str(result.outputs["body"]).startswith("éaaa")


async def test_a_usual_charset_is_read(executor: StepExecutor) -> None:
    content_type = {"Content-Type": 'text/plain; charset="ISO-8859-1"'}
    async with scripted(Scripted(200, ("é".encode("latin-1"),), content_type)) as server:
        assert (await get(executor, server.url)).outputs["body"] == "é"


async def test_a_redirect_to_a_refused_address_is_not_followed(executor: StepExecutor) -> None:
    async with scripted(Scripted(302, (), {"Location": "http://127.0.0.2:1/"})) as server:
        result = await get(executor, server.url, follow_redirects=True)
    assert "127.0.0.2, an address that is not public" in (result.error or "")


async def test_a_loop_of_redirects_ends(executor: StepExecutor) -> None:
    async with scripted(Scripted(302, (), {"Location": "/"})) as server:
        result = await get(executor, server.url, follow_redirects=True)
    assert "more than 10 redirects" in (result.error or "")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "2130706433", "0x7f.1", "[::ffff:7f00:1]"),  # noqa: S104
        *(
            "127.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "user@127.0.0.1",
            "\uff11\uff12\uff17.0.0.1",
            "[::ffff:127.1]",
        ),
    ],
)
async def test_loopback_is_refused_however_it_is_written(tmp_path: Path, host: str) -> None:
    async with scripted(HELLO) as server, opened(tmp_path) as executor:
        port = server.url.rpartition(":")[2]
        result = await get(executor, f"http://{host}:{port}/")
    assert result.status == "failed"
    assert not server.requests


async def test_a_url_of_another_scheme_is_refused(executor: StepExecutor) -> None:
    result = await get(executor, "file:///etc/hostname")
    assert "must begin with http" in (result.error or "")


async def test_a_name_is_resolved_once_and_that_address_is_used(
    executor: StepExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["127.0.0.1", "127.0.0.2"]
    async with scripted(HELLO) as server:
        loop = asyncio.get_running_loop()
        really = loop.getaddrinfo

        async def rebinding(host: str, port: int, **options: Any) -> Any:
            return await really(answers.pop(0) if host == "rebind.test" else host, port, **options)

        monkeypatch.setattr(loop, "getaddrinfo", rebinding)
        url = server.url.replace("127.0.0.1", "rebind.test")
        result = await get(executor, url)
    assert result.outputs["body"] == "hello"
    assert answers == ["127.0.0.2"]


ADDRESSES = {
    "93.184.216.34": True,
    "2606:4700::1111": True,
    "127.0.0.1": False,
    "10.0.0.1": False,
    "172.16.0.1": False,
    "192.168.1.1": False,
    "169.254.169.254": False,
    "100.64.0.1": False,
    "0.0.0.0": False,  # noqa: S104
    "224.0.0.1": False,
    "255.255.255.255": False,
    "::1": False,
    "::": False,
    "fe80::1%eth0": False,
    "fd00:ec2::254": False,
    "ff02::1": False,
    "::ffff:10.0.0.1": False,
    "::127.0.0.1": False,
    "64:ff9b::7f00:1": False,
    "64:ff9b::5db8:d822": True,
    "64:ff9b:1::5db8:d822": False,
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": False,
    "2002:7f00:1::": False,
    "fec0::1": False,
}


@pytest.mark.parametrize(("address", "passes"), ADDRESSES.items(), ids=ADDRESSES.keys())
def test_only_public_addresses_pass(address: str, passes: bool) -> None:
    refused = contextlib.nullcontext() if passes else pytest.raises(AddressRefusedError)
    with refused:
        AddressPolicy().check("host.test", address)


def test_hosts_addresses_and_networks_can_be_allowed() -> None:
    policy = AddressPolicy(["Service.Internal.", "10.1.0.0/16", "[::1]"])
    policy.check("service.internal", "192.168.0.9")
    policy.check("any.test", "10.1.2.3")
    policy.check("any.test", "::ffff:10.1.2.3")
    policy.check("any.test", "::1")
    with pytest.raises(AddressRefusedError, match=r"any\.test is 10\.2\.0\.1"):
        policy.check("any.test", "10.2.0.1")


def test_only_addresses_are_read_as_addresses() -> None:
    assert as_address("[::1]") == "::1"
    assert as_address("example.com") is None
