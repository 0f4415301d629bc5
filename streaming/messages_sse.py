"""The format `messages`: Anthropic's stream of named events, one content block after another.

Source: Anthropic API documentation, "Streaming messages", 2026-10. What is ours is the event
`workflow_event`, whose data is `{"type": "workflow_event", "workflow_event": {...}}`: Anthropic's
SDKs hand it to who reads the raw events, and leave it out of the message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import orjson

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    WorkflowEvent,
)
from streaming.json_bytes import dump
from streaming.messages_objects import (
    end_object,
    error_object,
    text_block,
    tool_block,
    usage_object,
)
from streaming.progress import ProgressText

STREAM_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
)
_TEXT_START: Final = dump(text_block(""))
_THINKING_START: Final = b'{"type":"thinking","thinking":"","signature":""}'
_MESSAGE_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_END: Final = b"}}\n\n"
_Content: TypeAlias = (
    TextDelta | ReasoningDelta | ReasoningEnded | ToolCallStarted | ToolCallDelta | ToolCallEnded
)


@dataclass(slots=True)
class _ToolBlock:
    """The tool call whose block is open: its index among the calls, and its arguments so far."""

    index: int
    pieces: list[str] = field(default_factory=list)

    def is_whole(self) -> bool:
        """Whether its arguments are a JSON text already."""
        try:
            orjson.loads("".join(self.pieces))
        except orjson.JSONDecodeError:
            return False
        return True


class MessagesEncoder:
    """`messages`: text, thinking and tool calls as content blocks, of which one at most is open.

    Anthropic's clients take a delta for the last block's. So whatever comes while a tool call is
    not whole waits until it is; calls that come one after another are written as they come.
    """

    content_type = "text/event-stream; charset=utf-8"
    headers = STREAM_HEADERS
    keep_alive = b": ping\n\n"

    def __init__(self, head: StreamHead) -> None:
        self._head = head
        self._blocks = 0
        # What a further piece of text is written between; empty where no text block is open.
        self._text_prefix = b""
        self._is_thinking = False
        self._tool: _ToolBlock | None = None
        self._stopped_calls: set[int] = set()
        self._waiting: list[_Content] = []
        self._refusal: list[str] = []
        self._progress = ProgressText() if head.progress_text else None
        self._last_text = ""

    def open(self) -> bytes:
        """The message without content; how long the question was is told at the end."""
        return (
            b'event: message_start\ndata: {"type":"message_start","message":{"id":%b,'
            b'"type":"message","role":"assistant","model":%b,"content":[],"stop_reason":null,'
            b'"stop_sequence":null,"stop_details":null,"usage":%b,"container":null}}\n\n'
            % (dump(self._head.response_id), dump(self._head.model), dump(usage_object(None)))
        )

    def encode(self, event: Event) -> bytes:
        """The events of one event; those of a further choice, which the format lacks, are none."""
        if type(event) is TextDelta and self._text_prefix and not event.choice:
            self._last_text = event.text
            return self._text_prefix + dump(event.text) + _END
        match event:
            case Started() | AgentToolCalled() | AgentToolReturned():
                return b""
            case WorkflowEvent():
                return self._progress_text(event) + self._workflow_event(event)
            case _ if event.choice:
                return b""
            case Finished():
                return self._finish(event)
            case RefusalDelta():
                self._refusal.append(event.text)
                return b""
            case _:
                return self._content(event)

    def fail(self, error: AgentServerError) -> bytes:
        """The error as the last event; a block stays open, so that no client takes it for whole."""
        return b"event: error\ndata: " + dump(error_object(error)) + b"\n\n"

    def close(self) -> bytes:
        """The event that ends the message."""
        return _MESSAGE_STOP

    def _content(self, event: _Content) -> bytes:
        """The frames of content, or none while it waits for the call whose block is open."""
        call = event.index if isinstance(event, ToolCallDelta | ToolCallEnded) else None
        if call in self._stopped_calls:
            return b""
        if self._tool is None or call == self._tool.index:
            return self._write(event)
        if self._waiting or not self._tool.is_whole():
            self._waiting.append(event)
            return b""
        return self._stop_block() + self._write(event)

    def _write(self, event: _Content) -> bytes:
        match event:
            case TextDelta():
                return self._text(event)
            case ReasoningDelta():
                return self._thinking(event.text)
            case ReasoningEnded():
                return self._end_thinking(event.block)
            case ToolCallStarted():
                return self._begin_call(event)
            case ToolCallDelta():
                return self._continue_call(event)
            case ToolCallEnded():
                return self._end_call(event)

    def _text(self, event: TextDelta) -> bytes:
        if not event.text:
            return b""
        begun = b""
        if not self._text_prefix:
            begun = self._stop_block() + self._start_block(_TEXT_START)
            self._text_prefix = self._delta(b'{"type":"text_delta","text":')
        self._last_text = event.text
        return begun + self._text_prefix + dump(event.text) + _END

    def _thinking(self, text: str) -> bytes:
        begun = b""
        if not self._is_thinking:
            begun = self._stop_block() + self._start_block(_THINKING_START)
            self._is_thinking = True
        return begun + self._delta(b'{"type":"thinking_delta","thinking":') + dump(text) + _END

    def _end_thinking(self, block: ReasoningBlock) -> bytes:
        if block.redacted_data is not None:
            content = b'{"type":"redacted_thinking","data":%b}' % dump(block.redacted_data)
            return self._stop_block() + self._start_block(content) + self._stop(self._blocks - 1)
        frames = b""
        if block.signature is not None:
            if not self._is_thinking:
                frames = self._stop_block() + self._start_block(_THINKING_START)
                self._is_thinking = True
            signature = self._delta(b'{"type":"signature_delta","signature":')
            frames += signature + dump(block.signature) + _END
        return frames + self._stop_block() if self._is_thinking else frames

    def _begin_call(self, event: ToolCallStarted) -> bytes:
        stopped = self._stop_block()
        self._tool = _ToolBlock(event.index)
        return stopped + self._start_block(dump(tool_block(event.call_id, event.name)))

    def _continue_call(self, event: ToolCallDelta) -> bytes:
        if self._tool is None or not event.arguments:
            return b""
        self._tool.pieces.append(event.arguments)
        piece = self._delta(b'{"type":"input_json_delta","partial_json":')
        return piece + dump(event.arguments) + _END

    def _end_call(self, event: ToolCallEnded) -> bytes:
        if self._tool is None:
            return b""
        frames = b""
        if not self._tool.pieces:
            frames = self._continue_call(ToolCallDelta(event.index, event.arguments))
        frames += self._stop_block()
        waiting, self._waiting = self._waiting, []
        return frames + b"".join([self._content(held) for held in waiting])

    def _progress_text(self, event: WorkflowEvent) -> bytes:
        if self._progress is None:
            return b""
        text = self._progress.line(event, after=self._last_text)
        return self.encode(TextDelta(text)) if text else b""

    def _workflow_event(self, event: WorkflowEvent) -> bytes:
        return (
            b'event: workflow_event\ndata: {"type":"workflow_event","workflow_event":%b}\n\n'
            % dump(event.data)
        )

    def _finish(self, event: Finished) -> bytes:
        closing = self._stop_block()
        refusal = "".join(self._refusal)
        end = dump(end_object(event.reason, refusal, calls_tools=bool(self._stopped_calls)))
        return closing + (
            b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
            % (end, dump(usage_object(event.usage)))
        )

    def _start_block(self, content: bytes) -> bytes:
        index = self._blocks
        self._blocks += 1
        return (
            b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,'
            b'"content_block":%b}\n\n' % (index, content)
        )

    def _delta(self, delta: bytes) -> bytes:
        return (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b'
            % (self._blocks - 1, delta)
        )

    def _stop_block(self) -> bytes:
        """The end of the block that is open, if one is."""
        if not self._text_prefix and not self._is_thinking and self._tool is None:
            return b""
        self._text_prefix = b""
        self._is_thinking = False
        if self._tool is not None:
            self._stopped_calls.add(self._tool.index)
            self._tool = None
        return self._stop(self._blocks - 1)

    def _stop(self, index: int) -> bytes:
        return (
            b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index
        )
