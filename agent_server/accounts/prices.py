"""What models cost: the table that is shipped, the operator's own prices above it, exact sums.

A price is a whole number of millionths of a dollar for a million tokens, which is pico-dollars for
one. The cost of a call is summed in these and rounded once, half up, to nano-dollars: the same
tokens cost the same on every door, streamed or not.

The table is made by `scripts/make-prices`; `prices.json` says of what and when. It is read when
the first price of a provider is asked for, and only that provider's part is kept.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import orjson

from streaming.errors import PermissionDeniedError
from streaming.events import Usage

UnknownPrice = Literal["block", "charge"]

PARTS_PER_USD = 1_000_000
PICO_PER_NANO = 1_000
MAX_REMEMBERED = 4096
HIGHEST_USD = 1_000_000
# What runs here costs nothing.
FREE_PROVIDERS = frozenset({"ollama", "offline"})
# Our names of providers where the table has another.
TABLE_NAMES: Mapping[str, str] = {"xai": "x-ai", "gemini": "google", "bedrock": "aws"}
# The name of the price of whatever has none, among the operator's.
ANY_MODEL = "*"
PRICE_FIELDS = ("input", "output", "cached_input", "cache_write", "call")


class Rates(NamedTuple):
    """Pico-dollars for a token: of the prompt, the answer, what was cached, what is now cached."""

    input: int
    output: int
    cached_input: int
    cache_write: int

    def cost(self, usage: Usage) -> int:
        """Pico-dollars for the tokens of a call."""
        cached, written = usage.cached_tokens, usage.cache_creation_tokens
        fresh = max(0, usage.prompt_tokens - cached - written)
        return (
            fresh * self.input
            + cached * self.cached_input
            + written * self.cache_write
            + usage.completion_tokens * self.output
        )


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model. `call` is pico-dollars for a call, whatever its tokens.

    `tiers` are from which number of prompt tokens on (not including it) other rates hold, for the
    whole call; ascending. `context_window` is in tokens, None where it is not known.
    """

    rates: Rates
    call: int = 0
    tiers: tuple[tuple[int, Rates], ...] = ()
    context_window: int | None = None

    def cost(self, usage: Usage) -> int:
        """Nano-dollars for a call."""
        rates = self.rates
        for start, dearer in self.tiers:
            if usage.prompt_tokens > start:
                rates = dearer
        return (rates.cost(usage) + self.call + PICO_PER_NANO // 2) // PICO_PER_NANO


FREE = Price(Rates(0, 0, 0, 0))
# Dearer than most: what has no price is better billed too high than not at all.
DEAR = Price(Rates(15_000_000, 75_000_000, 15_000_000, 15_000_000))


def price_from_fields(fields: Mapping[str, object]) -> Price:
    """A price as the configuration has it: USD for a million tokens, and `call` USD for a call.

    `input` and `output` must be there; `cached_input` and `cache_write` are else that of `input`.

    Raises:
        ValueError: a field is unknown, missing or no amount; the message names it.
    """
    if unknown := sorted(set(fields) - set(PRICE_FIELDS)):
        raise ValueError(
            f"{unknown[0][:40]!r} is no field of a price; fields are {', '.join(PRICE_FIELDS)}"
        )
    parts = {name: _read_usd(name, value) for name, value in fields.items()}
    if missing := [name for name in ("input", "output") if name not in parts]:
        raise ValueError(f"a price needs {missing[0]}, in USD for a million tokens")
    rates = _rates([parts.get(name) for name in PRICE_FIELDS[:4]])
    # USD for a call; the other amounts are for a million tokens.
    return Price(rates, call=parts.get("call", 0) * PARTS_PER_USD)


class Prices:
    """The price of every model: of `overrides` (`provider/model` or globs), or of the table.

    `unknown` says what becomes of a model without a price: `block` lets no key with a budget call
    it; `charge` takes the price named `*`, or one that is dearer than most.
    """

    def __init__(
        self, overrides: Mapping[str, Price] | None = None, *, unknown: UnknownPrice = "block"
    ) -> None:
        given = dict(overrides or {})
        self._any = given.pop(ANY_MODEL, None)
        self._overrides = given
        self._unknown = unknown
        self._remembered: dict[tuple[str, str], Price | None] = {}

    def price_of(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model; None if it is not known and not charged either."""
        asked = (provider, model)
        if asked not in self._remembered:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[asked] = self._find(provider, model)
        return self._remembered[asked]

    def cost(self, provider: str, model: str, usage: Usage) -> int | None:
        """Nano-dollars for a call; None if the price is not known."""
        price = self.price_of(provider, model)
        return price.cost(usage) if price else None

    def require(self, provider: str, model: str) -> Price:
        """The price of a model that a key with a budget calls.

        Raises:
            PermissionDeniedError: it is not known.
        """
        price = self.price_of(provider, model)
        if price is None:
            raise PermissionDeniedError(
                f"The price of '{provider}/{model[:200]}' is not known, so a key with a budget "
                "may not call it. Add it under 'prices' of the gateway's file, or set "
                "AGENT_SERVER_UNKNOWN_PRICE=charge.",
                code="unknown_price",
                param="model",
            )
        return price

    def _find(self, provider: str, model: str) -> Price | None:
        full = f"{provider}/{model}"
        found = self._overrides.get(full)
        if found is None:
            globs = (name for name in self._overrides if fnmatchcase(full, name))
            found = next((self._overrides[name] for name in globs), None)
        if found is None and provider in FREE_PROVIDERS:
            found = FREE
        if found is None:
            found = _from_table(provider, model)
        if found is None:
            found = self._any or (DEAR if self._unknown == "charge" else None)
        return found


def _from_table(provider: str, model: str) -> Price | None:
    """The price of the table; `other/model` at a provider that it has not is of that other."""
    rules = _rules(TABLE_NAMES.get(provider, provider))
    if not rules:
        inner, _, rest = model.partition("/")
        rules, model = (_rules(TABLE_NAMES.get(inner, inner)), rest) if rest else ((), model)
    name = model.lower()
    return next((rule.price for rule in rules if rule.holds(name)), None)


class _Rule(NamedTuple):
    price: Price
    conditions: tuple[tuple[str, str], ...]

    def holds(self, name: str) -> bool:
        return all(_holds(kind, text, name) for kind, text in self.conditions)


def _holds(kind: str, text: str, name: str) -> bool:
    match kind:
        case "is":
            return name == text
        case "starts":
            return name.startswith(text)
        case "ends":
            return name.endswith(text)
        case "has":
            return text in name
        case _:
            return re.search(text, name[:200]) is not None


@lru_cache(maxsize=64)
def _rules(provider: str) -> tuple[_Rule, ...]:
    content = orjson.loads(files("agent_server.accounts").joinpath("prices.json").read_bytes())
    rows: list[list[Any]] = content["rows"]
    prices: dict[int, Price] = {}
    rules = []
    for number, *words in content["providers"].get(provider, ()):
        price = prices.setdefault(number, _price(rows[number]))
        rules.append(_Rule(price, tuple(zip(words[::2], words[1::2], strict=True))))
    return tuple(rules)


def _price(row: list[Any]) -> Price:
    base, call, window = row[:4], row[4:5], row[5:6]
    tiers = tuple((start, _rates(values)) for start, *values in row[6:])
    return Price(
        _rates(base),
        call=(call[0] or 0) * PARTS_PER_USD if call else 0,
        tiers=tiers,
        context_window=window[0] if window else None,
    )


def _rates(values: list[int | None]) -> Rates:
    found = [*values, None, None, None][:4]
    fresh = found[0] or 0
    cached, written = (fresh if part is None else part for part in found[2:])
    return Rates(fresh, found[1] or 0, cached, written)


def _read_usd(name: str, value: object) -> int:
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        usd = Decimal("NaN")
    if isinstance(value, bool) or not usd.is_finite() or not 0 <= usd <= HIGHEST_USD:
        raise ValueError(f"{name} of a price takes an amount in USD, such as 2.50")
    return round(usd * PARTS_PER_USD)
