"""The items of stored conversations: their ids, references to them, and pages of them.

An item's id holds the id of its response and its place there, so that a reference is found without
an index: `msg_<response>_3` is the output's fourth item, `msg_<response>_i0` the input's first.

Source: OpenAI API reference, "Responses", "List input items" and `input`, item references, 2026-11.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agent_server.requests.responses_items import item_type
from agent_server.stored_responses.record import StoredResponse
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

MAX_REFERENCED: Final = 256
_ITEM_ID: Final = re.compile(r"[a-z]+_([A-Za-z0-9]+)_(i?)([0-9]{1,6})")


def stamped(items: Sequence[JsonValue], response_id: str) -> list[JsonValue]:
    """The items of a request in their full form, each with an id and a status."""
    suffix = response_id.removeprefix("resp_")
    return [
        _stamped(item, f"{suffix}_i{index}") if isinstance(item, dict) else item
        for index, item in enumerate(items)
    ]


def referenced_responses(items: Iterable[JsonValue]) -> list[str]:
    """The ids of the responses whose items are referred to, each once.

    Raises:
        InvalidRequestError: the items of too many responses are.
    """
    found: dict[str, None] = {}
    for item in items:
        place = _place(item)
        if place is not None:
            found[place[0]] = None
    if len(found) > MAX_REFERENCED:
        raise InvalidRequestError(
            f"`input` refers to items of {len(found)} responses; at most {MAX_REFERENCED} are "
            "looked up. Send the items themselves, or `previous_response_id`.",
            param="input",
        )
    return list(found)


def resolved(items: Sequence[JsonValue], records: Mapping[str, StoredResponse]) -> list[JsonValue]:
    """The items with what is referred to in its place; references to others stay as they are."""
    outputs = {response_id: record.output_items() for response_id, record in records.items()}
    inputs = {response_id: record.input_items() for response_id, record in records.items()}

    def find(item: JsonValue) -> JsonValue:
        place = _place(item)
        if place is None:
            return item
        response_id, is_input, index = place
        kept = (inputs if is_input else outputs).get(response_id, [])
        return kept[index] if index < len(kept) else item

    return [find(item) for item in items]


def conversation(records: Iterable[StoredResponse]) -> list[JsonValue]:
    """All items of a chain of responses, which is given with the newest first."""
    items: list[JsonValue] = []
    for record in reversed(list(records)):
        items += record.input_items()
        items += record.output_items()
    return items


def item_page(
    items: Sequence[JsonValue], *, after: str | None, limit: int, order: str
) -> JsonObject:
    """OpenAI's list object of some of the items.

    Raises:
        InvalidRequestError: `after` is not the id of any of them.
    """
    listed = list(items) if order == "asc" else list(reversed(items))
    begin = 0
    if after is not None:
        ids = [_id(item) for item in listed]
        if after not in ids:
            raise InvalidRequestError(
                f"`after` must be the id of an item of this response, not {after[:80]!r}.",
                param="after",
            )
        begin = ids.index(after) + 1
    page = listed[begin : begin + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": _id(page[0]) if page else None,
        "last_id": _id(page[-1]) if page else None,
        "has_more": begin + limit < len(listed),
    }


def _stamped(item: JsonObject, place: str) -> JsonValue:
    kind = item_type(item)
    if kind == "item_reference" or not isinstance(kind, str):
        return item
    full: JsonObject = {**item, "type": kind}
    if kind != "reasoning" or not item.get("id"):
        # What a provider encrypted holds its item's id; all others might be of other responses.
        full["id"] = f"{_PREFIXES.get(kind, 'item')}_{place}"
    if kind in _PREFIXES and kind != "reasoning":
        full.setdefault("status", "completed")
    if kind == "message" and isinstance(item.get("content"), str):
        part: JsonObject = {"type": "input_text", "text": item["content"]}
        if item.get("role") == "assistant":
            part = {"type": "output_text", "text": item["content"], "annotations": []}
        full["content"] = [part]
    return full


def _place(item: JsonValue) -> tuple[str, bool, int] | None:
    """Which response a reference means, whether its input, and which item of it."""
    if not isinstance(item, dict) or item_type(item) != "item_reference":
        return None
    item_id = item.get("id")
    found = _ITEM_ID.fullmatch(item_id) if isinstance(item_id, str) else None
    return None if found is None else (f"resp_{found[1]}", bool(found[2]), int(found[3]))


def _id(item: JsonValue) -> JsonValue:
    return item.get("id") if isinstance(item, dict) else None


_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
