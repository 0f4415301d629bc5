"""What the model of `tests/model_upstream.py` says: the same to everyone, and easy to foretell."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

THOUGHT = "Let me think."
SIGNATURE = "c2lnbmVkIGJ5IHRoZSBtb2RlbA=="
CALL_WORD = "call"
Reason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Said:
    """One message of a conversation; the result of a tool has the role `tool`."""

    role: str
    text: str = ""
    images: int = 0


@dataclass(frozen=True)
class Tool:
    """A tool that the model may call."""

    name: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a request asks, whichever its format. `knows` tells that signed thinking came back."""

    model: str
    messages: tuple[Said, ...]
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    schema: dict[str, Any] | None = None
    thinks: bool = False
    knows: bool = False
    limit: int | None = None
    stream: bool = False
    include_usage: bool = False

    @property
    def newest(self) -> Said:
        return self.messages[-1]


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """An answer. A word is a token."""

    text: str
    reason: Reason = "stop"
    calls: tuple[Call, ...] = ()
    thought: str = ""
    prompt_tokens: int = 0

    @property
    def pieces(self) -> list[str]:
        """The text in the pieces of a stream, one for each word."""
        words = self.text.split(" ") if self.text else []
        return [word if not place else f" {word}" for place, word in enumerate(words)]

    @property
    def thought_tokens(self) -> int:
        return len(self.thought.split())

    @property
    def completion_tokens(self) -> int:
        called = sum(len(call.arguments) for call in self.calls)
        return len(self.pieces) + called + self.thought_tokens


def reply_to(asked: Asked) -> Reply:
    """The model's answer."""
    texts = [message.text for message in asked.messages]
    reply = _content(asked)
    reply = replace(
        reply,
        thought=THOUGHT if asked.thinks else "",
        prompt_tokens=sum(len(text.split()) for text in texts),
    )
    if asked.limit is not None and len(reply.pieces) > asked.limit:
        return replace(reply, text="".join(reply.pieces[: asked.limit]), reason="length")
    return reply


def _content(asked: Asked) -> Reply:
    newest = asked.newest
    if newest.role == "tool":
        kept = " I know why I asked." if asked.knows else ""
        return Reply(f"The tool says {newest.text}.{kept}")
    if asked.tools and (asked.must_call or CALL_WORD in newest.text):
        count = 2 if "twice" in newest.text else 1
        calls = [_call(number, asked.tools[0]) for number in range(1, count + 1)]
        return Reply("I will look." if "say so" in newest.text else "", "tool_calls", tuple(calls))
    if asked.schema is not None:
        return Reply(orjson.dumps(_example(asked.schema)).decode())
    system = " ".join(said.text for said in asked.messages if said.role == "system")
    turns = sum(message.role == "user" for message in asked.messages)
    images = sum(message.images for message in asked.messages)
    return Reply(f"Turn {turns}, {images} images, told <{system}>: {newest.text}")


def _call(number: int, tool: Tool) -> Call:
    arguments = orjson.dumps(_example(tool.schema)).decode()
    return Call(f"call_model{number}", tool.name, arguments)


def _example(schema: dict[str, Any]) -> Any:
    """The least value that a schema allows."""
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _example(properties[name]) for name in schema.get("required", properties)}
        case "array":
            return [_example(schema.get("items", {}))]
        case "integer" | "number":
            return 4
        case "boolean":
            return True
        case _:
            return "Oslo"
