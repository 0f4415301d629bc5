"""What providers were recorded to answer, through every door that can reach them.

The server is a process with a provider for each recorded one; the replay answers for all of them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest

from streaming.errors import AgentServerError
from tests.callers.recorded import events_of, told_by
from tests.recordings import Exchange, Replay, exchanges_of, needs_recordings, provider_folders
from tests.running_server import RunningServer, running_server

AT_ONCE = 16
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "count_tokens": "/v1/messages/count_tokens",
}
WIRES = {"chat.completions": "chat"} | {wire: wire for wire in PATHS if wire != "chat"}
TRANSLATED = ("chat", "messages", "responses")
KEY = "sk-upstream-key-0123456789"
# Speaks Responses alone of the models that Azure names so.
ONLY_RESPONSES = "&note=-codex-"
CASES = [
    pytest.param(endpoint, folder, id=f"{endpoint}-{folder}")
    for endpoint in WIRES
    for folder in provider_folders(endpoint)
    # Ollama's own format, not OpenAI's.
    if (endpoint, folder) != ("embeddings", "ollama")
]


TRANSLATIONS = [
    pytest.param(endpoint, folder, door, id=f"{endpoint}-{folder}-{door}")
    for endpoint in ("chat.completions", "messages", "responses")
    for folder in provider_folders(endpoint)
    for door in TRANSLATED
    if door != WIRES[endpoint]
]


@pytest.fixture(scope="module")
def server(replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("recorded")
    rows = [f"  {name}: {{{row}, api_key: '${{RECORDED_KEY}}'}}" for name, row in _rows(replay.url)]
    path = folder / "gateway.yaml"
    path.write_text("\n".join(["providers:", *rows]))
    environment = {
        "RECORDED_KEY": KEY,
        "AGENT_SERVER_GATEWAY_CONFIG": str(path),
        "AGENT_SERVER_MAX_RETRIES": "0",
        "LOG_LEVEL": "WARNING",
    }
    with running_server(folder, "--no-agent", environment=environment) as found:
        yield found


def _rows(url: str) -> Iterator[tuple[str, str]]:
    chats = [name for name in provider_folders("chat.completions") if name != "openai"]
    yield from ((f"chat-{name}", f"like: {name}, base_url: '{url}'") for name in chats)
    yield "chat-openai", f"like: litellm-gateway, base_url: '{url}/v1'"
    yield "messages", f"like: anthropic, base_url: '{url}'"
    yield "all", f"like: litellm-gateway, base_url: '{url}/v1'"
    yield "only-chat", f"like: custom, base_url: '{url}/v1'"
    yield "only-responses", f"like: azure, base_url: '{url}'"


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    body: bytes


class Asker:
    """Asks the server, some requests at once."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._room = asyncio.Semaphore(AT_ONCE)

    async def ask(self, door: str, body: dict[str, Any]) -> Answer:
        async with (
            self._room,
            self._session.post(self._url + PATHS[door], data=orjson.dumps(body)) as answer,
        ):
            return Answer(answer.status, await answer.read())


@pytest.fixture
async def asker(server: RunningServer) -> AsyncIterator[Asker]:
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Asker(server.url, session)


async def gather(complaints: Any, exchanges: list[Exchange]) -> None:
    assert exchanges
    found = await asyncio.gather(*map(complaints, exchanges))
    if lines := [line for lines in found for line in lines]:
        pytest.fail("\n".join(lines))


# --- relayed --------------------------------------------------------------------------------------


@needs_recordings
@pytest.mark.parametrize(("endpoint", "folder"), CASES)
async def test_a_recorded_request_gets_its_recorded_answer(
    endpoint: str, folder: str, replay: Replay, asker: Asker
) -> None:
    wire = WIRES[endpoint]

    before = len(replay.requests)
    bodies: dict[str, dict[str, Any]] = {}

    async def complaints(exchange: Exchange) -> list[str]:
        body = bodies[exchange.id] = recorded_body(exchange, wire, folder)
        answer = await asker.ask(wire, body)
        return await relay_complaints(exchange, wire, answer)

    await gather(complaints, exchanges_of(replay, folder, endpoint))
    sent = {request.json["model"]: request.json for request in replay.requests[before:]}
    for name, body in bodies.items():
        arrived = sent[f"replay/{name}"]
        assert changed_fields(body, arrived) <= {"model", *MAY_CHANGE.get(wire, ())}, name


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def recorded_body(exchange: Exchange, wire: str, folder: str) -> dict[str, Any]:
    """The body as it was recorded, for a provider of the replay."""
    provider = {"chat": f"chat-{folder}", "messages": "messages", "count_tokens": "messages"}
    body = exchange.request.get("body")
    if not isinstance(body, dict) or not body.get("messages", body.get("input")):
        # The fixtures of an SDK have no request.
        body = minimal_body(wire, exchange)
    # What it continues was kept by the provider, in a conversation that we did not have.
    body = {key: value for key, value in body.items() if key != "previous_response_id"}
    return {**body, "model": f"{provider.get(wire, 'all')}/replay/{exchange.id}"}


def minimal_body(wire: str, exchange: Exchange) -> dict[str, Any]:
    stream = {"stream": True} if exchange.stream else {}
    said = [{"role": "user", "content": "hi"}]
    match wire:
        case "chat":
            options = {"stream_options": {"include_usage": True}} if exchange.stream else {}
            return {"messages": said, **stream, **options}
        case "messages":
            return {"messages": said, "max_tokens": 99, **stream}
        case "responses":
            return {"input": "hi", "store": False, **stream}
        case "count_tokens":
            return {"messages": said}
        case _:
            return {"input": "hi"}


async def relay_complaints(exchange: Exchange, wire: str, answer: Answer) -> list[str]:
    recorded = exchange.body.replace(b"\r\n", b"\n")
    try:
        expected = [] if wire not in TRANSLATED else events_of(recorded, wire)
    except AgentServerError:
        expected = None
    if exchange.meta["status"] >= 400 or expected is None:
        is_error = answer.status >= 400 or b'"error"' in answer.body
        return [] if is_error else [f"{exchange.id}: an error is no answer"]
    if answer.status != 200:
        return [f"{exchange.id}: {answer.status} {answer.body[:300]!r}"]
    found = differences(exchange, wire, recorded, answer.body)
    if wire in TRANSLATED:
        said, told = await told_by(recorded, wire), await told_by(answer.body, wire)
        if exchange.stream and not wants_usage(exchange, wire):
            said.usage = told.usage
        if said != told:
            found.append(f"{exchange.id}:\n  recorded {said}\n  relayed  {told}")
    return found


def choices_of(exchange: Exchange) -> int:
    body = exchange.request.get("body")
    return (body.get("n") or 1) if isinstance(body, dict) else 1


def wants_usage(exchange: Exchange, wire: str) -> bool:
    body = exchange.request.get("body")
    options = body.get("stream_options") if isinstance(body, dict) else None
    return wire != "chat" or bool(options and options.get("include_usage"))


def differences(exchange: Exchange, wire: str, recorded: bytes, relayed: bytes) -> list[str]:
    """Frames that are not as they were recorded, though nothing marks them."""
    if not exchange.stream:
        # OpenRouter keeps a connection alive with white space before its JSON.
        is_same = recorded.lstrip() == relayed or exchange.id in MENDED
        return [] if is_same else [f"{exchange.id}: another body"]
    marks = MARKS if wire == "chat" else (b"[DONE]",)
    before, after = (
        Counter(frame for frame in body.strip(b"\n").split(b"\n\n") if frame)
        for body in (recorded, relayed)
    )
    return [
        f"{exchange.id}: {frame!r}"
        for frame in (before - after) + (after - before)
        if not any(mark in frame for mark in marks)
    ]


# That the usage is to be told, what has another name, and what some upstreams refuse though it
# says nothing: `n: 1` and `tool_choice: auto`.
MAY_CHANGE: dict[str, set[str]] = {
    "chat": {"stream_options", "max_tokens", "max_completion_tokens", "n", "tool_choice"}
}
# A frame without one of these goes out as it came: usage moves, tool calls are numbered.
MARKS = (b'"prompt_tokens"', b'"usage":null', b'"tool_calls"', b"[DONE]")
# Whole answers with a finish reason that is not OpenAI's, or without one.
MENDED = {
    "together/chat-json-eos-01",
    "openrouter/chat-json-text-02",
    "openai/chat-json-image-03",
}


# --- translated -----------------------------------------------------------------------------------


@needs_recordings
@pytest.mark.parametrize(("endpoint", "folder", "door"), TRANSLATIONS)
async def test_a_recorded_answer_tells_the_same_at_another_door(
    endpoint: str, folder: str, door: str, replay: Replay, asker: Asker
) -> None:
    wire = WIRES[endpoint]

    async def complaints(exchange: Exchange) -> list[str]:
        provider = {"messages": "messages"}.get(wire, f"only-{wire}")
        options = ONLY_RESPONSES if wire == "responses" else ""
        model = f"{provider}/replay/{exchange.id}?split=all{options}"
        answer = await asker.ask(door, {**minimal_body(door, exchange), "model": model})
        return await translation_complaints(exchange, wire, door, answer)

    await gather(complaints, exchanges_of(replay, folder, endpoint))


async def translation_complaints(
    exchange: Exchange, wire: str, door: str, answer: Answer
) -> list[str]:
    try:
        expected = await told_by(exchange.body, wire)
    except AgentServerError:
        expected = None
    if exchange.meta["status"] >= 400 or expected is None:
        is_error = answer.status >= 400 or b'"error"' in answer.body
        return [] if is_error else [f"{exchange.id}: an error is no answer"]
    if answer.status != 200:
        return [f"{exchange.id}: {answer.status} {answer.body[:300]!r}"]
    told = await told_by(answer.body, door)
    if choices_of(exchange) > 1:
        # Nobody can ask for several choices at the other doors: the usage comes with the last.
        expected.usage = told.usage
    if told != expected:
        return [f"{exchange.id}:\n  recorded {expected}\n  {door}  {told}"]
    return []
