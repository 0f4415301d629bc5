"""The format `responses`: OpenAI's Responses events, one SSE frame each.

Source: OpenAI API reference, "Responses", "Streaming events", 2026-11. What is ours is
`response.workflow.event`, which clients skip as they skip every event that they do not know. A
failure is told twice: as `error`, flat and nested, which all SDKs raise, and as `response.failed`.
"""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    JsonValue,
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
from streaming.openai_sse import SSE_CONTENT_TYPE
from streaming.progress import ProgressText
from streaming.responses_items import CallItem, EventWriter, MessageItem, ReasoningItem
from streaming.responses_objects import (
    CANCELLED_CODE,
    NO_SETTINGS,
    CalledTool,
    ItemStatus,
    ResponseSettings,
    Status,
    response_error,
    response_object,
    response_usage,
)

STREAM_HEADERS: Mapping[str, str] = MappingProxyType(
    {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
)
_INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_Item = MessageItem | ReasoningItem | CallItem


class ResponsesEncoder:
    """`responses`: the whole life of a response, numbered without a gap from 0.

    `settings` is what the response repeats of its request. A response has one answer: events of
    further choices are left out. Ids of items follow from the response's own; `clock` gives seconds
    since 1970, for when the response is completed.
    """

    content_type = SSE_CONTENT_TYPE
    headers = STREAM_HEADERS
    keep_alive = b": ping\n\n"

    def __init__(
        self,
        head: StreamHead,
        settings: ResponseSettings = NO_SETTINGS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._head = head
        self._settings = settings
        self._clock = clock
        self._writer = EventWriter()
        self._id_suffix = head.response_id.removeprefix("resp_")
        self._output: list[JsonValue] = []
        self._message: MessageItem | None = None
        self._reasoning: ReasoningItem | None = None
        self._calls: dict[int, CallItem] = {}
        self._text_prefix = b""
        self._pieces: list[str] = []
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._workflow_events: list[JsonValue] = []
        self._progress = ProgressText() if head.progress_text else None

    def open(self) -> bytes:
        """The two events that show the response before it has any output."""
        response = dump(response_object(self._head, self._settings, "in_progress", []))
        return self._response_event(b"response.created", response) + self._response_event(
            b"response.in_progress", response
        )

    def encode(self, event: Event) -> bytes:
        """The events of one event of ours."""
        prefix = self._text_prefix
        if prefix and type(event) is TextDelta and not event.choice:
            self._pieces.append(event.text)
            writer = self._writer
            number = writer.next_number
            writer.next_number = number + 1
            return b'%b%b,"logprobs":[],"sequence_number":%d}\n\n' % (
                prefix,
                dump(event.text),
                number,
            )
        if isinstance(event, WorkflowEvent):
            return self._workflow_event(event)
        if getattr(event, "choice", 0):
            return b""
        return self._content(event)

    def fail(self, error: AgentServerError) -> bytes:
        """Close what is open and tell of the error; a cancelled response ends without one."""
        closing = self._close_items("incomplete")
        if error.code == CANCELLED_CODE:
            response = self._response("cancelled")
            return closing + self._response_event(b"response.incomplete", dump(response))
        told = response_error(error)
        flat: JsonObject = {**told, "param": error.param}
        nested = {"type": error.error_type, **flat, "code": error.code or told["code"]}
        fields = dump({**flat, "error": nested})[1:-1]
        response = {**self._response("failed"), "error": told}
        return (
            closing
            + self._writer.event(b"error", fields)
            + self._response_event(b"response.failed", dump(response))
        )

    def close(self) -> bytes:
        """The event that ends the response, with the whole of it."""
        name = b"response.incomplete" if self._is_incomplete else b"response.completed"
        return self._close_items(self._last_status) + self._response_event(
            name, dump(self.response())
        )

    def response(self) -> JsonObject:
        """The response as a whole, once `Finished` was encoded and the stream closed."""
        if not self._is_incomplete:
            return self._response("completed")
        reason = _INCOMPLETE_REASONS[self._reason or ""]
        return {**self._response("incomplete"), "incomplete_details": {"reason": reason}}

    def _content(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text):
                return self._text(text)
            case RefusalDelta(text=text):
                opening, message = self._open_message()
                return opening + self._of_message(message, message.refuse(text))
            case ReasoningDelta(text=text):
                opening, reasoning = self._open_reasoning()
                return opening + (reasoning.add(text) if text else b"")
            case ReasoningEnded(block=block):
                opening, reasoning = self._open_reasoning()
                return opening + self._done(reasoning, reasoning.end(block), "completed")
            case ToolCallStarted(index=index, call_id=call_id, name=name):
                return self._open_call(index, call_id, name)[0]
            case ToolCallDelta(index=index, arguments=arguments):
                call = self._calls.get(index)
                return call.add(arguments) if call else b""
            case ToolCallEnded():
                return self._end_call(event)
            case Finished(reason=reason, usage=usage):
                self._reason, self._usage = reason, usage
                return b""
            case Started() | AgentToolCalled() | AgentToolReturned() | WorkflowEvent():
                return b""

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        opening, message = self._open_message()
        opening += self._of_message(message, message.open_text())
        return opening + self.encode(TextDelta(text))

    def _of_message(self, message: MessageItem, written: bytes) -> bytes:
        """Take over which part of the message is open, which the written events have changed."""
        self._text_prefix, self._pieces = message.delta_prefix, message.pieces
        return written

    def _open_message(self) -> tuple[bytes, MessageItem]:
        if self._message is not None:
            return b"", self._message
        closing = self._close_reasoning("completed")
        index = self._next_place()
        self._message = MessageItem(self._writer, f"msg_{self._id_suffix}_{index}", index)
        return closing + self._message.open(), self._message

    def _open_reasoning(self) -> tuple[bytes, ReasoningItem]:
        if self._reasoning is not None:
            return b"", self._reasoning
        closing = self._close_message("completed")
        index = self._next_place()
        self._reasoning = ReasoningItem(self._writer, f"rs_{self._id_suffix}_{index}", index)
        return closing + self._reasoning.open(), self._reasoning

    def _open_call(self, number: int, call_id: str, name: str) -> tuple[bytes, CallItem]:
        closing = self._close_message("completed") + self._close_reasoning("completed")
        index = self._next_place()
        tool = self._settings.tools.get(name) or CalledTool(name)
        item_id = f"{'ctc' if tool.is_custom else 'fc'}_{self._id_suffix}_{index}"
        call = CallItem(self._writer, item_id, index, call_id, tool)
        self._calls[number] = call
        return closing + call.open(), call

    def _end_call(self, event: ToolCallEnded) -> bytes:
        opening, call = b"", self._calls.pop(event.index, None)
        if call is None:
            opening, call = self._open_call(event.index, event.call_id, event.name)
            del self._calls[event.index]
        return opening + self._done(call, call.end(event.arguments), "completed")

    def _next_place(self) -> int:
        self._output.append(None)
        return len(self._output) - 1

    def _close_items(self, status: ItemStatus) -> bytes:
        closing = self._close_message(status) + self._close_reasoning(status)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            closing += self._done(call, call.close(status), status)
        return closing

    def _close_message(self, status: ItemStatus) -> bytes:
        message, self._message = self._message, None
        if message is None:
            return b""
        return self._of_message(message, self._done(message, message.close(status), status))

    def _close_reasoning(self, status: ItemStatus) -> bytes:
        reasoning = self._reasoning
        return self._done(reasoning, reasoning.close(status), status) if reasoning else b""

    def _done(self, item: _Item, written: bytes, status: ItemStatus) -> bytes:
        """Put the finished item into the output."""
        self._output[item.output_index] = item.object(status)
        if item is self._reasoning:
            self._reasoning = None
        return written

    def _workflow_event(self, event: WorkflowEvent) -> bytes:
        if event.type != "step_output":
            self._workflow_events.append(dict(event.data))
        line = ""
        if self._progress is not None:
            line = self._progress.line(event, after=self._pieces[-1] if self._pieces else "")
        text = self.encode(TextDelta(line)) if line else b""
        fields = b'"response_id":%b,"workflow_event":%b' % (
            dump(self._head.response_id),
            dump(event.data),
        )
        return text + self._writer.event(b"response.workflow.event", fields)

    def _response_event(self, name: bytes, response: bytes) -> bytes:
        return self._writer.event(name, b'"response":%b' % response)

    def _response(self, status: Status) -> JsonObject:
        response = response_object(self._head, self._settings, status, list(self._output))
        response["usage"] = response_usage(self._usage)
        if status == "completed":
            response["completed_at"] = int(self._clock())
        if self._workflow_events:
            response["workflow_events"] = self._workflow_events
        return response

    @property
    def _is_incomplete(self) -> bool:
        return self._reason in _INCOMPLETE_REASONS

    @property
    def _last_status(self) -> ItemStatus:
        return "incomplete" if self._is_incomplete else "completed"
