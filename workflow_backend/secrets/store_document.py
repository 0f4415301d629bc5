"""The file of the encrypted store, as JSON: names and limits in the open, values sealed.

    {"version": 1, "salt": base64, "check": base64,
     "secrets": {NAME: {"sealed": base64, "keys": [...], "hosts": [...]}}}

`check` tells a wrong key from a changed file; see `sealing`.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workflow_backend.definition.secret_rules import NO_LIMITS, SecretRule, secret_rule
from workflow_backend.secrets.entries import is_name

VERSION = 1


class StoreDocumentError(Exception):
    """The bytes are no store that this version reads; the message says why, as an end of a line."""


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """One value, and the limits that are sealed with it."""

    sealed: bytes
    rule: SecretRule = NO_LIMITS


@dataclass(frozen=True, slots=True)
class StoreDocument:
    """A whole store."""

    salt: bytes
    check: bytes
    secrets: Mapping[str, SealedSecret] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file; the same store is always the same bytes."""
        document = {
            "version": VERSION,
            "salt": b64encode(self.salt).decode(),
            "check": b64encode(self.check).decode(),
            "secrets": {
                name: {
                    "sealed": b64encode(secret.sealed).decode(),
                    "keys": list(secret.rule.keys),
                    "hosts": list(secret.rule.hosts),
                }
                for name, secret in sorted(self.secrets.items())
            },
        }
        return json.dumps(document, indent=1).encode() + b"\n"


def read_document(data: bytes) -> StoreDocument:
    """The store of these bytes.

    Raises:
        StoreDocumentError: They are none, or of a newer version.
    """
    try:
        document: Any = json.loads(data)
        version = document["version"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise StoreDocumentError("is damaged: it is no JSON object with a version") from None
    if version != VERSION:
        raise StoreDocumentError(
            f"has version {version!r:.20}, and this server reads version {VERSION};"
            " use the release that wrote it, or a newer one"
        )
    try:
        secrets = {name: _sealed(name, given) for name, given in document["secrets"].items()}
        return StoreDocument(_bytes(document["salt"]), _bytes(document["check"]), secrets)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreDocumentError("is damaged: a field of it is missing or malformed") from None


def _sealed(name: str, given: Mapping[str, Any]) -> SealedSecret:
    rule = secret_rule(given["keys"], given["hosts"])
    if not is_name(name) or [*rule.keys, *rule.hosts] != [*given["keys"], *given["hosts"]]:
        raise ValueError(name)
    return SealedSecret(_bytes(given["sealed"]), rule)


def _bytes(text: str) -> bytes:
    return b64decode(text.encode(), validate=True)
