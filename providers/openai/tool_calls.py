"""Puts the tool calls of one choice together from the fragments in which they are streamed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from streaming.errors import UpstreamProtocolError
from streaming.events import Event, JsonValue, ToolCallDelta, ToolCallEnded, ToolCallStarted


@dataclass(slots=True)
class _Call:
    index: int
    call_id: str = ""
    name: str = ""
    is_started: bool = False
    arguments: list[str] = field(default_factory=list)


class ToolCalls:
    """The tool calls of one choice, numbered from 0 in the order in which they began.

    Tolerates what upstreams do differently: no `index`, one index for several calls, no id, id and
    name repeated in every fragment, name after id, all arguments in one piece, or as an object.
    """

    def __init__(self, choice: int, new_call_id: Callable[[], str]) -> None:
        self._choice = choice
        self._new_call_id = new_call_id
        self._calls: list[_Call] = []
        self._by_key: dict[JsonValue, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, fragments: list[JsonValue]) -> list[Event]:
        """The events of the `tool_calls` of one delta or message."""
        events: list[Event] = []
        for fragment in fragments:
            if not isinstance(fragment, dict):
                continue
            function = fragment.get("function")
            if not isinstance(function, dict):
                function = {}
            name = _text(function.get("name"))
            call = self._find(fragment.get("index"), _text(fragment.get("id")), name)
            call.name = call.name or name
            arguments = _arguments(function.get("arguments"))
            if call.is_started:
                if arguments:
                    call.arguments.append(arguments)
                    events.append(ToolCallDelta(call.index, arguments, self._choice))
                continue
            if arguments:
                call.arguments.append(arguments)
            if call.name:
                events += self._start(call)
        return events

    def end(self, provider: str) -> list[Event]:
        """The events that complete every call.

        Raises:
            UpstreamProtocolError: a call never got a name.
        """
        events: list[Event] = []
        for call in self._calls:
            if not call.name:
                raise UpstreamProtocolError(
                    f"{provider} sent a tool call without a name", provider=provider
                )
            if not call.arguments:
                call.arguments.append("{}")
                events.append(ToolCallDelta(call.index, "{}", self._choice))
            arguments = "".join(call.arguments)
            events.append(
                ToolCallEnded(call.index, call.call_id, call.name, arguments, self._choice)
            )
        return events

    def _start(self, call: _Call) -> list[Event]:
        call.is_started = True
        call.call_id = call.call_id or self._new_call_id()
        events: list[Event] = [ToolCallStarted(call.index, call.call_id, call.name, self._choice)]
        events += [ToolCallDelta(call.index, part, self._choice) for part in call.arguments]
        return events

    def _find(self, index: JsonValue, call_id: str, name: str) -> _Call:
        """The call that a fragment belongs to, a new one if it begins one."""
        if isinstance(index, int):
            call = self._by_key.get(index)
        elif call_id:
            call = self._by_key.get(call_id)
        else:
            call = self._calls[-1] if self._calls and not name else None
        if call is None or (name and call_id and call.call_id not in {"", call_id}):
            call = _Call(len(self._calls))
            self._calls.append(call)
        if call_id and not call.is_started:
            call.call_id = call_id
        if isinstance(index, int):
            self._by_key[index] = call
        if call_id:
            self._by_key[call_id] = call
        return call


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: JsonValue) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value).decode()
