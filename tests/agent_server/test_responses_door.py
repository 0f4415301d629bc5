"""The door of one response: what it is called, and what its answers repeat of the request."""

import json
from typing import Any

from agent_server.access import ALL_SCOPES, Caller
from agent_server.doors.responses import RESPONSES_FORMAT, responses_door
from agent_server.stored_responses.port import ResponseCall
from agent_server.stream_formats import StreamChoice
from streaming.encoder import StreamHead
from streaming.events import Finished, JsonObject, TextDelta


def call_of(**fields: Any) -> ResponseCall:
    body: JsonObject = {"model": "m", "input": "hi", **fields}
    return ResponseCall(
        caller=Caller("alice", "alice", ALL_SCOPES, None),
        head=StreamHead("resp_1", "m", 7),
        body=body,
        model="m",
        stream=True,
    )


def test_an_answer_has_the_id_that_was_told_and_the_model_that_answered() -> None:
    call = call_of(instructions="Be brief.", service_tier="auto")
    door = responses_door(call)
    head = door.head("their-model", StreamChoice(RESPONSES_FORMAT))
    encoder = door.formats[RESPONSES_FORMAT](head)
    created = json.loads(encoder.open().split(b"data: ")[1].partition(b"\n")[0])["response"]
    assert (created["id"], created["created_at"]) == ("resp_1", 7)
    assert (created["model"], created["instructions"]) == ("their-model", "Be brief.")
    body = door.make_body(head)
    body.add(TextDelta("hello"))
    body.add(Finished("stop"))
    assert body.body()["id"] == "resp_1"


def test_the_request_is_read_with_its_conversation() -> None:
    call = call_of(service_tier="auto")
    call.history = [{"role": "user", "content": "first"}]
    door = responses_door(call, may_relay=False)
    assert door.read is not None
    read = door.read({}, {})
    assert [message.text for message in read.request.messages] == ["first", "hi"]
    assert read.dropped == ("service_tier",)
    assert not door.may_relay(StreamChoice(None), {})
