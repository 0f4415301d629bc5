"""What has been said and done so far, read from the messages: the planner keeps no state."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from providers.chat_request import Message
from providers.offline.request_items import find_definition
from streaming.events import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The result of a tool: its object, or None with the text where it was no object."""

    tool: str
    arguments: JsonObject
    text: str
    is_error: bool
    data: JsonObject | None

    def texts(self, key: str) -> list[str]:
        """The strings of a list in the object; empty where there is none."""
        return [item for item in self.list(key) if isinstance(item, str)]

    def objects(self, key: str) -> "list[JsonObject]":
        """The objects of a list in the object."""
        return [item for item in self.list(key) if isinstance(item, dict)]

    def list(self, key: str) -> "list[JsonValue]":
        """A list in the object; empty where there is none."""
        value = (self.data or {}).get(key)
        return value if isinstance(value, list) else []

    def text_of(self, key: str) -> str:
        """A string in the object; empty where there is none."""
        value = (self.data or {}).get(key)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The newest message of the user, what came before it, and the tools' answers since.

    Of all messages what was typed counts, never the text of a file.
    `request_before` is the user's message before it; `workflow_before` is the last workflow that
    either side showed before it.
    """

    message: str
    assistant_before: str = ""
    request_before: str = ""
    workflow_before: str | None = None
    answers: dict[str, ToolAnswer] = field(default_factory=dict)


def read_exchange(messages: Sequence[Message]) -> Exchange:
    """The exchange that the messages tell; the last answer of each tool counts."""
    newest = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), None)
    if newest is None:
        return Exchange("")
    earlier = [
        message.typed_text for message in messages[:newest] if message.role in ("user", "assistant")
    ]
    spoken = (
        message.typed_text
        for message in reversed(messages[:newest])
        if message.role == "assistant" and message.typed_text
    )
    asked = (m.typed_text for m in reversed(messages[:newest]) if m.role == "user")
    definitions = (find_definition(text) for text in reversed(earlier))
    return Exchange(
        message=messages[newest].typed_text,
        assistant_before=next(spoken, ""),
        request_before=next(asked, ""),
        workflow_before=next((text for text in definitions if text is not None), None),
        answers=_answers(messages[newest + 1 :]),
    )


def _answers(messages: Sequence[Message]) -> dict[str, ToolAnswer]:
    calls = {call.call_id: call for message in messages for call in message.tool_calls}
    answers: dict[str, ToolAnswer] = {}
    for message in messages:
        call = calls.get(message.tool_call_id or "")
        if message.role != "tool" or call is None:
            continue
        answers[call.name] = ToolAnswer(
            tool=call.name,
            arguments=_object(call.arguments) or {},
            text=message.text,
            is_error=message.is_error,
            data=_object(message.text),
        )
    return answers


def _object(text: str) -> JsonObject | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
