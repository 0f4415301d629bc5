"""Items of stored conversations: what their ids mean, and how they are listed."""

from typing import Any

import pytest
from openai.types.responses import ResponseItem, ResponseItemList
from pydantic import TypeAdapter

from agent_server.stored_responses.items import (
    MAX_REFERENCED,
    conversation,
    item_page,
    referenced_responses,
    resolved,
    stamped,
)
from agent_server.stored_responses.record import StoredResponse
from streaming.errors import InvalidRequestError
from streaming.events import JsonValue
from streaming.json_bytes import dump

ITEMS: list[JsonValue] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"type": "reasoning", "id": "rs_theirs", "summary": [], "encrypted_content": "x"},
    {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}", "id": "fc_1_0"},
    {"type": "function_call_output", "call_id": "c", "output": "seen"},
]
OUTPUT: list[JsonValue] = [{"type": "message", "id": "msg_abc_0", "role": "assistant"}]


def record(response_id: str = "resp_abc") -> StoredResponse:
    return StoredResponse(
        response_id=response_id,
        owner="alice",
        created_at=0,
        expires_at=1,
        status="completed",
        model="m",
        input=dump(stamped(ITEMS, response_id)),
        response=dump({"output": OUTPUT}),
    )


def test_items_get_their_full_form_with_ids_of_their_own() -> None:
    items: list[Any] = stamped(ITEMS, "resp_abc")
    assert [item["id"] for item in items] == [
        "msg_abc_i0",
        "msg_abc_i1",
        "rs_theirs",
        "fc_abc_i3",
        "fco_abc_i4",
    ]
    assert items[0]["content"] == [{"type": "input_text", "text": "hi"}]
    for item in items:
        TypeAdapter(ResponseItem).validate_python(item)


def test_a_reference_stands_for_the_item_that_it_means() -> None:
    references: list[JsonValue] = [
        {"type": "item_reference", "id": "msg_abc_0"},
        {"id": "fc_abc_i3"},
        {"type": "item_reference", "id": "msg_abc_7"},
        {"type": "item_reference", "id": "msg_0296f1f2e122877d"},
        {"role": "user", "content": "hi"},
    ]
    assert referenced_responses(references) == ["resp_abc"]
    found = resolved(references, {"resp_abc": record()})
    assert found[0] == OUTPUT[0]
    assert found[1] == stamped(ITEMS, "resp_abc")[3]
    assert found[2:] == references[2:]


def test_too_many_responses_referred_to_are_refused() -> None:
    many: list[JsonValue] = [{"id": f"msg_{n}_0"} for n in range(MAX_REFERENCED + 1)]
    with pytest.raises(InvalidRequestError, match="at most"):
        referenced_responses(many)


def test_a_conversation_has_all_items_in_their_order() -> None:
    items: list[Any] = conversation([record("resp_2"), record("resp_1")])
    assert len(items) == 12
    assert items[0]["id"] == "msg_1_i0"
    assert items[6]["id"] == "msg_2_i0"


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages_together_hold_every_item_once(order: str, limit: int) -> None:
    items = stamped(ITEMS, "resp_abc")
    seen: list[JsonValue] = []
    after = None
    while True:
        page: Any = item_page(items, after=after, limit=limit, order=order)
        ResponseItemList.model_validate(page)
        seen += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == (items if order == "asc" else items[::-1])


def test_an_unknown_item_has_nothing_after_it() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        item_page(stamped(ITEMS, "resp_abc"), after="msg_x", limit=5, order="asc")
    assert caught.value.param == "after"
