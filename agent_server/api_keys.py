"""The keys of callers: how an entry is written, read and made. The raw key is never kept.

An entry of `AGENT_SERVER_API_KEYS` is `name=sha256:<64 hex digits>`, and may go on with
`;scopes=chat+run` and `;owner=<name>`. Entries are separated by commas, spaces or newlines:

    alice=sha256:9f86...;scopes=chat+run,ops=sha256:60303...;scopes=chat+run+approve+admin

The digest is SHA-256 over the key's UTF-8 bytes. Without `scopes` a key may `chat` and `run`;
without `owner` it owns its runs under its own name (two keys of one owner see the same runs).
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

Scope: TypeAlias = Literal["chat", "run", "approve", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"chat", "run"})
KEY_PREFIX = "as-"
ENTRY_SHAPE = "name=sha256:<64 hex digits>[;scopes=chat+run][;owner=name]"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key that the server knows: `sha256` is the digest in lower-case hex."""

    name: str
    sha256: str
    scopes: frozenset[Scope]
    owner: str

    def entry(self) -> str:
        """The key as an entry of the setting."""
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        owner = "" if self.owner == self.name else f";owner={self.owner}"
        return f"{self.name}=sha256:{self.sha256};scopes={scopes}{owner}"


def parse_api_keys(entries: list[str]) -> tuple[ApiKey, ...]:
    """Read the entries; no message repeats an entry, which may be a raw key by mistake.

    Raises:
        ValueError: an entry is no entry, or two share a name or a digest.
    """
    keys = tuple(_parse_entry(entry, number) for number, entry in enumerate(entries, start=1))
    if len({key.name for key in keys}) < len(keys):
        raise ValueError("two entries have the same name; give each key its own")
    if len({key.sha256 for key in keys}) < len(keys):
        raise ValueError("two entries have the same digest; give each entry its own key")
    return keys


def _parse_entry(entry: str, number: int) -> ApiKey:
    head, *options = entry.split(";")
    name, _, digest = head.partition("=")
    if not digest.startswith("sha256:"):
        raise ValueError(
            f"entry {number} is not of the shape {ENTRY_SHAPE}; a raw key is never stored: "
            "make its entry with `agent-server hash-key`"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(f"entry {number}: a name is letters, digits and . _ @ -, at most 64")
    digest = digest.removeprefix("sha256:").lower()
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"entry {number} ({name}): after sha256: come 64 hex digits")
    values = {"scopes": "chat+run", "owner": name} | _parse_options(options, number, name)
    if not _NAME.fullmatch(values["owner"]):
        raise ValueError(f"entry {number} ({name}): an owner is written like a name")
    try:
        scopes = parse_scopes(values["scopes"])
    except ValueError as exc:
        raise ValueError(f"entry {number} ({name}): {exc}") from exc
    return ApiKey(name, digest, scopes, values["owner"])


def _parse_options(options: list[str], number: int, name: str) -> dict[str, str]:
    values = {}
    for option in options:
        word, _, value = option.partition("=")
        if word not in {"scopes", "owner"} or word in values:
            raise ValueError(f"entry {number} ({name}): takes scopes= and owner=, once each")
        values[word] = value
    return values


def parse_scopes(text: str) -> frozenset[Scope]:
    """Read scopes joined by `+`, such as `chat+run`.

    Raises:
        ValueError: a word is no scope.
    """
    scopes = text.split("+")
    for scope in scopes:
        if scope not in SCOPES:
            raise ValueError(f"{scope!r} is no scope; scopes are {', '.join(SCOPES)}, joined by +")
    return frozenset(cast("list[Scope]", scopes))


def digest_of(raw_key: str) -> str:
    """The digest under which a raw key is known."""
    return hashlib.sha256(raw_key.encode()).hexdigest()


def make_raw_key() -> str:
    """A new random key of 256 bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)
