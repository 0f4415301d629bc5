"""The JSON answer: all events of one answer as one `chat.completion` object.

Source: OpenAI API reference, "Chat", "The chat completion object", 2026-10.
"""

from dataclasses import dataclass, field

from streaming.encoder import StreamHead
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
from streaming.openai_objects import thinking_block, usage_object
from streaming.progress import ProgressText


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    thinking_blocks: list[JsonValue] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: dict[int, JsonValue] = field(default_factory=dict)
    reason: FinishReason | None = None


class ChatCompletionBody:
    """Collects the events of one answer; `body()` gives them as the object to send.

    The body also has `workflow_events` where a workflow ran: what a stream would have shown, but
    for the running output of steps.
    """

    content_type = "application/json"

    def __init__(self, head: StreamHead) -> None:
        self._head = head
        self._choices = {0: _Choice()}
        self._workflow_events: list[JsonValue] = []
        self._usage: Usage | None = None
        self._progress = ProgressText() if head.progress_text else None

    def add(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case WorkflowEvent():
                self._add_workflow_event(event)
            case (
                Started()
                | AgentToolCalled()
                | AgentToolReturned()
                | ToolCallStarted()
                | ToolCallDelta()
            ):
                pass
            case Finished():
                self._choice(event.choice).reason = event.reason
                self._usage = event.usage
            case TextDelta():
                self._choice(event.choice).text.append(event.text)
            case ReasoningDelta():
                self._choice(event.choice).reasoning.append(event.text)
            case ReasoningEnded():
                block = thinking_block(event.block)
                if block is not None:
                    self._choice(event.choice).thinking_blocks.append(block)
            case RefusalDelta():
                self._choice(event.choice).refusal.append(event.text)
            case ToolCallEnded():
                self._choice(event.choice).tool_calls[event.index] = _tool_call(event)

    def body(self) -> JsonObject:
        """The `chat.completion` object of what was added so far."""
        choices: list[JsonValue] = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": None,
                "finish_reason": choice.reason,
            }
            for index, choice in sorted(self._choices.items())
        ]
        body: JsonObject = {
            "id": self._head.response_id,
            "object": "chat.completion",
            "created": self._head.created,
            "model": self._head.model,
            "choices": choices,
        }
        if self._usage is not None:
            body["usage"] = usage_object(self._usage)
        if self._workflow_events:
            body["workflow_events"] = self._workflow_events
        return body

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())

    def _add_workflow_event(self, event: WorkflowEvent) -> None:
        if event.type != "step_output":
            self._workflow_events.append(dict(event.data))
        if self._progress is not None:
            text = self._choices[0].text
            line = self._progress.line(event, after=text[-1] if text else "")
            if line:
                text.append(line)


def _message(choice: _Choice) -> JsonObject:
    text = "".join(choice.text)
    refusal = "".join(choice.refusal) or None
    has_more = bool(refusal or choice.tool_calls)
    message: JsonObject = {
        "role": "assistant",
        "content": None if has_more and not text else text,
        "refusal": refusal,
        "annotations": [],
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.thinking_blocks:
        message["thinking_blocks"] = choice.thinking_blocks
    if choice.tool_calls:
        message["tool_calls"] = [call for _, call in sorted(choice.tool_calls.items())]
    return message


def _tool_call(event: ToolCallEnded) -> JsonObject:
    return {
        "id": event.call_id,
        "type": "function",
        "function": {"name": event.name, "arguments": event.arguments},
    }
