"""The limits of keys, by reserve-then-settle: what a call may use is taken before it is made.

What this module promises:

- calls at the same time never pass a limit together: each reserves the most that it may use, and
  the ones that find no room are refused; what a call did not use is given back when it is settled;
- an admission is settled once, whatever becomes of its call, and settling neither waits nor fails;
- a key without limits costs nothing here.

A reservation is an estimate: a call that used more than it reserved is settled at what it used,
and those after it wait for that.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Literal, NamedTuple, Protocol

from agent_server.accounts.keys import NANO_PER_USD, ApiKey
from agent_server.accounts.meters import (
    WINDOW_SECONDS,
    Gauge,
    Meter,
    Period,
    Spend,
    SpendMeter,
    Window,
    day_of,
    month_of,
)
from agent_server.accounts.rate_headers import (
    HEADER_NAMES,
    RawHeaders,
    duration_text,
    rate_headers,
)
from streaming.errors import RateLimitError

Kind = Literal["requests", "tokens", "parallel", "day", "month"]
LimitsScope = Literal["process", "shared"]
Clock = Callable[[], float]
# Spent in the store by one key in the current day and month, in nano-dollars.
# None: it cannot be read now.
LoadSpend = Callable[[str, Period, Period], Awaitable[tuple[int, int] | None]]

# The fields of a key that bound each kind.
FIELDS: Mapping[Kind, str] = {
    "requests": "requests_per_minute",
    "tokens": "tokens_per_minute",
    "parallel": "parallel",
    "day": "budget_per_day",
    "month": "budget_per_month",
}
MAX_ACCOUNTS = 10_000
IDLE_SECONDS = 300.0
LOAD_RETRY_SECONDS = 30.0
# What was leased for one call may be taken by another that came at the same time.
FILL_TRIES = 5


class Ask(NamedTuple):
    """What a call may use at most: tokens of prompt and answer together, and nano-dollars.

    The `soft` part is an assumption, such as the length of an answer that the request does not
    bound: of it only what there is room for is reserved, and no call is refused for it.
    """

    tokens: int = 1
    cost: int = 0
    soft_tokens: int = 0
    soft_cost: int = 0


class Row(NamedTuple):
    """One limit of a key and the meter that holds it."""

    kind: Kind
    limit: int
    meter: Meter


class Account:
    """The meters of one key."""

    __slots__ = (
        "_told",
        "filling",
        "key",
        "last_used",
        "load_at",
        "loading",
        "meters",
        "rows",
        "running",
    )

    def __init__(self, key: ApiKey, meters: Mapping[Kind, Meter], *, load_at: float) -> None:
        self.meters = meters
        self.load_at = load_at
        # Held while the shared limits are asked for this key.
        self.filling = asyncio.Lock()
        self.loading: asyncio.Task[None] | None = None
        self.last_used = 0.0
        self.running = 0
        self.fit(key)

    def fit(self, key: ApiKey) -> None:
        """Take the limits of the key as it is now."""
        self.key = key
        limits = ((kind, getattr(key, field)) for kind, field in FIELDS.items())
        self.rows = [
            Row(kind, limit, self.meters[kind]) for kind, limit in limits if limit is not None
        ]
        self._told = [
            (HEADER_NAMES[row.kind], row.limit, row.meter)
            for row in self.rows
            if row.kind in HEADER_NAMES
        ]

    def short_of(self, ask: Ask, now: float) -> Row | None:
        """The limit that has no room for the call, if there is one."""
        for row in self.rows:
            if row.meter.room(row.limit, now) < hard_part(row.kind, ask):
                return row
        return None

    def take(self, ask: Ask, now: float) -> "list[_Taken] | None":
        """Reserve all that the call may use; None, and nothing, where a limit has no room."""
        amounts = []
        for kind, limit, meter in self.rows:
            amount = wanted = 1
            if kind in _BUDGETS:
                amount, wanted = ask.cost, ask.cost + ask.soft_cost
            elif kind == "tokens":
                amount, wanted = ask.tokens, ask.tokens + ask.soft_tokens
            room = meter.room(limit, now)
            if room < amount:
                return None
            amounts.append(wanted if wanted < room else room)
        self.running += 1
        self.last_used = now
        return [
            _Taken(kind, meter, meter.take(amount, now), amount)
            for (kind, _, meter), amount in zip(self.rows, amounts, strict=True)
        ]

    def headers(self, now: float) -> RawHeaders:
        """What is left of the limits per minute, as headers."""
        found: list[tuple[bytes, bytes]] = []
        for names, limit, meter in self._told:
            left = meter.remaining(limit, now)
            found += rate_headers(names, limit, left, meter.reset_seconds(now))
        return found


class Admission:
    """One call that may be made; as a context it is settled when it is left."""

    __slots__ = ("_account", "_clock", "_taken")

    def __init__(self, account: Account | None, taken: "list[_Taken]", clock: Clock) -> None:
        self._account = account
        self._taken = taken
        self._clock = clock

    @property
    def is_open(self) -> bool:
        """Whether it still holds what it reserved."""
        return self._account is not None

    def headers(self) -> RawHeaders:
        """`x-ratelimit-*` as it is now; empty for a key without limits, or once settled."""
        return self._account.headers(self._clock()) if self._account else []

    def settle(self, tokens: int = 0, cost: int = 0) -> None:
        """Give back what the call did not use of its reservation; a second time does nothing.

        `tokens` and `cost` (nano-dollars) are what it used. A call that failed used nothing.
        """
        account, self._account = self._account, None
        if account is None:
            return
        now = self._clock()
        account.running -= 1
        used: dict[Kind, int] = {"requests": 1, "tokens": tokens, "day": cost, "month": cost}
        for kind, meter, hold, reserved in self._taken:
            meter.settle(hold, reserved, used.get(kind, 0), now)

    def __enter__(self) -> "Admission":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.settle()


class SharedPool(Protocol):
    """Where several servers keep their limits together."""

    async def start(self) -> None:
        """Connect; a pool that cannot be reached is tried again in the background."""

    async def stop(self) -> None:
        """Give back what is leased and close, in bounded time."""

    def meters(self, key: ApiKey) -> Mapping[Kind, Meter]:
        """New meters of a key, whose room is what this server has leased."""

    # Called when the pool can be reached again, and may have forgotten what was spent.
    on_return: Callable[[], None]

    async def fill(self, account: Account, ask: Ask) -> bool:
        """Lease enough for the call; False if the shared limits have it not. Never fails."""

    @property
    def scope(self) -> LimitsScope:
        """Whether the limits are shared now."""


class Limits:
    """The limits of all keys."""

    def __init__(
        self,
        *,
        load_spend: LoadSpend | None = None,
        pool: SharedPool | None = None,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._load_spend = load_spend
        self._pool = pool
        self._clock = clock
        self._wall = wall
        self._accounts: dict[str, Account] = {}
        if pool is not None:
            pool.on_return = self._load_again

    @property
    def scope(self) -> LimitsScope:
        """Whether limits hold for this process or for all that share them."""
        return self._pool.scope if self._pool else "process"

    def running(self, key: ApiKey) -> int:
        """How many calls of a key are admitted and not settled."""
        account = self._accounts.get(key.key_id)
        return account.running if account else 0

    async def admit(self, key: ApiKey, ask: Ask) -> Admission:
        """Reserve what the call may use; it waits only where the store or the pool is asked.

        Raises:
            RateLimitError: a limit of the key has no room; it says which, and when to come again.
        """
        if not key.is_limited:
            return Admission(None, [], self._clock)
        account = self._accounts.get(key.key_id) or self._open(key)
        if account.key is not key:
            account.fit(key)
        now = self._clock()
        if now >= account.load_at:
            await self._load(account)
            now = self._clock()
        taken = account.take(ask, now)
        if taken is None and self._pool is not None:
            for _ in range(FILL_TRIES):
                has_room = await self._pool.fill(account, ask)
                now = self._clock()
                taken = account.take(ask, now)
                if taken is not None or not has_room:
                    break
        if taken is None:
            raise _refusal(account, ask, now)
        return Admission(account, taken, self._clock)

    def _open(self, key: ApiKey) -> Account:
        if len(self._accounts) >= MAX_ACCOUNTS:
            self._forget_idle()
        is_stored = self._load_spend is not None and key.has_budget
        account = Account(key, self._new_meters(key), load_at=-math.inf if is_stored else math.inf)
        self._accounts[key.key_id] = account
        return account

    def _new_meters(self, key: ApiKey) -> Mapping[Kind, Meter]:
        if self._pool is not None:
            return self._pool.meters(key)
        return {
            "requests": Window(),
            "tokens": Window(),
            "parallel": Gauge(),
            "day": Spend(day_of, self._wall),
            "month": Spend(month_of, self._wall),
        }

    def _forget_idle(self) -> None:
        """Forget keys that used nothing for a while; what they spent is in the store, if any."""
        before = self._clock() - IDLE_SECONDS
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.running
            or account.last_used > before
            or (account.key.has_budget and self._load_spend is None)
        }

    def _load_again(self) -> None:
        """Read again what was spent, for a pool that may have forgotten it."""
        if self._load_spend is not None:
            for account in self._accounts.values():
                if account.key.has_budget:
                    account.load_at = -math.inf

    async def _load(self, account: Account) -> None:
        """Read what the key has spent; those that come meanwhile wait for the same answer."""
        if account.loading is None:
            account.loading = asyncio.create_task(self._read_spend(account))
        await asyncio.shield(account.loading)

    async def _read_spend(self, account: Account) -> None:
        day, month = (account.meters[kind] for kind in ("day", "month"))
        try:
            if self._load_spend and isinstance(day, SpendMeter) and isinstance(month, SpendMeter):
                spent = await self._load_spend(account.key.key_id, day.period, month.period)
                if spent is None:
                    account.load_at = self._clock() + LOAD_RETRY_SECONDS
                    return
                day.begin_with(spent[0])
                month.begin_with(spent[1])
            account.load_at = math.inf
        finally:
            account.loading = None


class _Taken(NamedTuple):
    kind: Kind
    meter: Meter
    hold: object
    amount: int


def hard_part(kind: Kind, ask: Ask) -> int:
    """What a call needs of a limit."""
    if kind == "tokens":
        return ask.tokens
    return ask.cost if kind in _BUDGETS else 1


def soft_part(kind: Kind, ask: Ask) -> int:
    """What it would take besides, if there is room."""
    if kind == "tokens":
        return ask.soft_tokens
    return ask.soft_cost if kind in _BUDGETS else 0


def _refusal(account: Account, ask: Ask, now: float) -> RateLimitError:
    # There is such a limit: nothing has changed since it had no room.
    kind, limit, meter = account.short_of(ask, now) or account.rows[0]
    name = account.key.name
    amount = hard_part(kind, ask)
    wait = meter.wait_seconds(limit, amount, now)
    come_again = f"Come again in {duration_text(wait)}."
    limits = {name.decode(): value.decode() for name, value in account.headers(now)}
    if kind in _BUDGETS:
        left = max(0, meter.remaining(limit, now))
        return RateLimitError(
            f"The API key '{name}' has {_usd(left)} left of its budget of {_usd(limit)} a {kind}, "
            f"and this call may cost {_usd(amount)}. The budget is whole again in "
            f"{duration_text(wait)}; an administrator can raise it.",
            code="insufficient_quota",
            param=FIELDS[kind],
            is_retryable=False,
            retry_after_seconds=wait,
            limits=limits,
        )
    if amount > limit:
        return RateLimitError(
            f"This call may use {amount} tokens, and the API key '{name}' has {limit} a minute: it "
            "would never fit. Send less, or ask for a shorter answer (max_tokens).",
            param=FIELDS[kind],
            is_retryable=False,
            retry_after_seconds=WINDOW_SECONDS,
            limits=limits,
        )
    return RateLimitError(
        _TEXTS[kind].format(name=name, limit=limit, amount=amount) + f" {come_again}",
        param=FIELDS[kind],
        retry_after_seconds=wait,
        limits=limits,
    )


def _usd(nano: int) -> str:
    return f"{Decimal(nano) / NANO_PER_USD:f} USD"


_BUDGETS = frozenset({"day", "month"})
_TEXTS: Mapping[Kind, str] = {
    "requests": "The API key '{name}' may make {limit} requests a minute.",
    "tokens": "The API key '{name}' may use {limit} tokens a minute, and this call may use "
    "{amount}.",
    "parallel": "The API key '{name}' may make {limit} calls at the same time.",
}
