"""Detached streams of the chat doors, broken off and resumed, on a real server and its sockets."""

from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.conftest import ALICE
from tests.detached_chats import (
    DETACHED,
    FORMATS,
    HOOK_5,
    LINES,
    LONG,
    NUMBERED,
    OPENAI,
    SSE,
    STREAM,
    after,
    chatting,
    delta,
    ids_of,
    read_until,
)
from tests.servers import Scripted


@pytest.mark.parametrize("name", FORMATS)
async def test_a_stream_that_broke_is_replayed_and_followed_byte_by_byte(
    tmp_path: Path, name: str
) -> None:
    async with chatting(tmp_path) as (alice, _):
        had = await alice.broken_off(FORMATS[name])
        following = [await alice.get(STREAM) for _ in range(3)]
        # One of them has left as well, so that nobody counts on the first.
        await read_until(following[0], b"Hel")
        following[0].close()
        alice.model.may_end.set()
        whole, *others = [await answer.read() for answer in following[1:]]
        assert not alice.model.client_left.is_set()
    assert b"lo" in whole
    assert whole.startswith(had)
    assert others == [whole]
    assert len(alice.model.requests) == 1


@pytest.mark.parametrize("name", FORMATS)
async def test_a_resumed_stream_has_the_headers_and_the_bytes_of_the_uninterrupted_one(
    tmp_path: Path, name: str
) -> None:
    async with chatting(tmp_path) as (alice, _):
        first = await alice.post(FORMATS[name])
        had = await read_until(first, b"Hel")
        second = await alice.get()
        alice.model.may_end.set()
        assert had + await first.read() == await second.read()
    own = {"Date", "X-Request-Id"}
    kept = [{k: v for k, v in a.headers.items() if k.title() not in own} for a in (first, second)]
    assert kept[0] == kept[1]
    assert first.headers["x-chat-id"] == "chat-1"


@pytest.mark.parametrize("name", NUMBERED)
async def test_last_event_id_gives_the_frames_after_it_while_and_after_they_are_made(
    tmp_path: Path, name: str
) -> None:
    async with chatting(tmp_path) as (alice, _):
        had = await alice.broken_off(NUMBERED[name])
        last = ids_of(had)[-1]
        following = await alice.get(**{"Last-Event-ID": str(last)})
        alice.model.may_end.set()
        whole = had + await following.read()
        numbers = ids_of(whole)
        assert numbers == list(range(1, len(numbers) + 1))
        for number in numbers[:-1]:
            rest = await alice.resumed(**{"Last-Event-ID": str(number)})
            assert rest == after(whole, number)
        assert await alice.resumed(**{"Last-Event-ID": "0"}) == whole
        # The client has all: 204 tells an EventSource not to come again.
        assert await alice.status(**{"Last-Event-ID": str(numbers[-1])}) == 204


@pytest.mark.parametrize("name", LINES)
async def test_formats_without_ids_are_replayed_whole(tmp_path: Path, name: str) -> None:
    async with chatting(tmp_path) as (alice, _):
        had = await alice.broken_off(LINES[name])
        following = await alice.get(**{"Last-Event-ID": "1"})
        alice.model.may_end.set()
        whole = await following.read()
    assert whole.startswith(had)
    assert b"id:" not in whole


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "0x1", "9" * 17, "99"])
async def test_a_last_event_id_that_is_none_is_refused_and_says_what_to_send(
    tmp_path: Path, given: str
) -> None:
    async with chatting(tmp_path) as (alice, _):
        await alice.broken_off()
        answer = await alice.get(**{"Last-Event-ID": given})
        error = (await answer.json())["error"]
    assert answer.status == 400
    assert error["param"] == "Last-Event-ID"
    assert "the id of" in error["message"]


async def test_an_answer_that_ended_without_a_reader_is_told_once(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        had = await alice.broken_off()
        alice.model.may_end.set()
        # By the query, as AI SDK 4 does; there its other name has no meaning.
        whole = await alice.resumed("/api/chat?chatId=chat-1")
        assert whole.startswith(had)
        # Whoever was sent the whole must not get it again: useChat would show it twice.
        assert await alice.status() == 204
        assert await alice.status("/api/chat?chatId=chat-1") == 204
        assert await alice.resumed(**{"Last-Event-ID": "2"}) == after(whole, 2)


async def test_there_is_nothing_to_resume_of_an_inline_answer(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        answer = await alice.post(HOOK_5, **{"X-Workflow-Detached": "false"})
        had = await read_until(answer, b"Hel")
        assert "x-chat-id" not in answer.headers
        assert await alice.status() == 204
        alice.model.may_end.set()
        whole = had + await answer.read()
    assert not ids_of(whole)


async def test_another_owners_chat_is_as_unknown_as_one_that_never_was(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, bob):
        had = await alice.broken_off()
        answers = [await bob.get(), await bob.get("/api/chat/no-such-chat/stream")]
        told = [(answer.status, await answer.read(), sorted(answer.headers)) for answer in answers]
        assert told[0] == told[1]
        assert told[0][:2] == (204, b"")
        # The same name is another chat of his, and hers stays.
        await bob.broken_off()
        alice.model.may_end.set()
        assert (await alice.resumed()).startswith(had)
        assert not (await bob.resumed()).startswith(had)


async def test_whoever_has_no_key_is_refused(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        assert await alice.status(Authorization="Bearer unknown") == 401


async def test_a_failure_before_the_first_byte_keeps_its_status_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    refusal = Scripted(429, (b'{"error":{"message":"slow down"}}',), {"retry-after": "7"})
    async with chatting(tmp_path, refusal, max_retries=0) as (alice, _):
        answer = await alice.post(OPENAI)
        assert answer.status == 429
        assert (await answer.json())["error"]["message"]
        assert await alice.status() == 204


async def test_a_failure_in_the_middle_is_the_last_frame_for_all_who_resume(tmp_path: Path) -> None:
    broken = Scripted(pieces=(delta("Hel"),), headers=SSE, ending="cut")
    async with chatting(tmp_path, broken) as (alice, _):
        answer = await alice.post(HOOK_5)
        whole = await answer.read()
        # Ids go on to the end, the error's included.
        assert await alice.resumed(**{"Last-Event-ID": "1"}) == after(whole, 1)
    assert b'"type":"error"' in whole
    assert ids_of(whole) == list(range(1, whole.count(b"data: ") + 1))


@pytest.mark.parametrize("is_detached", [True, False])
async def test_the_next_turn_of_a_chat_takes_the_place_of_the_one_before(
    tmp_path: Path, *, is_detached: bool
) -> None:
    async with chatting(tmp_path) as (alice, _):
        first = await alice.broken_off()
        second = await alice.post(HOOK_5, **{"X-Workflow-Detached": str(is_detached).lower()})
        had = await read_until(second, b"Hel")
        second.close()
        alice.model.may_end.set()
        if is_detached:
            assert (await alice.resumed()).startswith(had)
            assert had != first
        else:
            assert await alice.status() == 204


async def test_a_chat_without_a_name_is_found_by_the_id_of_its_answer(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        path, body, _ = HOOK_5
        answer = await alice.post((path, {**body, "id": None}, {}))
        had = await read_until(answer, b"Hel")
        answer.close()
        chat_id = answer.headers["x-chat-id"]
        assert f'"messageId":"{chat_id}"'.encode() in had
        alice.model.may_end.set()
        assert (await alice.resumed(f"/api/chat/{chat_id}/stream")).startswith(had)


async def test_an_id_may_hold_anything_that_a_path_can_escape(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        path, body, _ = HOOK_5
        answer = await alice.post((path, {**body, "id": "a/b ü?&%"}, {}))
        escaped = answer.headers["x-chat-id"]
        assert escaped == "a%2Fb%20%C3%BC%3F%26%25"
        answer.close()
        alice.model.may_end.set()
        assert b"lo" in await alice.resumed(f"/api/chat/{escaped}/stream")
        assert await alice.status(f"/api/chat?chatId={escaped}") == 204


async def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        answer = await alice.post(OPENAI, **{"X-Chat-Id": "x" * 257})
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "X-Chat-Id"
        missing = await alice.get("/api/chat")
        assert missing.status == 400
        assert (await missing.json())["error"]["param"] == "chatId"


async def test_a_name_that_no_stream_can_have_troubles_no_inline_answer(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        await alice.broken_off()
        alice.model.may_end.set()
        answer = await alice.post(
            OPENAI, **{"X-Workflow-Detached": "false", "X-Chat-Id": "x" * 257}
        )
        assert answer.status == 200
        assert b"Hel" in await answer.read()


async def test_who_asks_for_the_head_alone_has_not_read_the_stream(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        had = await alice.broken_off()
        alice.model.may_end.set()
        assert (await alice.session.head(STREAM)).status == 405
        assert (await alice.resumed()).startswith(had)


async def test_the_hook_of_ai_sdk_4_gets_an_empty_stream_where_there_is_nothing(
    tmp_path: Path,
) -> None:
    # It would show "The response body is empty." for a 204.
    async with chatting(tmp_path) as (alice, _):
        headers = {"Content-Type": "application/json"}
        answer = await alice.get("/api/chat?chatId=none", **headers)
        assert (answer.status, await answer.read()) == (200, b"")
        assert answer.headers["x-vercel-ai-data-stream"] == "v1"
        assert await alice.status("/api/chat/none/stream", **headers) == 204


async def test_a_reader_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    async with chatting(tmp_path, LONG) as (alice, _):
        stalled = await alice.post(OPENAI)
        following = await alice.get()
        said = await read_until(following, b"id: 600\n")
        alice.model.may_end.set()
        said += await following.read()
        # Who did not read is told that it comes too late for the rest.
        missed = await stalled.read()
    assert ids_of(said) == list(range(1, 604))
    assert said.endswith(b"data: [DONE]\n\n")
    assert ids_of(missed) == list(range(1, len(ids_of(missed)) + 1))
    assert b'"code":"frames_not_held"' in missed[-1000:]


async def test_of_a_stream_longer_than_what_is_held_the_rest_can_be_resumed(tmp_path: Path) -> None:
    async with chatting(tmp_path, LONG) as (alice, _):
        following = await alice.post(OPENAI)
        await read_until(following, b"id: 600\n")
        following.close()
        refused = await alice.get()
        error = (await refused.json())["error"]
        assert (refused.status, error["code"]) == (409, "frames_not_held")
        assert refused.headers["x-should-retry"] == "false"
        first = int(error["message"].rpartition("Last-Event-ID: ")[2].rstrip("'."))
        alice.model.may_end.set()
        rest = await alice.resumed(**{"Last-Event-ID": str(first)})
        assert ids_of(rest) == list(range(first + 1, 604))


async def test_silence_is_filled_for_each_reader_and_is_no_frame(tmp_path: Path) -> None:
    async with chatting(tmp_path, keep_alive_seconds=0.05) as (alice, _):
        await alice.broken_off()
        following = await alice.get()
        await read_until(following, b": ping\n\n")
        alice.model.may_end.set()
        await following.read()
        assert b"ping" not in await alice.resumed(**{"Last-Event-ID": "0"})


async def test_openais_client_reads_a_stream_whose_frames_have_ids(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (alice, _):
        url = f"{alice.url}/v1"
        async with AsyncOpenAI(base_url=url, api_key=ALICE, max_retries=0) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model="m",
                messages=[{"role": "user", "content": "hello"}],
                stream=True,
                extra_headers={**DETACHED, "X-Chat-Id": "chat-1"},
            )
            stream = raw.parse()
            chunks = [await anext(stream)]
            alice.model.may_end.set()
            chunks += [chunk async for chunk in stream]
    assert raw.headers["x-chat-id"] == "chat-1"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.id for chunk in chunks} == {"up-1"}


async def test_pages_may_read_and_send_the_chats_name(tmp_path: Path) -> None:
    origin = "http://page.example"
    async with chatting(tmp_path, cors_origins=[origin]) as (alice, _):
        answer = await alice.post(HOOK_5, Origin=origin)
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "x-chat-id,last-event-id",
        }
        allowed = await alice.session.options(STREAM, headers=asked)
        assert allowed.status == 200
        assert "x-chat-id" in answer.headers["access-control-expose-headers"]
        answer.close()
