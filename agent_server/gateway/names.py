"""Which routes answer for the name that a client gave."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent_server.gateway.budgets import Budgets
from agent_server.gateway.providers import ProviderPool
from agent_server.gateway.routes import Route, RoutePlan
from providers.retry import RetryPolicy
from streaming.errors import InvalidRequestError, NotFoundError

AGENT_MODEL: Final = "kubiya-workflow-agent"
AGENT_NAMES: Final = (AGENT_MODEL, "workflow-agent")
# Plans are made once for a model that clients name, and forgotten when too many were named.
MOST_PLANS: Final = 1024


def may_be_agent(name: str | None) -> bool:
    """Whether the workflow agent answers for the name, where there is one."""
    return name is None or name.partition(":")[0] in AGENT_NAMES


@dataclass(frozen=True, slots=True)
class Target:
    """Who answers. `is_agent` tells that the workflow agent does, with a model of this plan."""

    plan: RoutePlan
    is_agent: bool

    @property
    def model(self) -> str:
        """The model of the plan's first route, which names an answer where nobody named one."""
        return self.plan.routes[0].model


class ModelNames:
    """Resolves names in the order of the design.

    Configured names, the agent, `provider/model`, and any other id, which goes to the default
    provider. `budgets` and `retry` are those of routes that no configuration names; a provider of
    the file has `patterns` of its own for them.
    """

    def __init__(
        self,
        providers: ProviderPool,
        *,
        default_model: str | None,
        agent: bool,
        plans: Mapping[str, RoutePlan] | None = None,
        patterns: Mapping[str, Route] | None = None,
        budgets: Budgets | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._providers = providers
        self._default_model = default_model
        self._agent = agent
        self._plans = plans or {}
        self._patterns = patterns or {}
        self._budgets = budgets or Budgets()
        self._retry = retry or RetryPolicy()
        self._direct: OrderedDict[tuple[str, str], RoutePlan] = OrderedDict()
        self._targets: OrderedDict[str | None, Target] = OrderedDict()

    def configured(self) -> Iterable[str]:
        """The names that the configuration gives."""
        return self._plans.keys()

    def resolve(self, name: str | None) -> Target:
        """The target of a name; an absent one is the agent, or else the model that was configured.

        Raises:
            NotFoundError: the agent was named on a server that does not serve it.
            InvalidRequestError: the provider is known, but not configured; or no model was named,
                and none is configured.
        """
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = self._find(name)
            if len(self._targets) > MOST_PLANS:
                self._targets.popitem(last=False)
        return target

    def direct_plan(self, provider: str, model: str) -> RoutePlan:
        """The plan of one model of one provider.

        Raises:
            InvalidRequestError: the provider is known, but not configured.
        """
        plan = self._direct.get((provider, model))
        if plan is None:
            # Raises here, before anything is remembered, for a provider without a key.
            pattern = self._patterns.get(provider) or Route(provider, "", budgets=self._budgets)
            self._providers.get(provider, pattern.budgets)
            route = replace(pattern, model=model, route_id="")
            plan = RoutePlan(route.route_id, (route,), retry=self._retry, budgets=route.budgets)
            self._direct[provider, model] = plan
            if len(self._direct) > MOST_PLANS:
                self._direct.popitem(last=False)
        return plan

    def _find(self, name: str | None) -> Target:
        if name is None:
            if not self._agent and self._default_model is None:
                raise InvalidRequestError(
                    "`model` is missing: name one, or start the server with --model.", param="model"
                )
            return Target(self._plan(None), is_agent=self._agent)
        if plan := self._plans.get(name):
            return Target(plan, is_agent=False)
        head, _, tail = name.partition(":")
        if head not in AGENT_NAMES:
            return Target(self._plan(name), is_agent=False)
        if not self._agent:
            raise NotFoundError(
                f"The model '{name[:200]}' is not served: the agent is off. Start the server "
                "without --no-agent (AGENT_SERVER_AGENT=true).",
                code="model_not_found",
                param="model",
            )
        plan = self._plans.get(tail) if tail else None
        return Target(plan or self._plan(tail or None), is_agent=True)

    def _plan(self, name: str | None) -> RoutePlan:
        head, slash, tail = (name or "").partition("/")
        if slash and tail and self._providers.knows(head):
            return self.direct_plan(head, tail)
        provider = self._providers.default
        model = name or self._default_model or provider.default_model
        return self.direct_plan(provider.name, model)
