"""`/v1/responses` over HTTP, as OpenAI's SDK uses it: kept, continued, run in the background."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.responses import Response

from agent_server.frame_log import frames_of
from agent_server.stored_responses.memory_store import MemoryResponseStore
from tests.agent_server.response_server import Server, serving

BOUND_SECONDS = 10


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(MemoryResponseStore()) as server:
        yield server


async def test_a_response_is_kept_and_shown_again(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="m", input="hi", metadata={"a": "b"})
    assert made.output_text == "I heard user:hi"
    assert made.metadata == {"a": "b"}
    shown = await client.responses.retrieve(made.id)
    assert shown == made
    Response.model_validate(shown.model_dump())
    items = await client.responses.input_items.list(made.id)
    assert [item.to_dict()["content"] for item in items.data] == [
        [{"type": "input_text", "text": "hi"}]
    ]


async def test_a_response_that_was_not_to_be_kept_is_not(server: Server) -> None:
    made = await server.client().responses.create(model="m", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        await server.client().responses.retrieve(made.id)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_is_continued_at_once(server: Server, stream: bool) -> None:
    client = server.client()
    previous: str | None = None
    for number in range(3):
        if stream:
            async with client.responses.stream(
                model="m", input=f"{number}", previous_response_id=previous or openai.omit
            ) as events:
                made: Any = await events.get_final_response()
        else:
            made = await client.responses.create(
                model="m", input=f"{number}", previous_response_id=previous
            )
        assert made.previous_response_id == previous
        previous = made.id
    first, second = "I heard user:0", "I heard user:0 assistant:I heard user:0 user:1"
    assert made.output_text == (
        f"I heard user:0 assistant:{first} user:1 assistant:{second} user:2"
    )
    newest = await client.responses.input_items.list(made.id, limit=1)
    assert [item.id async for item in newest][-1].endswith("_i0")
    oldest_first = await client.responses.input_items.list(made.id, order="asc")
    assert [item.to_dict().get("role") for item in oldest_first.data] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]


async def test_instructions_are_not_carried_over(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="m", input="0", instructions="Be brief.")
    await client.responses.create(model="m", input="1", previous_response_id=made.id)
    said = server.models.calls[-1].request.chat.messages
    assert [message.role for message in said] == ["user", "assistant", "user"]


async def test_a_conversation_may_be_continued_twice(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="m", input="0")
    for text in ("left", "right"):
        again = await client.responses.create(model="m", input=text, previous_response_id=made.id)
        assert again.output_text.endswith(f"I heard user:0 user:{text}")


async def test_items_of_earlier_responses_can_be_referred_to(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="m", input="0")
    again = await client.responses.create(
        model="m",
        input=[
            {"type": "item_reference", "id": made.output[0].id or ""},
            {"role": "user", "content": "1"},
        ],
    )
    assert again.output_text == "I heard assistant:I heard user:0 user:1"
    with pytest.raises(openai.BadRequestError, match="no item of that id"):
        await server.client("bob").responses.create(
            model="m", input=[{"type": "item_reference", "id": made.output[0].id or ""}]
        )


async def test_the_responses_of_others_are_not_found(server: Server) -> None:
    made = await server.client().responses.create(model="m", input="hi")
    bob = server.client("bob").responses
    for asked in (
        bob.retrieve(made.id),
        bob.delete(made.id),
        bob.cancel(made.id),
        bob.input_items.list(made.id),
        bob.retrieve("resp_" + "x" * 200),
    ):
        with pytest.raises(openai.NotFoundError, match="not found"):
            await asked
    with pytest.raises(openai.BadRequestError) as caught:
        await bob.create(model="m", input="hi", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"
    assert (await server.client().responses.retrieve(made.id)).id == made.id


async def test_a_deleted_response_is_gone(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="m", input="hi")
    again = await client.responses.create(model="m", input="1", previous_response_id=made.id)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="no longer kept"):
        await client.responses.create(model="m", input="2", previous_response_id=again.id)


async def test_only_a_response_in_the_background_can_be_cancelled(server: Server) -> None:
    made = await server.client().responses.create(model="m", input="hi")
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        await server.client().responses.cancel(made.id)
    with pytest.raises(openai.BadRequestError, match="background: true"):
        await server.client().responses.retrieve(made.id, stream=True)


async def test_a_response_in_the_background_goes_on_by_itself(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="waits", input="hi", background=True)
    assert made.status == "queued"
    assert (await client.responses.retrieve(made.id)).status == "in_progress"
    server.models.may_go_on.set()
    done = await finished(client, made.id)
    assert done.output_text == "I heard user:hi and waited"
    assert done.background
    again = await client.responses.create(model="m", input="1", previous_response_id=made.id)
    assert "and waited" in again.output_text


async def test_every_cut_of_a_background_stream_is_resumed_without_a_gap(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="waits", input="hi", background=True)
    # The first readers follow it while it runs, the others read what is kept.
    early = [asyncio.create_task(stream_of(server, made.id, after)) for after in (-1, 0, 3, 5, 6)]
    await stream_begins(server, made.id)
    server.models.may_go_on.set()
    whole = await early[0]
    frames = frames_of(whole)
    numbers = [json.loads(frame.partition(b"data: ")[2])["sequence_number"] for frame in frames]
    assert numbers == list(range(len(frames)))
    assert frames[-1].startswith(b"event: response.completed")
    for after, task in zip((0, 3, 5, 6), early[1:], strict=True):
        assert await task == b"".join(frames[after + 1 :])
    for after in range(-1, len(frames) + 1):
        assert await stream_of(server, made.id, after) == b"".join(frames[after + 1 :])


async def test_a_background_stream_that_is_left_goes_on(server: Server) -> None:
    client = server.client()
    stream = await client.responses.create(model="waits", input="hi", background=True, stream=True)
    seen = []
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    server.models.may_go_on.set()
    response_id = seen[0].response.id if seen[0].type == "response.created" else ""
    rest = await client.responses.retrieve(
        response_id, stream=True, starting_after=seen[-1].sequence_number
    )
    seen += [event async for event in rest]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"


async def test_a_client_that_leaves_a_plain_stream_ends_it(server: Server) -> None:
    stream = await server.client().responses.create(model="waits", input="hi", stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    async with asyncio.timeout(BOUND_SECONDS):
        await server.models.closed.wait()


async def test_a_cancelled_response_says_so_to_all_its_readers(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="waits", input="hi", background=True)
    following = asyncio.create_task(stream_of(server, made.id, -1))
    await stream_begins(server, made.id)
    cancelled = await client.responses.cancel(made.id)
    assert cancelled.status == "cancelled"
    assert server.models.closed.is_set()
    assert cancelled.output_text == "I heard user:hi"
    assert frames_of(await following)[-1].startswith(b"event: response.incomplete")
    assert (await client.responses.cancel(made.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        await client.responses.create(model="m", input="1", previous_response_id=made.id)


@pytest.mark.parametrize(
    ("model", "message"), [("breaks", "line was cut"), ("refuses", "cannot be reached")]
)
async def test_a_failure_in_the_background_is_kept(
    server: Server, model: str, message: str
) -> None:
    client = server.client()
    made = await client.responses.create(model=model, input="hi", background=True)
    failed = await finished(client, made.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert message in failed.error.message
    frames = frames_of(await stream_of(server, made.id, -1))
    assert frames[0].startswith(b"event: response.created")
    assert frames[-1].startswith(b"event: response.failed")


async def test_a_failure_before_the_first_frame_has_its_status(server: Server) -> None:
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            await server.client().responses.create(model="refuses", input="hi", stream=stream)
        assert caught.value.status_code == 502


async def test_a_failure_in_a_stream_is_raised_by_the_sdk(server: Server) -> None:
    stream = await server.client().responses.create(model="breaks", input="hi", stream=True)
    with pytest.raises(openai.APIError, match="line was cut"):
        async for _ in stream:
            pass


async def test_a_silent_stream_is_kept_alive(server: Server) -> None:
    async with post(server, {"model": "waits", "input": "hi", "stream": True}) as answer:
        async with asyncio.timeout(BOUND_SECONDS):
            seen = b""
            while b": ping\n\n" not in seen:
                seen += await answer.content.readany()
        server.models.may_go_on.set()
        assert b"event: response.completed" in await answer.content.read()


async def test_the_number_of_running_responses_is_bounded() -> None:
    async with serving(MemoryResponseStore(), max_running=3, max_running_per_owner=2) as server:
        alice, bob = server.client(), server.client("bob")
        for _ in range(2):
            made = await alice.responses.create(model="waits", input="hi", background=True)
        with pytest.raises(openai.RateLimitError, match="2 responses"):
            await alice.responses.create(model="waits", input="hi", background=True)
        await bob.responses.create(model="waits", input="hi", background=True)
        with pytest.raises(openai.InternalServerError, match="3 responses"):
            await bob.responses.create(model="waits", input="hi", background=True)
        await alice.responses.cancel(made.id)
        await bob.responses.create(model="waits", input="hi", background=True)


async def test_a_response_that_takes_too_long_fails() -> None:
    async with serving(MemoryResponseStore(), max_seconds=0.05) as server:
        made = await server.client().responses.create(model="waits", input="hi", background=True)
        failed = await finished(server.client(), made.id)
    assert failed.error is not None
    assert "longer than 0.05 seconds" in failed.error.message


async def test_what_runs_when_the_server_stops_is_told_to_have_failed() -> None:
    store = MemoryResponseStore()
    async with serving(store) as server:
        made = await server.client().responses.create(model="waits", input="hi", background=True)
        await stream_begins(server, made.id)
    async with serving(store) as server:
        failed = await server.client().responses.retrieve(made.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "stopped" in failed.error.message


async def test_another_replica_shows_cancels_and_continues_a_response() -> None:
    store = MemoryResponseStore()
    async with serving(store) as one, serving(store) as other:
        made = await one.client().responses.create(model="waits", input="hi", background=True)
        await stream_begins(one, made.id)
        assert (await other.client().responses.retrieve(made.id)).status == "in_progress"
        following = asyncio.create_task(stream_of(other, made.id, 2))
        one.models.may_go_on.set()
        frames = frames_of(await stream_of(one, made.id, -1))
        assert await following == b"".join(frames[3:])
        again = await other.client().responses.create(
            model="m", input="1", previous_response_id=made.id
        )
        assert "and waited" in again.output_text
        one.models.may_go_on.clear()
        second = await one.client().responses.create(model="waits", input="hi", background=True)
        await stream_begins(one, second.id)
        one.models.closed.clear()
        cancelled = await other.client().responses.cancel(second.id)
        assert cancelled.status == "cancelled"
        async with asyncio.timeout(BOUND_SECONDS):
            await one.models.closed.wait()


async def test_a_response_that_a_provider_keeps_goes_back_to_it(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="keeper", input="hi")
    assert made.id == "resp_theirs"
    await client.responses.retrieve(made.id)
    await client.responses.retrieve(made.id, extra_query={"stream": "true", "starting_after": "3"})
    await client.responses.input_items.list(made.id, limit=5)
    await client.responses.cancel(made.id)
    again = await client.responses.create(input="1", previous_response_id=made.id)
    assert again.output_text == "I heard user:1"
    assert server.models.calls[-1].provider == "keeper"
    assert server.models.calls[-1].relay_body["previous_response_id"] == made.id
    await client.responses.delete(made.id)
    assert server.models.asked == [
        ("keeper", "GET", "/responses/resp_theirs", ""),
        ("keeper", "GET", "/responses/resp_theirs", "stream=true&starting_after=3"),
        ("keeper", "GET", "/responses/resp_theirs/input_items", "limit=5"),
        ("keeper", "POST", "/responses/resp_theirs/cancel", ""),
        ("keeper", "DELETE", "/responses/resp_theirs", ""),
    ]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        await server.client("bob").responses.retrieve(made.id)


async def test_a_provider_that_keeps_responses_is_sent_what_we_kept(server: Server) -> None:
    client = server.client()
    made = await client.responses.create(model="m", input="0")
    await client.responses.create(model="keeper", input="1", previous_response_id=made.id)
    body: Any = server.models.calls[-1].relay_body
    assert "previous_response_id" not in body
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "user"]


async def test_codex_may_list_its_search_and_others_are_told(server: Server) -> None:
    body = {"model": "m", "input": "hi", "store": False, "tools": [{"type": "web_search"}]}
    async with post(server, body, {"originator": "codex_cli_rs"}) as answer:
        assert answer.status == 200
        assert answer.headers["x-dropped-fields"] == "tools.web_search"
        assert answer.headers["x-provider"] == "scripted"
    async with post(server, body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "tools[0].type"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?stream=yes", "stream"),
        ("?starting_after=x", "starting_after"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=msg_x", "after"),
    ],
)
async def test_a_wrong_query_is_refused_by_its_name(server: Server, query: str, param: str) -> None:
    made = await server.client().responses.create(model="m", input="hi")
    async with aiohttp.ClientSession() as session:
        url = f"{server.url}/v1/responses/{made.id}{query}"
        async with session.get(url) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["param"] == param


@pytest.mark.parametrize("field", ["stream", "store", "background"])
async def test_a_switch_is_true_or_false(server: Server, field: str) -> None:
    async with post(server, {"model": "m", "input": "hi", field: "yes"}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == field


@contextlib.asynccontextmanager
async def post(
    server: Server, body: dict[str, Any], headers: dict[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/responses", json=body, headers=headers) as answer,
    ):
        yield answer


async def stream_of(server: Server, response_id: str, after: int) -> bytes:
    """The frames of a response after a number, read to their end."""
    query = "" if after < 0 else f"&starting_after={after}"
    url = f"{server.url}/v1/responses/{response_id}?stream=true{query}"
    async with (
        asyncio.timeout(BOUND_SECONDS),
        aiohttp.ClientSession() as session,
        session.get(url) as answer,
    ):
        assert answer.status == 200
        return b"".join(frames_of(await answer.content.read()))


async def stream_begins(server: Server, response_id: str) -> None:
    """Return when a running response has shown its second delta."""
    frames = server.responses.background.read_after("alice", response_id, 4)
    async with asyncio.timeout(BOUND_SECONDS), contextlib.aclosing(frames):
        await anext(frames)


async def finished(client: openai.AsyncOpenAI, response_id: str) -> Response:
    """A response when it has ended."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            response = await client.responses.retrieve(response_id)
            if response.status not in {"queued", "in_progress"}:
                return response
