"""The format `ui-v1`: UI message chunks over SSE, as useChat of AI SDK 5, 6 and 7 reads them.

Source: Vercel AI SDK 5, "Stream Protocols", "UI Message Stream Protocol" (v1), 2026-10. A type that
a client does not know ends its stream, and so does an unknown key in 5.0.0, 6.0.0 and 7.0.0: only
what all of them declare is written, but for the parts of approvals, which 6 and 7 alone know and a
client has to ask for. The protocol has one message, so choices after the first are left out.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    WorkflowEvent,
)
from streaming.json_bytes import dump
from streaming.openai_sse import DONE, SSE_CONTENT_TYPE, STREAM_HEADERS
from streaming.progress import ProgressText
from streaming.sse import frame
from streaming.ui_approvals import ApprovalParts
from streaming.vercel_data import AI_SDK_FINISH_REASON, arguments_object

# Under this key of `providerMetadata` useChat keeps what a block of thinking needs to go back.
METADATA_KEY = "agent_server"
UI_HEADERS: Mapping[str, str] = MappingProxyType(
    {**STREAM_HEADERS, "x-vercel-ai-ui-message-stream": "v1"}
)


class UIV1Encoder:
    """`ui-v1`: one text, reasoning, tool or data part after the other, each closed by its end."""

    content_type = SSE_CONTENT_TYPE
    headers = UI_HEADERS
    keep_alive = b": ping\n\n"

    def __init__(self, head: StreamHead) -> None:
        # Without an id the client goes on with the message that it has; with a new one it would
        # show that message twice.
        self._message_id = None if head.continues_message else head.response_id
        self._open_part: Literal["text", "reasoning"] | None = None
        self._part_count = 0
        self._delta_prefix = b""
        self._open_tools: dict[str, None] = {}
        self._approvals = ApprovalParts(head.answered_approvals) if head.approval_parts else None
        self._runs: dict[str, str] = {}
        self._progress = ProgressText() if head.progress_text else None
        self._last_text = ""
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def open(self) -> bytes:
        """The start of the message and of its one step."""
        start: JsonObject = {"type": "start"}
        if self._message_id is not None:
            start["messageId"] = self._message_id
        return _chunk(start) + _chunk({"type": "start-step"})

    def encode(self, event: Event) -> bytes:
        """The chunks of one event."""
        match event:
            case TextDelta() | RefusalDelta():
                return b"" if event.choice else self._text(event.text)
            case ReasoningDelta():
                return b"" if event.choice else self._delta("reasoning", event.text)
            case ReasoningEnded():
                return b"" if event.choice else self._end_reasoning(event.block)
            case WorkflowEvent():
                return self._workflow_event(event)
            case ToolCallEnded():
                return b"" if event.choice else self._tool_call(event)
            case AgentToolCalled() | AgentToolReturned():
                return self._agent_tool(event)
            case Finished():
                self._finished(event)
                return b""
            case Started() | ToolCallStarted() | ToolCallDelta():
                return b""

    def fail(self, error: AgentServerError) -> bytes:
        """Close what is open, then the error; the finish tells apart a failure from a cut."""
        closed = self._end_open_part() + self._end_open_tools(error.message) + self._end_approvals()
        return closed + _chunk({"type": "error", "errorText": error.message}) + _finish("error")

    def close(self) -> bytes:
        """Close what is open and finish; why and at what cost is in the message's metadata."""
        closed = self._end_open_part() + self._end_open_tools("The tool gave no result.")
        closed += self._end_approvals()
        reason = "other" if self._reason is None else AI_SDK_FINISH_REASON[self._reason]
        return closed + _finish(reason, self._usage)

    def _text(self, text: str) -> bytes:
        self._last_text = text
        return self._delta("text", text)

    def _delta(self, kind: Literal["text", "reasoning"], text: str) -> bytes:
        if not text:
            return b""
        begin = b"" if self._open_part == kind else self._begin_part(kind)
        return begin + self._delta_prefix + dump(text) + b"}\n\n"

    def _begin_part(self, kind: Literal["text", "reasoning"]) -> bytes:
        closed = self._end_open_part()
        self._part_count += 1
        self._open_part = kind
        self._delta_prefix = b'data: {"type":"%b-delta","id":"%b","delta":' % (
            kind.encode(),
            self._part_id().encode(),
        )
        return closed + _chunk({"type": f"{kind}-start", "id": self._part_id()})

    def _part_id(self) -> str:
        return f"part_{self._part_count}"

    def _end_open_part(self, metadata: JsonObject | None = None) -> bytes:
        if self._open_part is None:
            return b""
        chunk: JsonObject = {"type": f"{self._open_part}-end", "id": self._part_id()}
        if metadata:
            chunk["providerMetadata"] = {METADATA_KEY: metadata}
        self._open_part = None
        return _chunk(chunk)

    def _end_reasoning(self, block: ReasoningBlock) -> bytes:
        metadata: JsonObject = {}
        if block.signature is not None:
            metadata["signature"] = block.signature
        if block.redacted_data is not None:
            metadata["redactedData"] = block.redacted_data
        begin = b""
        if self._open_part != "reasoning":
            if not metadata:
                return b""
            begin = self._begin_part("reasoning")
        return begin + self._end_open_part(metadata)

    def _workflow_event(self, event: WorkflowEvent) -> bytes:
        text = b""
        if self._progress is not None:
            line = self._progress.line(event, after=self._last_text)
            text = self._text(line) if line else b""
        data = b'data: {"type":"data-workflow","id":%b,"data":%b}\n\n' % (
            dump(self._workflow_part_id(event)),
            dump(event.data),
        )
        approval = b"" if self._approvals is None else self._approvals.encode(event)
        return text + self._end_open_part() + data + approval

    def _workflow_part_id(self, event: WorkflowEvent) -> str:
        """The id under which a later event of the step, or of the run, takes the place of this.

        A second run in the same message may have steps of the same names; they keep apart.
        """
        run_id = str(event.data.get("run_id", ""))
        is_first = not self._runs and self._message_id is not None
        suffix = self._runs.setdefault(run_id, "" if is_first else f":{run_id}")
        if event.step is not None:
            return f"step:{event.step}{suffix}"
        return f"workflow:{event.data.get('workflow', run_id)}{suffix}"

    def _tool_call(self, event: ToolCallEnded) -> bytes:
        chunk: JsonObject = {
            "type": "tool-input-available",
            "toolCallId": event.call_id,
            "toolName": event.name,
            "input": arguments_object(event.arguments),
        }
        return self._end_open_part() + _chunk(chunk)

    def _agent_tool(self, event: AgentToolCalled | AgentToolReturned) -> bytes:
        closed = self._end_open_part()
        if isinstance(event, AgentToolCalled):
            self._open_tools[event.call_id] = None
            return closed + _tool_input(event.call_id, event.name, event.arguments)
        if event.call_id in self._open_tools:
            del self._open_tools[event.call_id]
        else:
            # An output without an input before it ends the client's stream.
            closed += _tool_input(event.call_id, event.name, {})
        if event.is_error:
            return closed + _tool_error(event.call_id, event.text)
        output = event.text if event.structured is None else event.structured
        chunk: JsonObject = {"type": "tool-output-available", "toolCallId": event.call_id}
        return closed + _chunk({**chunk, "output": output, **_SHOWN_ONLY})

    def _end_open_tools(self, reason: str) -> bytes:
        chunks = [_tool_error(call_id, reason) for call_id in self._open_tools]
        self._open_tools.clear()
        return b"".join(chunks)

    def _end_approvals(self) -> bytes:
        return b"" if self._approvals is None else self._approvals.close()

    def _finished(self, event: Finished) -> None:
        self._usage = event.usage
        if not event.choice:
            self._reason = event.reason


# The client neither runs the tool nor sends the conversation again by itself.
_SHOWN_ONLY: JsonObject = {"providerExecuted": True, "dynamic": True}


def _chunk(chunk: JsonObject) -> bytes:
    return frame(dump(chunk))


def _tool_input(call_id: str, name: str, arguments: JsonObject) -> bytes:
    chunk: JsonObject = {
        "type": "tool-input-available",
        "toolCallId": call_id,
        "toolName": name,
        "input": arguments,
    }
    return _chunk({**chunk, **_SHOWN_ONLY})


def _tool_error(call_id: str, text: str) -> bytes:
    chunk: JsonObject = {"type": "tool-output-error", "toolCallId": call_id, "errorText": text}
    return _chunk({**chunk, **_SHOWN_ONLY})


def _finish(reason: str, usage: Usage | None = None) -> bytes:
    metadata: JsonObject = {"finishReason": reason}
    if usage is not None:
        metadata["usage"] = {
            "inputTokens": usage.prompt_tokens,
            "outputTokens": usage.completion_tokens,
            "totalTokens": usage.total_tokens,
        }
    finish: JsonObject = {"type": "finish", "messageMetadata": metadata}
    return _chunk({"type": "finish-step"}) + _chunk(finish) + DONE
