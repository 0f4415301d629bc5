"""The providers of this process: made on first use, from what was configured."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from agent_server.gateway.budgets import Budgets
from agent_server.log_config import get_logger
from providers.base import ModelInfo, Provider
from streaming.errors import AgentServerError, InvalidRequestError

MODELS_FRESH_SECONDS: Final = 300.0
MODELS_RETRY_SECONDS: Final = 10.0
MODELS_TIMEOUT_SECONDS: Final = 5.0

log = get_logger()


class ProviderPool:
    """Providers by name and budgets.

    `factories` make the configured ones with given bounds, `mends` says how to get the others.
    """

    def __init__(
        self,
        factories: Mapping[str, Callable[[Budgets], Provider]],
        *,
        default: str,
        mends: Mapping[str, str],
        budgets: Budgets | None = None,
    ) -> None:
        self._factories = factories
        self._default = default
        self._mends = mends
        self._budgets = budgets or Budgets()
        self._made: dict[tuple[str, Budgets], Provider] = {}
        self._last: dict[str, tuple[Budgets, Provider]] = {}
        # What was listed, and until when it counts, in seconds of the loop's clock.
        self._listings: dict[str, tuple[float, list[ModelInfo]]] = {}
        self._asking: dict[str, asyncio.Task[list[ModelInfo]]] = {}

    @property
    def default(self) -> Provider:
        """The default provider."""
        return self.get(self._default)

    def knows(self, name: str) -> bool:
        """Whether the name is a provider's, configured or not."""
        return name in self._mends or name in self._factories

    def get(self, name: str, budgets: Budgets | None = None) -> Provider:
        """The provider of a name, its waits bounded by the budgets, or by those of the settings.

        Raises:
            InvalidRequestError: this server has no key for the provider, or knows it no more.
        """
        budgets = budgets or self._budgets
        last = self._last.get(name)
        if last is not None and last[0] is budgets:
            # What is asked for again and again, without the price of comparing budgets.
            return last[1]
        key = (name, budgets)
        made = self._made.get(key)
        if made is None:
            if name not in self._factories:
                # A call that was begun before a reload, and a stored response, may name any.
                mend = self._mends.get(name, "the gateway's file does not name it any more")
                raise InvalidRequestError(
                    f"The provider '{name}' is not configured on this server: {mend}.",
                    code="provider_not_configured",
                    param="model",
                )
            made = self._made[key] = self._factories[name](budgets)
        self._last[name] = (budgets, made)
        return made

    async def models(self) -> dict[str, list[ModelInfo]]:
        """What each configured provider lists; one that does not answer lists nothing for now."""
        names = list(self._factories)
        listings = await asyncio.gather(*(self._listing(name) for name in names))
        return dict(zip(names, listings, strict=True))

    async def aclose(self) -> None:
        """Release every provider that was made."""
        for asking in self._asking.values():
            asking.cancel()
        for provider in self._made.values():
            await provider.aclose()

    async def _listing(self, name: str) -> list[ModelInfo]:
        fresh_until, listing = self._listings.get(name, (0.0, []))
        if asyncio.get_running_loop().time() < fresh_until:
            return listing
        asking = self._asking.get(name)
        if asking is None:
            # One for all who ask meanwhile, so that callers cannot ask an upstream by the hundred.
            asking = self._asking[name] = asyncio.create_task(self._ask(name, listing))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(asking)

    async def _ask(self, name: str, listing: list[ModelInfo]) -> list[ModelInfo]:
        """What a provider lists now; where it does not answer, what it listed before."""
        seconds = MODELS_FRESH_SECONDS
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_SECONDS):
                listing = await self.get(name).models()
        except (AgentServerError, TimeoutError) as exc:
            log.warning("Provider lists no models", provider=name, error=str(exc))
            seconds = MODELS_RETRY_SECONDS
        self._listings[name] = (asyncio.get_running_loop().time() + seconds, listing)
        return listing
