"""Approvals in `ui-v1`: parts for clients that know them, events alone for all others."""

from typing import Any

import orjson

from streaming.encoder import StreamHead
from streaming.errors import AgentLimitError
from streaming.events import Finished, JsonObject, TextDelta, WorkflowEvent
from streaming.ui_v1 import UIV1Encoder

ASKED: JsonObject = {
    "type": "approval_requested",
    "run_id": "r1",
    "step": "ask",
    "message": "Ship it?",
    "approval_id": "r1/ask",
    "seq": 3,
    "time": "2026-11-29T12:00:00Z",
}
APPROVED: JsonObject = {
    "type": "approval_decided",
    "run_id": "r1",
    "step": "ask",
    "approved": True,
    "by": "anna",
    "reason": "",
}
REJECTED: JsonObject = {**APPROVED, "approved": False, "reason": "no"}
EXPIRED: JsonObject = {
    "type": "step_failed",
    "run_id": "r1",
    "step": "ask",
    "error": "nobody decided within 1h",
}
CALL = "approval:r1/ask"


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    frames = [frame.removeprefix(b"data: ") for frame in data.split(b"\n\n") if frame]
    return [orjson.loads(frame) for frame in frames if frame != b"[DONE]"]


def encoder(*answered: str, approval_parts: bool = True) -> UIV1Encoder:
    return UIV1Encoder(
        StreamHead(
            "msg_1",
            "m",
            1700000000,
            continues_message=bool(answered),
            approval_parts=approval_parts,
            answered_approvals=answered,
        )
    )


def encoded(encoder: UIV1Encoder, *events: JsonObject) -> list[dict[str, Any]]:
    """The chunks of the events, without the events themselves."""
    data = b"".join(encoder.encode(WorkflowEvent(event)) for event in events)
    return [chunk for chunk in chunks_of(data) if chunk["type"] != "data-workflow"]


def test_a_client_that_may_not_know_them_gets_no_part() -> None:
    plain = encoder(approval_parts=False)
    data = b"".join(plain.encode(WorkflowEvent(event)) for event in (ASKED, APPROVED))
    assert [chunk["type"] for chunk in chunks_of(data)] == ["data-workflow"] * 2


def test_an_approval_is_a_tool_that_asks_behind_its_event() -> None:
    data = encoder().encode(WorkflowEvent(ASKED))
    assert chunks_of(data)[0]["type"] == "data-workflow"
    assert chunks_of(data)[1:] == [
        {
            "type": "tool-input-available",
            "toolCallId": CALL,
            "toolName": "workflow_approval",
            "input": {"approval_id": "r1/ask", "message": "Ship it?"},
            "dynamic": True,
        },
        {"type": "tool-approval-request", "approvalId": "r1/ask", "toolCallId": CALL},
    ]


def test_a_decision_in_the_same_message_closes_the_part_and_the_step_of_the_message() -> None:
    found = encoded(encoder(), ASKED, APPROVED)[2:]
    assert found == [
        {
            "type": "tool-output-available",
            "toolCallId": CALL,
            "output": {"approved": True, "by": "anna", "reason": ""},
        },
        # A client that sends again after finished tools looks at the last step alone.
        {"type": "finish-step"},
        {"type": "start-step"},
    ]
    denied = encoded(encoder(), ASKED, REJECTED)[2]
    assert denied == {"type": "tool-output-denied", "toolCallId": CALL}


def test_a_part_of_the_clients_last_message_is_closed_once() -> None:
    answering = encoder("r1/ask")
    [closed] = encoded(answering, APPROVED)
    assert (closed["type"], closed["toolCallId"]) == ("tool-output-available", CALL)
    assert encoded(answering, APPROVED) == []
    answering.encode(Finished("stop"))
    assert [chunk["type"] for chunk in chunks_of(answering.close())] == ["finish-step", "finish"]


def test_a_decision_of_a_part_that_the_client_does_not_have_says_nothing() -> None:
    assert encoded(encoder(), APPROVED, REJECTED) == []


def test_an_approval_whose_time_is_over_is_an_error_of_its_part() -> None:
    found = encoded(encoder(), ASKED, EXPIRED)[2]
    assert found == {
        "type": "tool-output-error",
        "toolCallId": CALL,
        "errorText": "nobody decided within 1h",
    }
    by_itself = {"type": "step_complete", "run_id": "r1", "step": "ask"}
    assert encoded(encoder(), ASKED, by_itself)[2]["output"] == {"approved": True}
    later = {**ASKED, "step": "ask@2", "approval_id": "r1/ask@2"}
    assert encoded(encoder(), later, EXPIRED)[2]["toolCallId"] == "approval:r1/ask@2"


def test_what_the_client_answered_and_nobody_recorded_is_an_error_at_the_end() -> None:
    for end in (
        lambda answering: answering.close(),
        lambda answering: answering.fail(AgentLimitError("no")),
    ):
        answering = encoder("r1/ask")
        answering.encode(TextDelta("Nothing was decided."))
        types = [chunk["type"] for chunk in chunks_of(end(answering))]
        assert types[:2] == ["text-end", "tool-output-error"]


def test_what_is_asked_stays_open_at_the_end() -> None:
    asking = encoder()
    encoded(asking, ASKED)
    assert [chunk["type"] for chunk in chunks_of(asking.close())] == ["finish-step", "finish"]
