"""One model turn of the agent: what is streamed at once, and what is kept for the next turn."""

from dataclasses import dataclass, field, replace

from agent_server.pending_calls import new_call_id
from providers.chat_request import Message, TextPart, ToolCall
from streaming.events import (
    AgentToolReturned,
    Event,
    Finished,
    FinishReason,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    RefusalDelta,
    TextDelta,
    ToolCallEnded,
    Usage,
)

_PARAGRAPH = "\n\n"


@dataclass
class TextJoint:
    """Keeps the texts of several turns apart in one answer: a blank line comes between them."""

    written: str = ""
    is_open: bool = False

    def begin_turn(self) -> None:
        """The next text belongs to a new turn."""
        self.is_open = bool(self.written)

    def join(self, text: str) -> str:
        """The text with what must stand before it."""
        if self.is_open and text:
            self.is_open = False
            ended = len(self.written) - len(self.written.rstrip("\n"))
            text = _PARAGRAPH[min(ended, 2) :] + text.lstrip("\n")
        self.written = (self.written + text)[-2:]
        return text


@dataclass
class AgentTurn:
    """What the model said in one turn; `accept` takes its events in order."""

    text: list[str] = field(default_factory=list)
    reasoning: list[ReasoningBlock] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    reason: FinishReason | None = None
    usage: Usage | None = None

    def accept(self, event: Event, joint: TextJoint) -> Event | None:
        """Record an event of the provider; give what the client is to see of it at once."""
        match event:
            case TextDelta(text=text):
                self.text.append(text)
                return TextDelta(joint.join(text))
            case ReasoningDelta():
                return event
            case ReasoningEnded(block=block):
                self.reasoning.append(block)
                return event
            case RefusalDelta(text=text):
                self.refusal.append(text)
                return event
            case ToolCallEnded(call_id=call_id, name=name, arguments=arguments):
                # Some providers number each answer's calls anew, or not at all.
                taken = not call_id or any(call.call_id == call_id for call in self.calls)
                own_id = new_call_id() if taken else call_id
                self.calls.append(ToolCall(own_id, name, arguments))
            case Finished(reason=reason, usage=usage):
                self.reason = reason
                self.usage = usage
            case _:
                # Calls are shown when it is known whose they are; workflow events are ours.
                pass
        return None

    @property
    def ends_answer(self) -> bool:
        """Whether nothing follows: no calls, or calls that may be cut off in the middle."""
        return not self.calls or self.reason in ("length", "content_filter")

    @property
    def final_reason(self) -> FinishReason:
        """Why the answer ends with this turn: a turn without calls cannot end in them."""
        return "stop" if self.reason in (None, "tool_calls") else self.reason

    def message(self) -> Message:
        """The turn as the assistant's message, signed thinking and all."""
        text = "".join(self.text)
        return Message(
            "assistant",
            parts=(TextPart(text),) if text else (),
            tool_calls=tuple(self.calls),
            reasoning=tuple(self.reasoning),
            refusal="".join(self.refusal) or None,
        )

    def emitted_calls(self) -> dict[str, ToolCall]:
        """The calls by the model's own id, each under the id that is shown outside."""
        return {call.call_id: replace(call, call_id=new_call_id()) for call in self.calls}


def result_message(call_id: str, returned: AgentToolReturned) -> Message:
    """The result of our own tool, as the model is told it under its own id of the call."""
    return Message(
        "tool",
        parts=(TextPart(returned.text),),
        tool_call_id=call_id,
        is_error=returned.is_error,
    )
