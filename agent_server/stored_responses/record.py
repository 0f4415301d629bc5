"""What is kept of a response, and the port through which it is kept.

A response belongs to its owner: every reading names the owner, and finds nothing of others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from streaming.events import JsonObject, JsonValue

# Statuses after which nothing more happens to a response.
FINAL_STATUSES: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response as it is kept.

    `response` is its JSON object and `input` the list of its items, with ids, both as bytes.
    `previous_id` is the response that it continues. Times are Unix seconds. `provider` names the
    provider that keeps the response itself, under the same id: then `input` and `response` are
    empty. `events` are the frames of a stream that ran in the background, whole ones.
    """

    response_id: str
    owner: str
    created_at: float
    expires_at: float
    status: str
    model: str
    provider: str | None = None
    previous_id: str | None = None
    is_background: bool = False
    input: bytes = b"[]"
    response: bytes = b"{}"
    events: bytes | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the response."""
        return self.status in FINAL_STATUSES

    @property
    def size(self) -> int:
        """Bytes that the record takes, about."""
        return 500 + len(self.input) + len(self.response) + len(self.events or b"")

    def input_items(self) -> list[JsonValue]:
        """The items that the request held."""
        return _list(orjson.loads(self.input))

    def output_items(self) -> list[JsonValue]:
        """The items that the model answered with."""
        return _list(self.object().get("output"))

    def object(self) -> JsonObject:
        """The response as a client sees it."""
        value: JsonValue = orjson.loads(self.response)
        return value if isinstance(value, dict) else {}


class ResponseStore(Protocol):
    """Keeps responses. None of its calls finds what has expired.

    All raise `StoreUnavailableError` where the store cannot be reached.
    """

    async def put(self, record: StoredResponse) -> None:
        """Keep a record, in place of an older one of the same id and owner."""
        ...

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        """The record of an owner's response."""
        ...

    async def get_many(self, owner: str, response_ids: Sequence[str]) -> list[StoredResponse]:
        """The records of those responses that are there, in any order."""
        ...

    async def chain(self, owner: str, response_id: str, most: int) -> list[StoredResponse]:
        """A response and what it continues, the newest first: `most` records at most."""
        ...

    async def delete(self, owner: str, response_id: str) -> bool:
        """Forget a response; False if there is none."""
        ...

    async def statuses(self, owned: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The statuses of responses, given as owner and id, by id."""
        ...


class StoreUnavailableError(Exception):
    """The store cannot be reached now; the reason is in the log."""


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
