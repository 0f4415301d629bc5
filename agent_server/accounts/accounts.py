"""Accounts: who calls, how much they may, what it cost. The one thing that doors and routes ask.

What this module promises: where nothing is new (a known key, a spend that was read, a lease that is
not used up), `find_key` and `admit` come back without a wait; `finish` never waits and never fails;
a store that is down stops no call of a key that was used lately.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from agent_server.accounts.estimate import ASSUMED_ANSWER_TOKENS, prompt_tokens
from agent_server.accounts.key_book import KeyBook
from agent_server.accounts.keys import ApiKey
from agent_server.accounts.limits import Admission, Ask, Limits, LimitsScope, SharedPool
from agent_server.accounts.meters import Period
from agent_server.accounts.prices import Prices
from agent_server.accounts.store_errors import MigrationError
from agent_server.accounts.stored_keys import StoredKey, new_key
from agent_server.accounts.usage import UsageLog, UsageRow
from agent_server.log_config import get_logger
from streaming.errors import ConflictError, PermissionDeniedError
from streaming.events import Usage

if TYPE_CHECKING:
    from agent_server.accounts.ledger import Ledger

CLEAN_SECONDS = 3600.0
START_RETRY_SECONDS = 5.0

log = get_logger()


class Accounts:
    """Keys, limits, prices and usage of one server.

    `ledger` is what they have in the store, None where there is no store: then keys are those of
    the configuration, and what was spent is forgotten when the server ends. `pool` is what several
    servers share their limits by, None where each holds its own.
    """

    def __init__(
        self,
        *,
        keys: Iterable[ApiKey] = (),
        prices: Prices | None = None,
        ledger: "Ledger | None" = None,
        pool: SharedPool | None = None,
        keep_days: int = 90,
    ) -> None:
        self.prices = prices or Prices()
        self.ledger = ledger
        self.book = KeyBook(
            keys,
            read_keys=ledger.read_keys if ledger else None,
            has_keys=ledger.has_keys if ledger else None,
            read_owner_keys=ledger.read_owner_keys if ledger else None,
        )
        self.limits = Limits(load_spend=self._read_spend if ledger else None, pool=pool)
        self.usage = UsageLog(ledger.write_usage) if ledger else None
        self._pool = pool
        self._keep_days = keep_days
        self._tasks: list[asyncio.Task[None]] = []
        self._sweeps: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Open the store and begin to keep things fresh.

        A store that cannot be reached is tried again in the background.

        Raises:
            MigrationError: the store's schema could not be brought up to date.
        """
        if self._pool is not None:
            await self._pool.start()
        if self.ledger is not None and self.usage is not None:
            is_open = await self.ledger.store.try_start()
            self.usage.start()
            self._tasks.append(asyncio.create_task(self._keep_house(self.ledger, is_open=is_open)))
        await self.book.start()

    async def aclose(self) -> None:
        """Write what waits and close everything, in bounded time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.book.stop()
        if self.usage is not None:
            await self.usage.stop()
        if self._pool is not None:
            await self._pool.stop()
        if self.ledger is not None:
            await self.ledger.store.stop()

    def sweep_also(self, sweep: Callable[[], Awaitable[None]]) -> None:
        """Have something else of the store cleaned as well; `sweep` never fails."""
        self._sweeps.append(sweep)

    @property
    def is_keyed(self) -> bool:
        """Whether callers need a key."""
        return self.book.is_keyed

    def limits_scope(self) -> LimitsScope:
        """`shared` if limits hold for all servers together now, `process` if for this one alone."""
        return self.limits.scope

    async def find_key(self, digest: str) -> ApiKey | None:
        """The key of a digest, None if there is none; see `KeyBook.find`."""
        return await self.book.find(digest)

    async def admit(
        self,
        key: ApiKey | None,
        *,
        model: str,
        targets: Sequence[tuple[str, str]],
        body: bytes,
        max_output_tokens: int | None = None,
    ) -> Admission:
        """Reserve what a call may use, before it is made.

        `model` is what the client named; `targets` are the (provider, model) that may answer: the
        dearest is reserved for. `body` is the request as it came; `max_output_tokens` is the most
        that the answer may have in all choices together, None where the request does not say.

        Raises:
            PermissionDeniedError: the key may not name the model, or has a budget and the price of
                a target is not known.
            RateLimitError: a limit has no room.
        """
        if key is None:
            return await self.limits.admit(_NOBODY, _NOTHING)
        check_model(key, model)
        ask = self._ask(key, targets, body, max_output_tokens) if key.is_limited else _NOTHING
        return await self.limits.admit(key, ask)

    def finish(self, admission: Admission, row: UsageRow) -> None:
        """Settle a call by what it used, and keep its row. Never waits, never fails."""
        admission.settle(
            row.usage.prompt_tokens + row.usage.completion_tokens, row.cost_nano_usd or 0
        )
        self.record(row)

    def record(self, row: UsageRow) -> None:
        """Keep the row of a call, if there is a store."""
        if self.usage is not None:
            self.usage.add(row)

    def cost(self, provider: str, model: str, usage: Usage) -> int | None:
        """Nano-dollars that a call cost; None if the price is not known."""
        return self.prices.cost(provider, model, usage)

    async def create_key(self, fields: Mapping[str, object]) -> tuple[StoredKey, str]:
        """Make a key in the store; gives it, and what its caller sends, which is kept nowhere.

        Raises:
            ValueError: a field is unknown, missing or out of range.
            ConflictError: a living key has the name, or there is no store.
            OverloadedError: the store cannot be reached.
        """
        key, raw_key = new_key(fields)
        stored = await self._stored().create_key(key)
        self.book.forget(key.sha256)
        return stored, raw_key

    async def list_keys(self, *, limit: int, after: str = "") -> list[StoredKey]:
        """The keys of the store in the order of their ids, revoked ones too.

        Raises:
            ConflictError: there is no store.
            OverloadedError: the store cannot be reached.
        """
        return await self._stored().list_keys(limit=limit, after=after)

    async def revoke_key(self, key_id: str) -> StoredKey | None:
        """End a key of the store by id or name; gives it as it is then, None if there is none.

        Raises:
            ConflictError: there is no store.
            OverloadedError: the store cannot be reached.
        """
        stored = await self._stored().revoke_key(key_id)
        if stored is not None:
            self.book.forget(stored.key.sha256)
        return stored

    def _stored(self) -> "Ledger":
        if self.ledger is None:
            raise ConflictError(
                "This server has no store of keys. Start it with AGENT_SERVER_DATABASE_URL=sqlite, "
                "or the URL of a PostgreSQL.",
                code="no_store",
            )
        return self.ledger

    def _ask(
        self,
        key: ApiKey,
        targets: Sequence[tuple[str, str]],
        body: bytes,
        max_output_tokens: int | None,
    ) -> Ask:
        prompt = prompt_tokens(body)
        bound = max_output_tokens or 0
        assumed = 0 if max_output_tokens is not None else ASSUMED_ANSWER_TOKENS
        cost = soft_cost = 0
        if key.has_budget:
            least = Usage(prompt, bound)
            most = Usage(prompt, bound + assumed) if assumed else least
            dearest = 0
            for provider, model in targets:
                price = self.prices.require(provider, model)
                cost = max(cost, price.cost(least))
                dearest = max(dearest, price.cost(most) if assumed else cost)
            soft_cost = dearest - cost
        return Ask(prompt + bound, cost, assumed, soft_cost)

    async def _read_spend(self, key_id: str, day: Period, month: Period) -> tuple[int, int] | None:
        if self.ledger is None or self.usage is None:
            return 0, 0
        found = await self.ledger.read_spend(key_id, day, month)
        if found is None:
            return None
        waiting = self.usage.waiting_cost(key_id, day, month)
        return found[0] + waiting[0], found[1] + waiting[1]

    async def _keep_house(self, ledger: "Ledger", *, is_open: bool) -> None:
        """Open a store that could not be opened, and delete what is older than is kept."""
        while not is_open:
            await asyncio.sleep(START_RETRY_SECONDS)
            try:
                is_open = await ledger.store.try_start()
            except MigrationError as exc:
                log.error("Store cannot be used", reason=str(exc))  # noqa: TRY400 - all is said
        while True:
            await ledger.clean(keep_days=self._keep_days)
            for sweep in self._sweeps:
                await sweep()
            await asyncio.sleep(CLEAN_SECONDS)


def check_model(key: ApiKey, model: str) -> None:
    """Raise `PermissionDeniedError` unless the key may name the model."""
    if not key.allows_model(model):
        raise PermissionDeniedError(
            f"The API key '{key.name}' may not use the model '{model[:200]}'. It may use: "
            f"{', '.join(key.models or ())[:500]}.",
            code="model_not_allowed",
            param="model",
        )


# A caller without a key has no limits.
_NOBODY = ApiKey("nobody", "", frozenset(), "nobody")
_NOTHING = Ask()
