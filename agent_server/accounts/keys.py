"""The keys of callers: how an entry is written, read and made. The raw key is never kept.

An entry of `AGENT_SERVER_API_KEYS` is `name=sha256:<64 hex digits>`, and may go on with options:

    alice=sha256:9f86...;scopes=chat+run;rpm=60;tpm=100000,ops=sha256:60303...;scopes=chat+admin

`OPTIONS` lists them. The digest is SHA-256 over the key's UTF-8 bytes. Without `scopes` a key may
`chat` and `run`; without `owner` it owns its runs under its own name (two keys of one owner see
the same runs); without a limit there is none. Money is kept in nano-dollars, as whole numbers.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, TypeVar, cast, get_args

Scope: TypeAlias = Literal["chat", "run", "approve", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"chat", "run"})
KEY_PREFIX = "as-"
ENTRY_SHAPE = "name=sha256:<64 hex digits>[;scopes=chat+run][;owner=name]"
NANO_PER_USD = 1_000_000_000
HIGHEST_LIMIT = 10**12
# A milliard dollars: whole numbers of 64 bits hold it in nano-dollars.
HIGHEST_BUDGET = 10**18

# The words of an entry's options, and the fields that they set.
OPTIONS: Mapping[str, str] = {
    "scopes": "scopes",
    "owner": "owner",
    "models": "models",
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "parallel": "parallel",
    "budget_day": "budget_per_day",
    "budget_month": "budget_per_month",
    "expires": "expires_at",
}

_Value = TypeVar("_Value")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key that the server knows: `sha256` is the digest in lower-case hex.

    A limit of None is none. `models` are names or globs (`gpt-*`), `expires_at` is in Unix seconds,
    budgets are in nano-dollars. `key_id` is the key's name in usage and limits: a key of the
    settings has its own name there, one of the store its id.
    """

    name: str
    sha256: str
    scopes: frozenset[Scope]
    owner: str
    key_id: str = ""
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel: int | None = None
    budget_per_day: int | None = None
    budget_per_month: int | None = None
    expires_at: float | None = None
    is_limited: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        limits = (
            self.requests_per_minute,
            self.tokens_per_minute,
            self.parallel,
            self.budget_per_day,
            self.budget_per_month,
        )
        object.__setattr__(self, "key_id", self.key_id or self.name)
        object.__setattr__(self, "is_limited", any(limit is not None for limit in limits))

    @property
    def has_budget(self) -> bool:
        """Whether what the key spends is bounded."""
        return self.budget_per_day is not None or self.budget_per_month is not None

    def allows_model(self, model: str) -> bool:
        """Whether the key may name this model; upper and lower case differ."""
        return self.models is None or any(fnmatchcase(model, glob) for glob in self.models)

    def is_expired(self, now: float) -> bool:
        """Whether the key's time is over, at `now` in Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at

    def entry(self) -> str:
        """The key as an entry of the setting."""
        fields = key_fields(self)
        words = {word: fields[name] for word, name in OPTIONS.items() if name in fields}
        if self.owner == self.name:
            del words["owner"]
        texts = (f";{word}={_option_text(value)}" for word, value in words.items())
        return f"{self.name}=sha256:{self.sha256}{''.join(texts)}"


def key_fields(key: ApiKey) -> dict[str, object]:
    """What a key may do, by the names of its fields, for people and for JSON; budgets in USD."""
    fields: dict[str, object] = {
        "scopes": [scope for scope in SCOPES if scope in key.scopes],
        "owner": key.owner,
        "models": list(key.models) if key.models is not None else None,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "parallel": key.parallel,
        "budget_per_day": _usd(key.budget_per_day),
        "budget_per_month": _usd(key.budget_per_month),
        "expires_at": _time_text(key.expires_at),
    }
    return {name: value for name, value in fields.items() if value is not None}


def api_key_from_fields(fields: Mapping[str, object], *, key_id: str = "") -> ApiKey:
    """The key of named fields, as a file or a body has them.

    `name` and `sha256` must be there; `scopes` and `models` are lists or texts joined by `+`,
    budgets are USD, `expires_at` is a date (its first moment in UTC) or an RFC 3339 time. A value
    of None counts as absent.

    Raises:
        ValueError: a field is unknown, missing or out of range; the message names it, and never
            repeats the digest, which may be a raw key by mistake.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    known = {"name", "sha256", *OPTIONS.values()}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{unknown[0][:40]!r} is no field of a key; fields are {_listed(known)}")
    name = _read_name(given.get("name"), "name")
    return ApiKey(
        name=name,
        sha256=_read_digest(given.get("sha256")),
        scopes=_read_scopes(given.get("scopes", "chat+run")),
        owner=_read_name(given.get("owner", name), "owner"),
        key_id=key_id,
        models=_optional(given, "models", _read_models),
        requests_per_minute=_optional(given, "requests_per_minute", _read_count),
        tokens_per_minute=_optional(given, "tokens_per_minute", _read_count),
        parallel=_optional(given, "parallel", _read_count),
        budget_per_day=_optional(given, "budget_per_day", _read_money),
        budget_per_month=_optional(given, "budget_per_month", _read_money),
        expires_at=_optional(given, "expires_at", _read_time),
    )


def parse_api_keys(entries: list[str]) -> tuple[ApiKey, ...]:
    """Read the entries; no message repeats an entry, which may be a raw key by mistake.

    Raises:
        ValueError: an entry is no entry, or two share a name or a digest.
    """
    return distinct_keys(_parse_entry(entry, number) for number, entry in enumerate(entries, 1))


def distinct_keys(keys: Iterable[ApiKey]) -> tuple[ApiKey, ...]:
    """The keys, if no two share a name or a digest.

    Raises:
        ValueError: two do.
    """
    listed = tuple(keys)
    if len({key.name for key in listed}) < len(listed):
        raise ValueError("two entries have the same name; give each key its own")
    if len({key.sha256 for key in listed}) < len(listed):
        raise ValueError("two entries have the same digest; give each entry its own key")
    return listed


def parse_scopes(text: str) -> frozenset[Scope]:
    """Read scopes joined by `+`, such as `chat+run`.

    Raises:
        ValueError: a word is no scope.
    """
    return _read_scopes(text)


def digest_of(raw_key: str) -> str:
    """The digest under which a raw key is known."""
    return hashlib.sha256(raw_key.encode()).hexdigest()


def make_raw_key() -> str:
    """A new random key of 256 bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def _parse_entry(entry: str, number: int) -> ApiKey:
    head, *options = entry.split(";")
    name, _, digest = head.partition("=")
    if not digest.startswith("sha256:"):
        raise ValueError(
            f"entry {number} is not of the shape {ENTRY_SHAPE}; a raw key is never stored: "
            "make its entry with `agent-server hash-key`"
        )
    try:
        _read_name(name, "name")
    except ValueError as exc:
        raise ValueError(f"entry {number}: {exc}") from None
    try:
        return api_key_from_fields({"name": name, "sha256": digest, **_parse_options(options)})
    except ValueError as exc:
        raise ValueError(f"entry {number} ({name}): {exc}") from None


def _parse_options(options: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for option in options:
        word, _, value = option.partition("=")
        if word not in OPTIONS or OPTIONS[word] in values:
            takes = ", ".join(f"{option}=" for option in OPTIONS)
            raise ValueError(f"takes {takes} once each")
        values[OPTIONS[word]] = value
    return values


def _optional(
    given: Mapping[str, object], name: str, read: Callable[[object, str], _Value]
) -> _Value | None:
    return read(given[name], name) if name in given else None


def _read_name(value: object, what: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"the {what} of a key is letters, digits and . _ @ -, at most 64")
    return value


def _read_digest(value: object) -> str:
    digest = value.removeprefix("sha256:").lower() if isinstance(value, str) else ""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(
            "sha256 is 'sha256:' and 64 hex digits; a raw key is never stored: make its digest "
            "with `agent-server hash-key`"
        )
    return digest


def _read_scopes(value: object) -> frozenset[Scope]:
    scopes = _words(value, "scopes")
    for scope in scopes:
        if scope not in SCOPES:
            raise ValueError(f"{scope!r} is no scope; scopes are {', '.join(SCOPES)}, joined by +")
    return frozenset(cast("list[Scope]", scopes))


def _read_models(value: object, name: str) -> tuple[str, ...]:
    models = _words(value, name)
    if not models or not all(_MODEL.fullmatch(model) for model in models):
        raise ValueError(f"{name} takes names of models or globs such as gpt-*, at least one")
    return tuple(models)


def _words(value: object, name: str) -> list[str]:
    words = value.split("+") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{name} takes a list of texts, or one text joined by +")
    return list(words)


def _read_count(value: object, name: str) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= HIGHEST_LIMIT:
        raise ValueError(f"{name} takes a whole number from 1 on; leave it out for no limit")
    return number


def _read_money(value: object, name: str) -> int:
    try:
        nano = Decimal(str(value)) * NANO_PER_USD
    except InvalidOperation:
        nano = Decimal("NaN")
    if isinstance(value, bool) or not nano.is_finite() or not 0 <= nano <= HIGHEST_BUDGET:
        raise ValueError(f"{name} takes an amount in USD, such as 5 or 0.50")
    return int(nano)


def _read_time(value: object, name: str) -> float:
    moment = _moment_of(value)
    if moment is None:
        raise ValueError(f"{name} takes a date such as 2027-01-01, or a time in RFC 3339")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment_of(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _usd(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO_PER_USD


def _time_text(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _option_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return "+".join(value) if isinstance(value, list) else str(value)
