"""The JSON answer of the Messages format: all events of one answer as one `message` object.

Source: Anthropic API documentation, "Create a Message" (response), 2026-10.
"""

from collections.abc import Callable

import orjson

from streaming.encoder import StreamHead
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    JsonValue,
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
from streaming.messages_objects import end_object, text_block, tool_block, usage_object
from streaming.progress import ProgressText


class MessageBody:
    """Collects the events of one answer; `body()` gives them as the object to send.

    The blocks are those that the stream of the same events holds. The body also has
    `workflow_events` where a workflow ran: what a stream would have shown, but for the running
    output of steps.
    """

    content_type = "application/json"

    def __init__(self, head: StreamHead) -> None:
        self._head = head
        self._content: list[JsonValue] = []
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: dict[int, JsonObject] = {}
        self._refusal: list[str] = []
        self._workflow_events: list[JsonValue] = []
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._progress = ProgressText() if head.progress_text else None
        self._last_text = ""

    def add(self, event: Event) -> None:
        """Take the next event; those of a further choice, which the format lacks, are left out."""
        match event:
            case Started() | AgentToolCalled() | AgentToolReturned():
                pass
            case WorkflowEvent():
                self._add_workflow_event(event)
            case _ if event.choice:
                pass
            case Finished():
                self._reason, self._usage = event.reason, event.usage
            case RefusalDelta():
                self._refusal.append(event.text)
            case _:
                self._add_content(event)

    def body(self) -> JsonObject:
        """The `message` object of what was added so far."""
        self._end_blocks()
        body: JsonObject = {
            "id": self._head.response_id,
            "type": "message",
            "role": "assistant",
            "model": self._head.model,
            "content": self._content,
            **end_object(self._reason, "".join(self._refusal), calls_tools=bool(self._calls)),
            "usage": usage_object(self._usage),
            "container": None,
        }
        if self._workflow_events:
            body["workflow_events"] = self._workflow_events
        return body

    def _add_content(
        self,
        event: TextDelta
        | ReasoningDelta
        | ReasoningEnded
        | ToolCallStarted
        | ToolCallDelta
        | ToolCallEnded,
    ) -> None:
        match event:
            case TextDelta():
                self._add_text(event.text)
            case ReasoningDelta():
                self._add_thinking(event.text)
            case ReasoningEnded():
                self._end_thinking(event.block)
            case ToolCallStarted():
                self._begin_call(event)
            case ToolCallDelta():
                # The end of the call has all of its arguments.
                pass
            case ToolCallEnded():
                self._calls[event.index]["input"] = _input(event.arguments)

    def _add_text(self, text: str) -> None:
        if not text:
            return
        if not self._text:
            self._end_blocks()
        self._text.append(text)
        self._last_text = text

    def _add_thinking(self, text: str) -> None:
        if not self._thinking:
            self._end_blocks()
        self._thinking.append(text)

    def _end_thinking(self, block: ReasoningBlock) -> None:
        if block.redacted_data is not None:
            self._end_blocks()
            self._content.append({"type": "redacted_thinking", "data": block.redacted_data})
            return
        if block.signature is not None and not self._thinking:
            self._end_blocks()
        if self._thinking or block.signature is not None:
            self._content.append(_thinking("".join(self._thinking), block.signature or ""))
            self._thinking.clear()

    def _begin_call(self, event: ToolCallStarted) -> None:
        self._end_blocks()
        call = tool_block(event.call_id, event.name)
        self._calls[event.index] = call
        self._content.append(call)

    def _end_blocks(self) -> None:
        _flush(self._text, lambda text: self._content.append(text_block(text)))
        _flush(self._thinking, lambda text: self._content.append(_thinking(text, "")))

    def _add_workflow_event(self, event: WorkflowEvent) -> None:
        if event.type != "step_output":
            self._workflow_events.append(dict(event.data))
        if self._progress is not None:
            self._add_text(self._progress.line(event, after=self._last_text))


def _flush(pieces: list[str], add: Callable[[str], None]) -> None:
    if pieces:
        add("".join(pieces))
        pieces.clear()


def _thinking(text: str, signature: str) -> JsonObject:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _input(arguments: str) -> JsonObject:
    """The arguments as an object; those that are none are kept, as Anthropic proposes it."""
    try:
        parsed = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}
