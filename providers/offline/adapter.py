"""The provider that needs no model: the planner's moves, told as a model would tell them."""

import re
import uuid
from collections.abc import AsyncGenerator, Iterator

import orjson

from providers.base import ModelInfo
from providers.chat_request import ChatRequest
from providers.offline.planner import Move, next_move
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import (
    Event,
    Finished,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)

MODEL = "offline"
_WORDS = re.compile(r"\s*\S+(?:[ \t]+\S+){0,3}\s*")


class OfflineProvider:
    """A deterministic planner that speaks the Provider protocol and calls tools like a model.

    It uses no tokens, so it counts none. Sampling fields have no effect; what would need a model -
    several answers, JSON by a schema, a forced tool call - is refused.
    """

    name = "offline"
    default_model = MODEL

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the text and the tool call of the next move.

        Raises:
            CallerError: the request asks for what only a model can do.
        """
        _check(request)
        move = next_move(request)
        yield Started(f"offline-{uuid.uuid4().hex}", request.model)
        for text in _deltas(move.text):
            yield TextDelta(text)
        for event in _call_events(move):
            yield event
        yield Finished("tool_calls" if move.tool else "stop", usage=Usage())

    async def models(self) -> list[ModelInfo]:
        """The one model, which is none."""
        return [ModelInfo(MODEL, "agent-server")]

    async def aclose(self) -> None:
        """Nothing is held."""


def create_offline_provider(**_: object) -> OfflineProvider:
    """The planner, as the registry makes it: of all that a provider may be given it needs none."""
    return OfflineProvider()


def _check(request: ChatRequest) -> None:
    if request.n is not None and request.n > 1:
        raise InvalidRequestError(
            "The offline planner gives one answer: leave out n or set it to 1.",
            code="invalid_value",
            param="n",
        )
    kind = (request.response_format or {}).get("type", "text")
    if kind != "text":
        raise UnsupportedFieldError(
            f"The offline planner is no model and cannot answer in the format {kind!r}.",
            param="response_format",
        )
    if request.tool_choice is not None and request.tool_choice.mode in ("required", "function"):
        raise UnsupportedFieldError(
            "The offline planner is no model and cannot be made to call a tool.",
            param="tool_choice",
        )


def _deltas(text: str) -> Iterator[str]:
    """The text in parts of a few words."""
    yield from _WORDS.findall(text)


def _call_events(move: Move) -> Iterator[Event]:
    if move.tool is None:
        return
    call_id = f"call_{uuid.uuid4().hex}"
    arguments = orjson.dumps(move.arguments or {}).decode()
    yield ToolCallStarted(0, call_id, move.tool)
    yield ToolCallDelta(0, arguments)
    yield ToolCallEnded(0, call_id, move.tool, arguments)
