"""Approvals as parts of a UI message: a tool that nobody runs asks, and shows the decision.

Source: Vercel AI SDK 6 and 7, "Stream Protocols" (`tool-approval-request`, `tool-output-denied`)
and `lastAssistantMessageIsCompleteWithApprovalResponses`, 2026-11. Clients before 6 end their
stream at these parts.
"""

from collections.abc import Sequence
from typing import Final

from streaming.approval_words import APPROVAL_TOOL, approval_call_id, approval_id_of
from streaming.events import JsonObject, WorkflowEvent
from streaming.json_bytes import dump
from streaming.sse import frame

NOT_RECORDED: Final = "This decision was not recorded; the answer says why."
_ASKED: Final = ("message", "form", "expires")
_ENDS: Final = frozenset({"step_complete", "step_failed", "step_skipped"})


class ApprovalParts:
    """The approvals of one message: those asked in it, and those that the client answered before.

    A part is closed where the client has it: in this message, or in the one that this one goes on
    with. A step of the message is ended behind what this message opened and closed, or else clients
    that send again after finished tools would.
    """

    def __init__(self, answered: Sequence[str] = ()) -> None:
        self._answered = dict.fromkeys(answered)
        self._asked: dict[str, None] = {}

    def encode(self, event: WorkflowEvent) -> bytes:
        """The chunks besides the event itself."""
        if event.type == "approval_requested":
            return self._ask(event)
        if event.type == "approval_decided":
            return self._decide(event)
        if event.type in _ENDS:
            return self._expire(event)
        return b""

    def close(self) -> bytes:
        """Close what the client answered and no event told of; what is asked stays open."""
        chunks = [_failed(approval_id, NOT_RECORDED) for approval_id in self._answered]
        self._answered.clear()
        return b"".join(chunks)

    def _ask(self, event: WorkflowEvent) -> bytes:
        approval_id = approval_id_of(event.data)
        if approval_id in self._answered:
            # The client has the part, and a second would hide what it answered.
            return b""
        self._asked[approval_id] = None
        asked: JsonObject = {key: event.data[key] for key in _ASKED if key in event.data}
        call_id = approval_call_id(approval_id)
        shown = _chunk(
            {
                "type": "tool-input-available",
                "toolCallId": call_id,
                "toolName": APPROVAL_TOOL,
                "input": {"approval_id": approval_id, **asked},
                "dynamic": True,
            }
        )
        return shown + _chunk(
            {"type": "tool-approval-request", "approvalId": approval_id, "toolCallId": call_id}
        )

    def _decide(self, event: WorkflowEvent) -> bytes:
        approval_id = approval_id_of(event.data)
        if event.data.get("approved") is not True:
            call_id = approval_call_id(approval_id)
            denied = _chunk({"type": "tool-output-denied", "toolCallId": call_id})
            return self._closed(approval_id, denied)
        output: JsonObject = {
            key: event.data[key] for key in ("approved", "by", "reason") if key in event.data
        }
        return self._closed(approval_id, _given(approval_id, output))

    def _expire(self, event: WorkflowEvent) -> bytes:
        """Close the approval of a step that ended without a decision."""
        prefix = f"{event.data.get('run_id', '')}/{event.step}"
        named = [
            approval_id
            for approval_id in (*self._asked, *self._answered)
            if approval_id.partition("@")[0] == prefix
        ]
        reason = event.data.get("error") or event.data.get("reason") or "The step has ended."
        is_approved = event.type == "step_complete"
        return b"".join(
            self._closed(one, _given(one, {"approved": True}))
            if is_approved
            else self._closed(one, _failed(one, str(reason)))
            for one in named
        )

    def _closed(self, approval_id: str, chunk: bytes) -> bytes:
        if approval_id in self._answered:
            del self._answered[approval_id]
            return chunk
        if approval_id in self._asked:
            del self._asked[approval_id]
            return chunk + _NEXT_STEP
        return b""


def _given(approval_id: str, output: JsonObject) -> bytes:
    return _chunk(
        {
            "type": "tool-output-available",
            "toolCallId": approval_call_id(approval_id),
            "output": output,
        }
    )


def _failed(approval_id: str, reason: str) -> bytes:
    return _chunk(
        {
            "type": "tool-output-error",
            "toolCallId": approval_call_id(approval_id),
            "errorText": reason,
        }
    )


def _chunk(chunk: JsonObject) -> bytes:
    return frame(dump(chunk))


_NEXT_STEP: Final = _chunk({"type": "finish-step"}) + _chunk({"type": "start-step"})
