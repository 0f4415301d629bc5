"""The tool calls of one choice numbered 0 to n-1, each with its id once. Pure."""

from collections.abc import Callable

import orjson

from streaming.events import JsonObject, JsonValue


class ToolIndexes:
    """Mends the fragments of tool calls in one choice of a stream, in place.

    Upstreams give several calls one index, count from 1, leave the index or the id out, repeat id
    and name in every fragment, or give the arguments as an object.
    """

    def __init__(self, new_call_id: Callable[[], str]) -> None:
        self._new_call_id = new_call_id
        self._ids: list[str] = []
        self._by_key: dict[JsonValue, int] = {}

    def mend(self, fragments: JsonValue) -> bool:
        """Number the `tool_calls` of a delta; whether anything had to be changed."""
        if not isinstance(fragments, list):
            return False
        is_changed = False
        for fragment in fragments:
            if isinstance(fragment, dict):
                is_changed |= self._mend(fragment)
        return is_changed

    def _mend(self, fragment: JsonObject) -> bool:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        call_id = _text(fragment.get("id"))
        name = _text(function.get("name"))
        given = fragment.get("index")
        known = len(self._ids)
        position = self._find(given, call_id, name)
        is_changed = given != position or isinstance(given, bool)
        fragment["index"] = position
        if position == known:
            if not call_id:
                fragment["id"] = call_id = self._new_call_id()
                is_changed = True
            self._ids.append(call_id)
            self._by_key[call_id] = position
        elif "id" in fragment or "name" in function:
            for holder, key in ((fragment, "id"), (fragment, "type"), (function, "name")):
                holder.pop(key, None)
            is_changed = True
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            function["arguments"] = orjson.dumps(arguments).decode()
            is_changed = True
        return is_changed

    def _find(self, given: JsonValue, call_id: str, name: str) -> int:
        """The number of the call that a fragment belongs to, a new one if it begins one."""
        position: int | None
        if isinstance(given, int):
            position = self._by_key.get(given)
        elif call_id:
            position = self._by_key.get(call_id)
        else:
            position = len(self._ids) - 1 if self._ids and not name else None
        if position is None or (name and call_id and self._ids[position] != call_id):
            position = self._by_key.get(call_id, len(self._ids)) if call_id else len(self._ids)
        if isinstance(given, int):
            self._by_key[given] = position
        return position


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""
