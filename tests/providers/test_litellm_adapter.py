"""The litellm adapter with the package itself, which `make test-litellm` installs apart."""

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.chat_request import ChatRequest, Message, TextPart, ToolSpec
from providers.litellm.adapter import LiteLLMProvider
from providers.litellm.library import load_library
from providers.upstream import RetryPolicy, Timeouts
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    NotFoundError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamOverloadedError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from streaming.events import (
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallEnded,
    Usage,
)
from tests.recordings import read_events
from tests.servers import Scripted, scripted

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("litellm") is None,
        reason="litellm is not installed here; `make test-litellm` runs these apart",
    ),
    # litellm itself reads what pydantic has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # The import alone takes seconds, and longer where other work goes on.
    pytest.mark.timeout(120),
]

DATA = Path(__file__).resolve().parents[1] / "data"
KEY = "sk-key-of-nobody"
STREAM = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}


@pytest.fixture
async def loaded() -> AsyncIterator[Any]:
    library = await load_library()
    yield library
    await library.close_litellm_async_clients()


def provider_at(url: str, **fields: Any) -> LiteLLMProvider:
    fields.setdefault("retry", RetryPolicy(limit=0))
    return LiteLLMProvider(default_model="openai/gpt-5.4", base_url=url, api_key=KEY, **fields)


def asks(model: str = "openai/gpt-5.4", **fields: Any) -> ChatRequest:
    return ChatRequest(model, (Message("user", (TextPart("Hi"),)),), **fields)


def stream(name: str) -> Scripted:
    return Scripted(200, ((DATA / name).read_bytes(),), STREAM)


def error(status: int, code: str | None = None, **headers: str) -> Scripted:
    told = orjson.dumps({"error": {"message": "told", "type": "t", "code": code}})
    return Scripted(status, (told,), {**JSON, **headers})


async def events_of(provider: LiteLLMProvider, request: ChatRequest) -> list[Event]:
    async with aclosing(provider.chat(request)) as answer:
        return [event async for event in answer]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_stream_of_an_openai_upstream(loaded: Any) -> None:
    async with scripted(stream("openai/openai-text.sse")) as server:
        provider = provider_at(f"{server.url}/v1")
        async with aclosing(provider.chat(asks(temperature=0.5))) as answer:
            reading = await read_events(answer)
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json["model"] == "gpt-5.4"
    assert request.json["stream"] is True
    assert reading.choice(0).text == "Grüße 👋 世界"
    assert reading.choice(0).finish_reason == "stop"
    assert reading.usage == Usage(12, 5, 17, cached_tokens=4, reasoning_tokens=2)


async def test_tool_calls_of_an_openai_upstream(loaded: Any) -> None:
    tool = ToolSpec("get_weather", "The weather", {"type": "object", "properties": {}})
    async with (
        scripted(stream("openai/openai-tool-calls.sse")) as server,
        aclosing(provider_at(f"{server.url}/v1").chat(asks(tools=(tool,)))) as answer,
    ):
        reading = await read_events(answer)
    assert server.requests[0].json["tools"][0]["function"]["name"] == "get_weather"
    assert [call.name for call in reading.choice(0).tool_calls] == ["weather", "clock"]
    assert reading.choice(0).finish_reason == "tool_calls"


async def test_a_whole_answer(loaded: Any) -> None:
    body = (DATA / "openai/openai-text.json").read_bytes()
    async with scripted(Scripted(200, (body,), JSON)) as server:
        events = await events_of(provider_at(f"{server.url}/v1"), asks(stream=False))
    assert "stream" not in server.requests[0].json
    assert isinstance(events[0], Started)
    assert text_of(events) == "Grüße 👋"
    usage = Usage(12, 5, 17, cached_tokens=4, reasoning_tokens=2)
    assert events[-1] == Finished("stop", usage=usage)


async def test_an_upstream_of_another_format(loaded: Any) -> None:
    async with scripted(stream("anthropic/thinking-tool.sse")) as server:
        events = await events_of(provider_at(server.url), asks("anthropic/claude-sonnet-4-5"))
    [request] = server.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert thought == "The user wants the version."
    [call] = [event for event in events if isinstance(event, ToolCallEnded)]
    assert (call.call_id, call.name) == ("toolu_01E", "get_version")
    assert call.arguments == '{"package": "agent-server"}'
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.reason == "tool_calls"
    assert isinstance(last.usage, Usage)
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (25, 90)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400), InvalidRequestError),
        (error(401, "invalid_api_key"), UpstreamCredentialsError),
        (error(404, "model_not_found"), NotFoundError),
        (error(429), UpstreamRateLimitError),
        (error(500), UpstreamRejectedError),
        (error(503), UpstreamOverloadedError),
        # litellm calls a connection without an answer an error 500 of the upstream.
        (Scripted(None, ending="cut"), UpstreamRejectedError),
    ],
    ids=["400", "401", "404", "429", "500", "503", "no answer"],
)
async def test_each_failure_has_its_class(
    loaded: Any, answer: Scripted, kind: type[AgentServerError]
) -> None:
    async with scripted(answer) as server:
        with pytest.raises(AgentServerError) as caught:
            await events_of(provider_at(f"{server.url}/v1"), asks())
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


async def test_a_stream_that_breaks_is_no_success(loaded: Any) -> None:
    half = (DATA / "openai/openai-text.sse").read_bytes()[:600]
    async with scripted(Scripted(200, (half,), STREAM, ending="cut")) as server:
        with pytest.raises(AgentServerError) as caught:
            await events_of(provider_at(f"{server.url}/v1"), asks())
    assert type(caught.value) is UpstreamConnectionError


async def test_a_failure_before_the_answer_is_repeated(loaded: Any) -> None:
    patient = RetryPolicy(limit=2, base_seconds=0.001)
    async with scripted(error(503), error(429), stream("openai/openai-text.sse")) as server:
        events = await events_of(provider_at(f"{server.url}/v1", retry=patient), asks())
    assert len(server.requests) == 3
    assert isinstance(events[-1], Finished)


async def test_a_refused_request_is_not_repeated(loaded: Any) -> None:
    async with scripted(error(400)) as server:
        with pytest.raises(InvalidRequestError):
            await events_of(provider_at(f"{server.url}/v1", retry=RetryPolicy()), asks())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "setting"),
    [
        (Scripted(None, ending="silence"), "first_byte_seconds"),
        (Scripted(200, (), STREAM, "silence"), "first_byte_seconds"),
        (
            Scripted(
                200, ((DATA / "openai/openai-text.sse").read_bytes()[:600],), STREAM, "silence"
            ),
            "idle_seconds",
        ),
    ],
    ids=["before the head", "before the first byte", "in the middle"],
)
async def test_every_silence_has_a_bound(loaded: Any, answer: Scripted, setting: str) -> None:
    bounds = Timeouts(**{setting: 0.3})
    async with scripted(answer) as server:
        provider = provider_at(f"{server.url}/v1", timeouts=bounds, retry=RetryPolicy())
        with pytest.raises(UpstreamTimeoutError) as caught:
            await events_of(provider, asks())
    assert caught.value.param == setting
    assert len(server.requests) == 1


async def test_closing_the_answer_ends_the_request(loaded: Any) -> None:
    half = (DATA / "openai/openai-text.sse").read_bytes()[:600]
    async with scripted(Scripted(200, (half,), STREAM, ending="silence")) as server:
        answer = provider_at(f"{server.url}/v1").chat(asks())
        assert isinstance(await anext(answer), Started)
        await answer.aclose()
        async with asyncio.timeout(10):
            await server.client_left.wait()


async def test_models_are_those_with_a_key(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    models = await provider_at("http://127.0.0.1:1").models()
    assert models
    assert {model.owned_by for model in models} == {"litellm"}
    assert any(model.model_id.startswith("groq/") for model in models)


IMPORT_WITHOUT_NETWORK = """
import asyncio, os, socket, sys

def refuse(*address):
    print("a connection to", address)
    raise OSError

socket.socket.connect = socket.getaddrinfo = refuse
from providers.litellm.adapter import LiteLLMProvider
from providers.litellm.library import load_library
LiteLLMProvider(default_model="openai/x")
assert "litellm" not in sys.modules
asyncio.run(load_library())
assert "litellm" in sys.modules
assert "FROM_DOTENV" not in os.environ
"""


def test_the_import_opens_no_connection_and_reads_no_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_NETWORK],
        cwd=tmp_path,
        env={"PYTHONPATH": str(DATA.parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
