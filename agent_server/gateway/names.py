"""Which provider and model answer for the name that a client gave."""

from dataclasses import dataclass

from agent_server.gateway.providers import ProviderPool
from providers.base import Provider
from streaming.errors import NotFoundError

AGENT_MODEL = "kubiya-workflow-agent"
AGENT_NAMES = (AGENT_MODEL, "workflow-agent")


@dataclass(frozen=True, slots=True)
class Target:
    """Who answers. `is_agent` tells that the workflow agent does, with this provider's model."""

    provider: Provider
    model: str
    is_agent: bool


class ModelNames:
    """Resolves names in the order of the design: the agent, `provider/model`, any other id."""

    def __init__(self, providers: ProviderPool, *, default_model: str | None, agent: bool) -> None:
        self._providers = providers
        self._default_model = default_model
        self._agent = agent

    def resolve(self, name: str | None) -> Target:
        """The target of a name; an absent name is the agent, where there is one.

        Raises:
            NotFoundError: the agent was named on a server that does not serve it.
            InvalidRequestError: the provider is known, but not configured.
        """
        if name is None:
            return self._upstream(None, is_agent=self._agent)
        head, _, tail = name.partition(":")
        if head in AGENT_NAMES:
            if not self._agent:
                raise NotFoundError(
                    f"The model '{name}' is not served: the agent is off. Start the server with "
                    "AGENT_SERVER_AGENT=true.",
                    code="model_not_found",
                    param="model",
                )
            return self._upstream(tail or None, is_agent=True)
        return self._upstream(name, is_agent=False)

    def _upstream(self, name: str | None, *, is_agent: bool) -> Target:
        head, slash, tail = (name or "").partition("/")
        if slash and tail and self._providers.knows(head):
            return Target(self._providers.get(head), tail, is_agent)
        provider = self._providers.default
        return Target(provider, name or self._default_model or provider.default_model, is_agent)
