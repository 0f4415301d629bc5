"""Keys as the store has them: how a new one is made, and how they are shown."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_server.accounts.keys import (
    ApiKey,
    api_key_from_fields,
    digest_of,
    key_fields,
    make_raw_key,
)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the store has it; times are in Unix seconds, `revoked_at` is None while it lives."""

    key: ApiKey
    created_at: float
    revoked_at: float | None


def new_key_id() -> str:
    """An id for a new key; it says nothing about the key itself."""
    return f"key_{secrets.token_hex(12)}"


def new_key(fields: Mapping[str, object]) -> tuple[ApiKey, str]:
    """A new key of these fields, and what its caller sends, which is kept nowhere.

    Raises:
        ValueError: a field is unknown, missing or out of range.
    """
    if "sha256" in fields:
        raise ValueError("sha256 is no field of a new key; the server makes the key itself")
    raw_key = make_raw_key()
    key = api_key_from_fields({**fields, "sha256": digest_of(raw_key)}, key_id=new_key_id())
    return key, raw_key


def key_object(stored: StoredKey) -> dict[str, object]:
    """A key as JSON shows it: never its digest; times in RFC 3339, budgets in USD."""
    revoked = {} if stored.revoked_at is None else {"revoked_at": _time_text(stored.revoked_at)}
    return {
        "id": stored.key.key_id,
        "object": "api_key",
        "name": stored.key.name,
        "status": _status(stored),
        **key_fields(stored.key),
        "created_at": _time_text(stored.created_at),
        **revoked,
    }


def _status(stored: StoredKey) -> str:
    if stored.revoked_at is not None:
        return "revoked"
    return "expired" if stored.key.is_expired(time.time()) else "active"


def _time_text(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
