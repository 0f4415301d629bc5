"""The formats `vercel` and `data-v1`: lines `CODE:JSON`, as useChat of AI SDK 3.4 and 4 reads them.

Source: Vercel AI SDK 4.3, "Stream Protocols", "Data Stream Protocol" (v1), 2026-10. Only codes that
every client from 3.4 to 4.3 knows are written: 0 2 3 9 d; so thinking is left out. The protocol has
one message, so choices after the first are left out as well.
"""

from collections.abc import Mapping
from types import MappingProxyType

import orjson

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
from streaming.openai_sse import STREAM_HEADERS
from streaming.progress import ProgressText

AI_SDK_FINISH_REASON: Mapping[FinishReason, str] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool-calls",
        "content_filter": "content-filter",
    }
)
DATA_HEADERS: Mapping[str, str] = MappingProxyType(
    {**STREAM_HEADERS, "x-vercel-ai-data-stream": "v1"}
)


class VercelEncoder:
    """`vercel`: the bytes of the product's guide, with a workflow event as `2:{...}`.

    AI SDK clients refuse an object there, so they get `data-v1`.
    """

    content_type = "text/plain; charset=utf-8"
    headers = DATA_HEADERS
    keep_alive = b"\n"
    writes_progress_text = True
    writes_usage = False
    data_line = b"2:%b\n"

    def __init__(self, head: StreamHead) -> None:
        wanted = self.writes_progress_text if head.progress_text is None else head.progress_text
        self._progress = ProgressText() if wanted else None
        self._last_text = ""
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def open(self) -> bytes:
        """Nothing: the protocol begins with the first part."""
        return b""

    def encode(self, event: Event) -> bytes:
        """The lines of one event."""
        match event:
            case TextDelta() | RefusalDelta():
                return b"" if event.choice else self._text(event.text)
            case WorkflowEvent():
                return self._progress_text(event) + self.data_line % dump(event.data)
            case ToolCallEnded():
                return b"" if event.choice else _tool_call(event)
            case AgentToolCalled():
                return self.data_line % dump(agent_tool_called(event))
            case AgentToolReturned():
                return self.data_line % dump(agent_tool_returned(event))
            case Finished():
                self._usage = event.usage
                if not event.choice:
                    self._reason = event.reason
                return b""
            case (
                Started()
                | ReasoningDelta()
                | ReasoningEnded()
                | ToolCallStarted()
                | ToolCallDelta()
            ):
                return b""

    def fail(self, error: AgentServerError) -> bytes:
        """The error, and a finish for who reads on: clients stop at the error."""
        return b"3:%b\n" % dump(error.message) + self._finish("error", None)

    def close(self) -> bytes:
        """The finish; it waits until here because it may come once, and an error may precede it."""
        reason = "other" if self._reason is None else AI_SDK_FINISH_REASON[self._reason]
        return self._finish(reason, self._usage)

    def _text(self, text: str) -> bytes:
        self._last_text = text
        return b"0:%b\n" % dump(text)

    def _progress_text(self, event: WorkflowEvent) -> bytes:
        if self._progress is None:
            return b""
        text = self._progress.line(event, after=self._last_text)
        return self._text(text) if text else b""

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        line = b'd:{"finishReason":"%b"' % reason.encode()
        if usage is not None and self.writes_usage:
            line += b',"usage":{"promptTokens":%d,"completionTokens":%d}' % (
                usage.prompt_tokens,
                usage.completion_tokens,
            )
        return line + b"}\n"


class DataV1Encoder(VercelEncoder):
    """`data-v1`: what useChat of AI SDK 3.4 to 4.3 accepts; a workflow event is `2:[{...}]`."""

    writes_progress_text = False
    writes_usage = True
    data_line = b"2:[%b]\n"


def agent_tool_called(event: AgentToolCalled) -> JsonObject:
    """The object that shows a call of the agent's own tool to people."""
    return {
        "type": "agent_tool_called",
        "call_id": event.call_id,
        "tool": event.name,
        "arguments": event.arguments,
    }


def agent_tool_returned(event: AgentToolReturned) -> JsonObject:
    """The object that shows the result of the agent's own tool to people."""
    return {
        "type": "agent_tool_returned",
        "call_id": event.call_id,
        "tool": event.name,
        "result": event.text if event.structured is None else event.structured,
        "is_error": event.is_error,
    }


def arguments_object(arguments: str) -> JsonObject:
    """A tool call's arguments as AI SDK clients want them: an object.

    What the model wrote wrongly is kept for the tool to refuse, as `{"arguments": TEXT}`.
    """
    try:
        value: JsonValue = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": arguments}


def _tool_call(event: ToolCallEnded) -> bytes:
    return b"9:%b\n" % dump(
        {
            "toolCallId": event.call_id,
            "toolName": event.name,
            "args": arguments_object(event.arguments),
        }
    )
