"""The providers of this process: made on first use, from what was configured."""

import asyncio
from collections.abc import Callable, Mapping

from agent_server.gateway.logged_provider import LoggedProvider
from agent_server.log_config import get_logger
from providers.base import ModelInfo, Provider
from streaming.errors import AgentServerError, InvalidRequestError

MODELS_FRESH_SECONDS = 300.0
MODELS_TIMEOUT_SECONDS = 5.0

log = get_logger()


class ProviderPool:
    """Providers by name: `factories` of the configured ones, `mends` says how to get the others."""

    def __init__(
        self,
        factories: Mapping[str, Callable[[], Provider]],
        *,
        default: str,
        mends: Mapping[str, str],
    ) -> None:
        self._factories = factories
        self._default = default
        self._mends = mends
        self._made: dict[str, Provider] = {}
        self._listings: dict[str, tuple[float, list[ModelInfo]]] = {}

    @property
    def default(self) -> Provider:
        """The default provider."""
        return self.get(self._default)

    def knows(self, name: str) -> bool:
        """Whether the name is a provider's, configured or not."""
        return name in self._mends or name in self._factories

    def get(self, name: str) -> Provider:
        """The provider of a name.

        Raises:
            InvalidRequestError: the provider is known, but this server has no key for it.
        """
        if name not in self._made:
            if name not in self._factories:
                raise InvalidRequestError(
                    f"The provider '{name}' is not configured on this server: {self._mends[name]}.",
                    code="provider_not_configured",
                    param="model",
                )
            self._made[name] = LoggedProvider(self._factories[name]())
        return self._made[name]

    async def models(self) -> dict[str, list[ModelInfo]]:
        """What each configured provider lists; one that does not answer lists nothing for now."""
        names = list(self._factories)
        listings = await asyncio.gather(*(self._listing(name) for name in names))
        return dict(zip(names, listings, strict=True))

    async def aclose(self) -> None:
        """Release every provider that was made."""
        for provider in self._made.values():
            await provider.aclose()

    async def _listing(self, name: str) -> list[ModelInfo]:
        now = asyncio.get_running_loop().time()
        when, listing = self._listings.get(name, (-MODELS_FRESH_SECONDS, []))
        if now - when < MODELS_FRESH_SECONDS:
            return listing
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_SECONDS):
                listing = await self.get(name).models()
        except (AgentServerError, TimeoutError) as exc:
            log.warning("Provider lists no models", provider=name, error=str(exc))
            return listing
        self._listings[name] = (now, listing)
        return listing
