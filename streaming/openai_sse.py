"""The formats `openai-sse` and `sse-inline`: OpenAI's chunks, one SSE frame each.

Source: OpenAI API reference, "Chat", "The chat completion chunk object", 2026-10. What is ours is
an extra on a proper chunk: `workflow_event` beside `choices`, `reasoning_content` and
`thinking_blocks` in the delta; no client stumbles over a key that it does not know.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from typing_extensions import override

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
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
from streaming.openai_objects import error_object, thinking_block, usage_object
from streaming.progress import ProgressText
from streaming.sse import frame

DONE = b"data: [DONE]\n\n"
SSE_CONTENT_TYPE = "text/event-stream; charset=utf-8"
STREAM_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "vary": "X-Streaming-Format",
    }
)
_UNFINISHED = b',"finish_reason":null}]}\n\n'


class OpenAISSEEncoder:
    """`openai-sse`: a workflow event is a chunk with an empty delta and a `workflow_event`."""

    content_type = SSE_CONTENT_TYPE
    headers = STREAM_HEADERS
    keep_alive = b": ping\n\n"
    events_as_content = False

    def __init__(self, head: StreamHead) -> None:
        self._identity = (
            b'{"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (dump(head.response_id), head.created, dump(head.model))
        )
        self._text_prefix = self._choice(0) + b'{"content":'
        self._include_usage = head.include_usage
        self._usage: Usage | None = None
        self._opened = {0}
        self._begun_calls: set[tuple[int, int]] = set()
        self._progress = None if head.progress_text is False else ProgressText()
        self._last_text = ""

    def open(self) -> bytes:
        """The first chunk, which gives the role."""
        return self._delta(0, b'{"role":"assistant","content":""}')

    def encode(self, event: Event) -> bytes:
        """The chunks of one event."""
        if type(event) is TextDelta and not event.choice:
            self._last_text = event.text
            return self._text_prefix + dump(event.text) + b"}" + _UNFINISHED
        match event:
            case Started() | AgentToolCalled() | AgentToolReturned():
                return b""
            case WorkflowEvent():
                return self._progress_text(event) + self._workflow_event(event)
            case Finished():
                return self._role(event.choice) + self._finish(event)
            case _:
                return self._role(event.choice) + self._content(event)

    def fail(self, error: AgentServerError) -> bytes:
        """OpenAI's error object, which its clients raise from inside the stream."""
        return frame(dump(error_object(error))) + DONE

    def close(self) -> bytes:
        """The chunk of the usage, if the caller asked for one, and the end mark."""
        if not self._include_usage or self._usage is None:
            return DONE
        usage = dump(usage_object(self._usage))
        return b"data: " + self._identity + b'],"usage":' + usage + b"}\n\n" + DONE

    def _content(
        self,
        event: TextDelta
        | ReasoningDelta
        | ReasoningEnded
        | RefusalDelta
        | ToolCallStarted
        | ToolCallDelta
        | ToolCallEnded,
    ) -> bytes:
        match event:
            case TextDelta():
                return self._delta(event.choice, b'{"content":%b}' % dump(event.text))
            case ReasoningDelta():
                return self._delta(event.choice, b'{"reasoning_content":%b}' % dump(event.text))
            case RefusalDelta():
                return self._delta(event.choice, b'{"refusal":%b}' % dump(event.text))
            case ReasoningEnded():
                block = thinking_block(event.block)
                if block is None:
                    return b""
                return self._delta(event.choice, b'{"thinking_blocks":[%b]}' % dump(block))
            case ToolCallStarted():
                return self._begin_call(event.choice, event.index, event.call_id, event.name)
            case ToolCallDelta():
                return self._continue_call(event.choice, event.index, event.arguments)
            case ToolCallEnded():
                return self._end_call(event)

    def _begin_call(self, choice: int, index: int, call_id: str, name: str) -> bytes:
        return self._delta(
            choice,
            b'{"tool_calls":[{"index":%d,"id":%b,"type":"function",'
            b'"function":{"name":%b,"arguments":""}}]}' % (index, dump(call_id), dump(name)),
        )

    def _continue_call(self, choice: int, index: int, arguments: str) -> bytes:
        if not arguments:
            return b""
        self._begun_calls.add((choice, index))
        return self._delta(
            choice,
            b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, dump(arguments)),
        )

    def _end_call(self, event: ToolCallEnded) -> bytes:
        # A model that calls a tool without arguments may send no delta at all, yet the client
        # has to find a JSON text.
        if (event.choice, event.index) in self._begun_calls:
            return b""
        return self._continue_call(event.choice, event.index, event.arguments)

    def _progress_text(self, event: WorkflowEvent) -> bytes:
        if self._progress is None:
            return b""
        text = self._progress.line(event, after=self._last_text)
        return self.encode(TextDelta(text)) if text else b""

    def _workflow_event(self, event: WorkflowEvent) -> bytes:
        data = dump(event.data)
        delta = b'{"content":%b}' % dump("2:" + data.decode()) if self.events_as_content else b"{}"
        return self._choice(0) + delta + b',"finish_reason":null}],"workflow_event":%b}\n\n' % data

    def _finish(self, event: Finished) -> bytes:
        chunk = self._choice(event.choice) + b'{},"finish_reason":"%b"}]' % event.reason.encode()
        if event.usage is None:
            return chunk + b"}\n\n"
        self._usage = event.usage
        if self._include_usage:
            return chunk + b"}\n\n"
        return chunk + b',"usage":%b}\n\n' % dump(usage_object(event.usage))

    def _role(self, choice: int) -> bytes:
        """The first chunk of a further choice, before anything else of it."""
        if choice in self._opened:
            return b""
        self._opened.add(choice)
        return self._delta(choice, b'{"role":"assistant","content":""}')

    def _delta(self, choice: int, delta: bytes) -> bytes:
        return self._choice(choice) + delta + _UNFINISHED

    def _choice(self, choice: int) -> bytes:
        return b'data: %b{"index":%d,"delta":' % (self._identity, choice)


class SSEInlineEncoder(OpenAISSEEncoder):
    """`sse-inline`: a workflow event is also the whole content of its chunk, as `2:{...}`.

    So it reaches clients of the OpenAI SDKs that read nothing but `delta.content`.
    """

    events_as_content = True

    @override
    def encode(self, event: Event) -> bytes:
        """The chunks of one event, of which no text begins as an event does."""
        if isinstance(event, TextDelta) and event.text.startswith("2:"):
            # "It is 2:30" may come in such pieces, and readers take what begins so for an event.
            head, tail = replace(event, text="2"), replace(event, text=event.text[1:])
            return super().encode(head) + super().encode(tail)
        return super().encode(event)
