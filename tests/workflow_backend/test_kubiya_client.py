"""Kubiya's API over HTTP: what is sent, what a refusal says, and that a start is sent once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.servers import Scripted, scripted
from tests.workflow_backend.kubiya_api import KEY, KubiyaApi, Stream, data, kubiya_api
from workflow_backend.engines.kubiya.client import (
    KubiyaClient,
    Patience,
    StreamLostError,
    checked_base_url,
)
from workflow_backend.engines.kubiya.errors import KubiyaError, KubiyaStartUnknownError
from workflow_backend.engines.kubiya.runners import Runners, read_runners
from workflow_backend.engines.runners import RunnerDetail
from workflow_backend.masking import Masker

SOON = 10.0
QUICK = Patience(connect=1, answer=1, start=1, silence=1)


async def client_of(url: str, key: str = KEY, patience: Patience = QUICK) -> KubiyaClient:
    client = KubiyaClient(url, key, Masker([key]), patience)
    await client.open()
    return client


async def heard(client: KubiyaClient, runner: str = "gke") -> bytes:
    async with asyncio.timeout(SOON), client.run(runner, {"name": "demo"}) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.fixture
async def api() -> AsyncIterator[KubiyaApi]:
    async with kubiya_api(Stream([data('{"a":1}')])) as server:
        yield server


async def test_a_start_is_sent_as_the_vendor_documents_it(api: KubiyaApi) -> None:
    client = await client_of(api.url)
    assert await heard(client, "my runner&x=1") == data('{"a":1}')
    await client.close()
    (started,) = api.started
    assert started.query == {
        "runner": "my runner&x=1",
        "operation": "execute_workflow",
        "native_sse": "true",
    }
    assert started.headers["Authorization"] == f"UserKey {KEY}"
    assert started.headers["Accept"] == "text/event-stream"
    assert started.body == {"name": "demo"}


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (401, "KUBIYA_API_KEY"),
        (403, "KUBIYA_API_KEY"),
        (404, "KUBIYA_BASE_URL"),
        (422, "mend the workflow"),
        (429, "later"),
        (500, "not sent twice"),
        (503, "not sent twice"),
    ],
)
async def test_a_refusal_says_what_where_and_how_to_mend_it(status: int, mend: str) -> None:
    said = Stream([f"no, {KEY} is bad".encode()], status=status, content_type="text/plain")
    async with kubiya_api(said) as api:
        client = await client_of(api.url)
        with pytest.raises(KubiyaError) as caught:
            await heard(client)
        await client.close()
    message = str(caught.value)
    assert mend in message
    assert f"HTTP {status}" in message
    assert "/api/v1/workflow" in message
    assert "no, *** is bad" in message
    assert KEY not in message
    assert isinstance(caught.value, KubiyaStartUnknownError) == (status >= 500)
    assert len(api.started) == 1


async def test_a_wrong_key_is_refused_and_named_by_its_variable_alone(api: KubiyaApi) -> None:
    client = await client_of(api.url, key="kub-wrong-key")
    with pytest.raises(KubiyaError, match="KUBIYA_API_KEY") as caught:
        await heard(client)
    await client.close()
    assert "kub-wrong-key" not in str(caught.value)


async def test_a_redirect_is_not_followed_with_the_key(api: KubiyaApi) -> None:
    there = Stream(status=307, location=f"{api.url}/api/v1/workflow")
    async with kubiya_api(there) as first:
        client = await client_of(first.url)
        with pytest.raises(KubiyaError, match="KUBIYA_BASE_URL"):
            await heard(client)
        await client.close()
    assert api.started == []


async def test_an_answer_that_is_no_stream_is_told() -> None:
    answer = Stream([b'{"error":"no runner"}'], content_type="application/json")
    async with kubiya_api(answer) as api:
        client = await client_of(api.url)
        with pytest.raises(KubiyaStartUnknownError, match="no runner"):
            await heard(client)
        await client.close()


async def test_where_nobody_listens_nothing_was_sent(unused_tcp_port: int) -> None:
    client = await client_of(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(KubiyaError, match="cannot be reached") as caught:
        await heard(client)
    await client.close()
    assert not isinstance(caught.value, KubiyaStartUnknownError)


@pytest.mark.parametrize("ending", ["cut", "reset", "silence"])
async def test_a_start_without_an_answer_is_not_sent_again(ending: str) -> None:
    async with scripted(Scripted(status=None, ending=ending)) as server:  # type: ignore[arg-type]
        client = await client_of(server.url)
        with pytest.raises(KubiyaStartUnknownError, match="not sent again"):
            await heard(client)
        await client.close()
        assert len(server.requests) == 1


@pytest.mark.parametrize("ending", ["cut", "silence"])
async def test_a_stream_that_breaks_off_is_lost_not_ended(ending: str) -> None:
    async with kubiya_api(Stream([data('{"a":1}')], ending=ending)) as api:  # type: ignore[arg-type]
        client = await client_of(api.url)
        with pytest.raises(StreamLostError):
            await heard(client)
        await client.close()
        assert len(api.started) == 1


async def test_leaving_the_stream_closes_the_connection() -> None:
    async with kubiya_api(Stream([data('{"a":1}')], ending="silence")) as api:
        client = await client_of(api.url, patience=Patience())
        async with client.run("gke", {}) as chunks:
            assert await anext(chunks) == data('{"a":1}')
        async with asyncio.timeout(SOON):
            await api.started[0].client_left.wait()
        await client.close()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.kubiya.ai", "https://api.kubiya.ai/"),
        ("https://api.kubiya.ai/api/v1/", "https://api.kubiya.ai/"),
        ("https://proxy.example.com/kubiya", "https://proxy.example.com/kubiya/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
    ],
)
def test_the_base_url_is_taken_in_its_usual_forms(given: str, used: str) -> None:
    assert str(checked_base_url(given)) == used


@pytest.mark.parametrize(
    "given",
    ["", "api.kubiya.ai", "ftp://x", "https://", "http://api.kubiya.ai", "https://u:p@x", "http://[",
     "https://x:99999", "https://x/?a=1"],
)  # fmt: skip
def test_a_base_url_that_would_leak_the_key_or_is_none_is_refused(given: str) -> None:
    with pytest.raises(KubiyaError, match="KUBIYA_BASE_URL"):
        checked_base_url(given)


@pytest.mark.parametrize(
    "answer",
    [
        {"gke": {"description": "ours"}, "kubiya-hosted": {}},
        [{"name": "gke", "description": "ours"}, {"name": "kubiya-hosted"}],
        {"runners": [{"name": "gke", "description": "ours"}, "kubiya-hosted"]},
    ],
)
def test_runners_come_as_a_map_or_a_list(answer: object) -> None:
    assert read_runners(answer) == [RunnerDetail("gke", "ours"), RunnerDetail("kubiya-hosted")]


@pytest.mark.parametrize("answer", [None, 7, "x", [1, None, {}], {"error": "no"}, {"a": 1}])
def test_an_answer_without_runners_has_none(answer: object) -> None:
    assert read_runners(answer) == []


async def test_health_is_the_text_true_or_false() -> None:
    health = {"a": "true", "b": "false", "c": "who knows"}
    async with kubiya_api(runners=["a", "b", "c", "d/e"], health=health) as api:
        client = await client_of(api.url)
        found = await Runners(client).all()
        await client.close()
    assert {runner.name: runner.is_healthy for runner in found} == {
        "a": True,
        "b": False,
        "c": None,
        "d/e": None,
    }


async def test_runners_are_asked_once_a_minute_and_kept_when_asking_fails() -> None:
    now = 0.0
    async with kubiya_api() as api:
        client = await client_of(api.url)
        runners = Runners(client, lambda: now)
        first = await runners.all()
        assert await runners.all() == first
        assert api.asked.count("/api/v3/runners") == 1
        assert await runners.default() == "kubiya-hosted"
    now = 100.0
    assert await runners.all() == first
    await client.close()


async def test_without_the_hosted_runner_a_healthy_one_is_the_default() -> None:
    async with kubiya_api(runners=["a", "b"], health={"b": "true"}) as api:
        client = await client_of(api.url)
        assert await Runners(client).default() == "b"
        await client.close()


async def test_runners_that_nobody_tells_are_an_error(unused_tcp_port: int) -> None:
    client = await client_of(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(KubiyaError, match="list the runners"):
        await Runners(client).all()
    assert await Runners(client).default() == "kubiya-hosted"
    await client.close()
