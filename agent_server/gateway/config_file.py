"""The gateway's file: named models and their routes, providers, keys, prices.

What this module promises: a file is taken whole or not at all; each fault names its line, its field
and the mend; no key is in an error, a log line or a `repr`. What is read holds no reference to the
text. `docs/routing.md` tells the fields.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent_server.accounts.keys import ApiKey, api_key_from_fields, distinct_keys
from agent_server.accounts.prices import Price, price_from_fields
from agent_server.gateway.breakers import BreakerPolicy
from agent_server.gateway.budgets import Budgets
from agent_server.gateway.config_models import ModelReader, read_timeouts
from agent_server.gateway.config_nodes import (
    MAX_BYTES,
    ConfigFileError,
    Problem,
    read_nodes,
)
from agent_server.gateway.config_section import Section, closest, listed
from agent_server.gateway.routes import RoutePlan
from providers.retry import RetryPolicy

LONGEST_KEY_FILE: Final = 10_000
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = r"https?://[^\s/]+[^\s]*"
_LIKE_NOTHING: Final = "custom"


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """A provider of the file. It speaks as the provider `like` does; None takes that one's own.

    `origin` changes when the provider does, and tells nothing about it.
    """

    name: str
    like: str
    base_url: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    default_model: str | None = None
    budgets: Budgets = field(default_factory=Budgets)

    @property
    def origin(self) -> str:
        """Where and as whom the provider is asked, as a digest."""
        parts = (self.like, self.base_url or "", self.api_key or "")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class GatewayFile:
    """What the file says. `files` are those that it was read from: a change of any is one of it."""

    providers: Mapping[str, ProviderEntry] = field(default_factory=dict)
    plans: Mapping[str, RoutePlan] = field(default_factory=dict)
    keys: tuple[ApiKey, ...] = field(default=(), repr=False)
    prices: Mapping[str, Price] = field(default_factory=dict)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    files: tuple[Path, ...] = ()

    def secret_values(self) -> tuple[str, ...]:
        """The keys of its providers, for the log to mask."""
        return tuple(entry.api_key for entry in self.providers.values() if entry.api_key)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a file is read against.

    `usable` are the providers that are configured without it, `mends` tells how to get the others
    that are known; every provider of `rows` can be imitated. `budgets` and `retry` hold where the
    file says nothing.
    """

    environment: Mapping[str, str] = field(repr=False)
    usable: Collection[str]
    mends: Mapping[str, str] = field(default_factory=dict)
    rows: Collection[str] = ()
    budgets: Budgets = field(default_factory=Budgets)
    retry: RetryPolicy = field(default_factory=RetryPolicy)


def load_gateway_file(path: Path, around: Surroundings) -> GatewayFile:
    """Read the file; blocks, so a running server does it off its loop.

    Raises:
        ConfigFileError: it cannot be read, or something in it is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        reason = f"it cannot be read: {exc.strerror}"
        raise ConfigFileError([Problem(0, "", reason)]) from None
    return read_gateway_file(data, path, around)


def read_gateway_file(data: bytes, path: Path, around: Surroundings) -> GatewayFile:
    """The file of these bytes; a key file that it names is meant from the folder of `path`.

    Raises:
        ConfigFileError: something in it is wrong.
    """
    problems: list[Problem] = []
    root = Section(read_nodes(data), "", problems)
    reader = _Reader(path, around)
    providers = reader.providers(root.section("providers"))
    models = ModelReader(
        origins={
            **dict.fromkeys(around.usable, ""),
            **{name: entry.origin for name, entry in providers.items()},
        },
        mends=around.mends,
        budgets={name: entry.budgets for name, entry in providers.items()},
        usual_budgets=around.budgets,
        usual_retry=around.retry,
    )
    result = GatewayFile(
        providers=providers,
        plans=models.plans(root.section("models")),
        keys=_keys(root),
        prices=_prices(root.section("prices")),
        breaker=_breaker(root.section("breaker")),
        files=(path, *reader.key_files),
    )
    root.close()
    if problems:
        raise ConfigFileError(sorted(problems, key=lambda problem: problem.line))
    return result


class _Reader:
    """Reads the providers, and notes which files their keys came from."""

    def __init__(self, path: Path, around: Surroundings) -> None:
        self.key_files: list[Path] = []
        self._folder = path.parent
        self._around = around

    def providers(self, section: Section) -> dict[str, ProviderEntry]:
        """Every provider of the file by its name."""
        return {
            name: self._provider(name, entry)
            for name, entry in section.sections()
            if _PROVIDER_NAME.fullmatch(name) or _complain_of_name(section, name)
        }

    def _provider(self, name: str, section: Section) -> ProviderEntry:
        rows = self._around.rows
        usual = name if name in rows else _LIKE_NOTHING
        like = section.text("like") or usual
        if like not in rows:
            near = closest(like, rows)
            hint = f"did you mean {near}? " if near else ""
            section.complain(f"no such provider; {hint}known are {listed(rows)}", "like")
        entry = ProviderEntry(
            name=name,
            like=like,
            base_url=self._base_url(section),
            api_key=self._key(section),
            default_model=section.text("default_model"),
            budgets=self._around.budgets.but(**read_timeouts(section.section("timeouts"))),
        )
        if entry.base_url is None and like == _LIKE_NOTHING and not section.has("base_url"):
            section.complain("needs `base_url`, or `like` with the provider that it is")
        section.close()
        return entry

    def _base_url(self, section: Section) -> str | None:
        text = section.text("base_url")
        if text is None:
            return None
        missing = [name for name in _VARIABLE.findall(text) if not self._variable(name)]
        if missing:
            section.complain(f"the variable {missing[0]} is not set", "base_url")
            return None
        url = _VARIABLE.sub(lambda found: self._variable(found[1]), text)
        if not re.fullmatch(_ADDRESS, url):
            section.complain("must be an address such as http://127.0.0.1:8080/v1", "base_url")
            return None
        return url

    def _key(self, section: Section) -> str | None:
        text, file = section.text("api_key"), section.text("api_key_file")
        if text is not None and file is not None:
            section.complain("give `api_key` or `api_key_file`, not both", "api_key_file")
        if file is not None:
            return self._key_of_file(section, self._folder / Path(file).expanduser())
        if text is None:
            return None
        named = _VARIABLE.fullmatch(text)
        if named is None:
            section.complain(
                "a key is never written into this file; name its variable as ${NAME}, or use "
                "`api_key_file`",
                "api_key",
            )
            return None
        if not self._variable(named[1]):
            section.complain(f"the variable {named[1]} is not set", "api_key")
        return self._variable(named[1]) or None

    def _key_of_file(self, section: Section, path: Path) -> str | None:
        self.key_files.append(path)
        try:
            with path.open(encoding="utf-8") as file:
                key = file.read(LONGEST_KEY_FILE).strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
            section.complain(f"the file cannot be read: {reason}", "api_key_file")
            return None
        if len(key.split()) != 1:
            section.complain("the file must hold one key and nothing else", "api_key_file")
            return None
        return key

    def _variable(self, name: str) -> str:
        return self._around.environment.get(name, "")


def _complain_of_name(section: Section, name: str) -> bool:
    section.complain("a provider's name is letters, digits and . _ -, at most 64", name)
    return False


def _keys(root: Section) -> tuple[ApiKey, ...]:
    """The keys; each has the file's `limits` where it says nothing itself."""
    limits = root.section("limits").node.plain()
    keys = []
    for section in root.listed_sections("keys"):
        fields = section.node.plain()
        try:
            if isinstance(fields, dict) and isinstance(limits, dict):
                keys.append(api_key_from_fields({**limits, **fields}))
        except ValueError as exc:
            section.complain(str(exc))
    try:
        return distinct_keys(keys)
    except ValueError as exc:
        root.complain(str(exc), "keys")
        return ()


def _prices(section: Section) -> dict[str, Price]:
    prices = {}
    for name, entry in section.sections():
        fields = entry.node.plain()
        try:
            prices[name] = price_from_fields(fields if isinstance(fields, dict) else {})
        except ValueError as exc:
            entry.complain(str(exc))
    return prices


def _breaker(section: Section) -> BreakerPolicy:
    given = {
        "failures": section.whole("failures", most=1000),
        "failure_rate": section.number("failure_rate", most=1),
        "min_attempts": section.whole("min_attempts", most=100_000),
        "window_seconds": section.number("window_seconds", most=3600),
        "probe_seconds": section.number("probe_seconds", most=3600),
        "max_rest_seconds": section.number("max_rest_seconds", most=3600),
    }
    section.close()
    kept = {name: value for name, value in given.items() if value is not None}
    return replace(BreakerPolicy(), **kept)  # type: ignore[arg-type]  # names and types are above
