"""Keeps responses for their owners, and gives conversations back to those who continue them.

What this module promises: a response can be continued as soon as its last frame has gone out;
nobody finds the response of another owner; an answer is never lost because it cannot be kept; no
database is waited for longer than `PUT_SECONDS` at the end of an answer.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from agent_server.log_config import get_logger
from agent_server.requests.fields import FieldError
from agent_server.requests.responses_items import input_items
from agent_server.stored_responses.items import (
    conversation,
    referenced_responses,
    resolved,
    stamped,
)
from agent_server.stored_responses.memory_store import MemoryResponseStore
from agent_server.stored_responses.record import (
    ResponseStore,
    StoredResponse,
    StoreUnavailableError,
)
from streaming.errors import InvalidRequestError, NotFoundError, OverloadedError
from streaming.events import JsonObject, JsonValue

RETENTION_SECONDS: Final = 30 * 86_400.0
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
MAX_CHAIN: Final = 1000
PUT_SECONDS: Final = 2.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class Continued:
    """A request with the conversation that it continues.

    `provider` keeps that conversation itself, and `model` is the one that it was with.
    """

    body: JsonObject
    history: Sequence[JsonValue] = ()
    provider: str | None = None
    model: str | None = None


class ResponseKeeper:
    """Responses in a store; while that cannot be reached, in memory. `clock` gives Unix seconds."""

    def __init__(
        self,
        store: ResponseStore,
        *,
        retention_seconds: float = RETENTION_SECONDS,
        max_record_bytes: int = MAX_RECORD_BYTES,
        put_seconds: float = PUT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._refuge = MemoryResponseStore(clock=clock)
        self._retention_seconds = retention_seconds
        self._max_record_bytes = max_record_bytes
        self._put_seconds = put_seconds
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    def draft(
        self,
        owner: str,
        response_id: str,
        body: JsonObject,
        *,
        model: str,
        is_background: bool = False,
    ) -> StoredResponse:
        """The record of a response that is just being asked for.

        Raises:
            InvalidRequestError: the input is larger than what is kept of one response.
        """
        given = body.get("input")
        items = stamped(input_items(given) if given is not None else (), response_id)
        encoded = orjson.dumps(items)
        if len(encoded) > self._max_record_bytes:
            raise InvalidRequestError(
                f"`input` takes {len(encoded)} bytes, and the server keeps "
                f"{self._max_record_bytes} of a response at most; send `store: false`.",
                param="input",
            )
        previous = body.get("previous_response_id")
        now = self._clock()
        return StoredResponse(
            response_id=response_id,
            owner=owner,
            created_at=now,
            expires_at=now + self._retention_seconds,
            status="in_progress",
            model=model,
            previous_id=previous if isinstance(previous, str) else None,
            is_background=is_background,
            input=encoded,
        )

    async def keep(self, record: StoredResponse) -> None:
        """Keep a record; what is too large, or cannot be written, is told in the log alone."""
        if record.size > self._max_record_bytes:
            log.warning("Response is too large to be kept", bytes=record.size)
            return
        writing = asyncio.create_task(self._write(record))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        done, _ = await asyncio.wait([writing], timeout=self._put_seconds)
        if not done:
            await self._refuge.put(record)

    async def find(self, owner: str, response_id: str) -> StoredResponse | None:
        """An owner's response; raises `OverloadedError` while nobody can say whether it exists."""
        refuged = await self._refuge.get(owner, response_id)
        try:
            return await self._store.get(owner, response_id) or refuged
        except StoreUnavailableError as exc:
            if refuged is None:
                raise _unavailable() from exc
            return refuged

    async def require(self, owner: str, response_id: str) -> StoredResponse:
        """An owner's response; raises `NotFoundError` where there is none."""
        record = await self.find(owner, response_id)
        if record is None:
            raise not_found(response_id)
        return record

    async def forget(self, owner: str, response_id: str) -> None:
        """Delete an owner's response; raises `NotFoundError` where there is none."""
        was_refuged = await self._refuge.delete(owner, response_id)
        try:
            was_there = await self._store.delete(owner, response_id)
        except StoreUnavailableError as exc:
            raise _unavailable() from exc
        if not (was_there or was_refuged):
            raise not_found(response_id)

    async def statuses(self, owned: Sequence[tuple[str, str]]) -> dict[str, str]:
        """What the store says of responses, given as owner and id; nothing while it is down."""
        try:
            return await self._store.statuses(owned)
        except StoreUnavailableError:
            return {}

    async def history(self, record: StoredResponse) -> list[JsonValue]:
        """All items of the conversation that ends with a response.

        Raises:
            InvalidRequestError: a part of the conversation is no longer kept.
        """
        records = [record]
        if record.previous_id is not None:
            records += await self._chain(record.owner, record.previous_id)
        return conversation(records)

    async def earlier(self, record: StoredResponse) -> list[JsonValue]:
        """The items that a response was made of: those of its request, and all before."""
        items = record.input_items()
        if record.previous_id is None:
            return items
        return conversation(await self._chain(record.owner, record.previous_id)) + items

    async def continued(self, owner: str, body: JsonObject) -> Continued:
        """A request with what it continues, and with the stored items that it refers to.

        Raises:
            InvalidRequestError: the response is unknown, or has not ended well.
        """
        body = await self._resolved(owner, body)
        previous = body.get("previous_response_id")
        if previous is None:
            return Continued(body)
        record = await self.find(owner, previous) if isinstance(previous, str) else None
        if record is None:
            raise _no_previous(previous)
        if record.provider is not None:
            return Continued(body, provider=record.provider, model=record.model)
        if record.status not in {"completed", "incomplete"}:
            raise InvalidRequestError(
                f"The response {record.response_id!r} is {record.status}; only one that has an "
                "answer can be continued.",
                param="previous_response_id",
            )
        return Continued(body, history=await self.history(record), model=record.model)

    async def aclose(self) -> None:
        """Wait for what is still being written, for as long as one write may take."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=self._put_seconds)

    async def _write(self, record: StoredResponse) -> None:
        try:
            await self._store.put(record)
        except StoreUnavailableError:
            await self._refuge.put(record)
        else:
            await self._refuge.delete(record.owner, record.response_id)

    async def _chain(self, owner: str, response_id: str) -> list[StoredResponse]:
        try:
            records = await self._store.chain(owner, response_id, MAX_CHAIN)
        except StoreUnavailableError:
            records = []
        if not records or records[-1].previous_id is not None:
            # What the store lacks may be in memory, if it was down in between.
            records = await self._chain_by_one(owner, response_id)
        return records

    async def _chain_by_one(self, owner: str, response_id: str) -> list[StoredResponse]:
        records: list[StoredResponse] = []
        next_id: str | None = response_id
        while next_id is not None:
            record = await self.find(owner, next_id)
            if record is None or record.provider is not None or len(records) == MAX_CHAIN:
                raise InvalidRequestError(
                    f"The conversation cannot be continued: its response {next_id[:80]!r} is no "
                    "longer kept. Send the conversation's items as `input`.",
                    code="previous_response_not_found",
                    param="previous_response_id",
                )
            records.append(record)
            next_id = record.previous_id
        return records

    async def _resolved(self, owner: str, body: JsonObject) -> JsonObject:
        given = body.get("input")
        if not isinstance(given, list) or not (wanted := referenced_responses(given)):
            return body
        try:
            records = {r.response_id: r for r in await self._store.get_many(owner, wanted)}
        except StoreUnavailableError as exc:
            raise _unavailable() from exc
        refuged = await self._refuge.get_many(owner, wanted)
        found = {**{record.response_id: record for record in refuged}, **records}
        return {**body, "input": resolved(given, found)}


def not_found(response_id: str) -> NotFoundError:
    """The error for a response that is not there, or not the caller's."""
    return NotFoundError(
        f"Response with id {response_id[:128]!r} not found.",
        code="response_not_found",
        param="response_id",
    )


def _no_previous(response_id: JsonValue) -> InvalidRequestError:
    if not isinstance(response_id, str):
        return FieldError("must be the id of a response", "previous_response_id").to_request_error()
    return InvalidRequestError(
        f"Previous response with id {response_id[:128]!r} not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def _unavailable() -> OverloadedError:
    return OverloadedError(
        "The store of responses cannot be reached now. Try again in a moment.",
        code="store_unavailable",
        retry_after_seconds=5,
    )
