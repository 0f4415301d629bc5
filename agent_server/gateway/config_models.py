"""The named models of the gateway's file, as plans of routes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent_server.gateway.budgets import BUDGET_FIELDS, Budgets
from agent_server.gateway.config_nodes import Node
from agent_server.gateway.config_section import Section, closest, listed
from agent_server.gateway.names import AGENT_NAMES
from agent_server.gateway.routes import (
    CAUSES,
    STRATEGY_NAMES,
    Cause,
    Fallback,
    Route,
    RoutePlan,
)
from providers.retry import RetryPolicy

LONGEST_SECONDS: Final = 86_400
MOST_ROUTES: Final = 32
MOST_FALLBACKS: Final = 8
DEEPEST_FALLBACKS: Final = 4
MOST_WEIGHT: Final = 1_000_000
MOST_RETRIES: Final = 10
LONGEST_HEDGE_SECONDS: Final = 600
_MODEL_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class _Link:
    """A fallback as it is written: a name and the causes for which it is asked."""

    name: str
    on: frozenset[Cause]
    node: Node
    path: str


class ModelReader:
    """Reads plans. `origins` are the providers that may be named, `mends` how to get others.

    `budgets` are those of the file's own providers; the usual ones hold for all else.
    """

    def __init__(
        self,
        *,
        origins: Mapping[str, str],
        mends: Mapping[str, str],
        budgets: Mapping[str, Budgets],
        usual_budgets: Budgets,
        usual_retry: RetryPolicy,
    ) -> None:
        self._origins = origins
        self._mends = mends
        self._budgets = budgets
        self._usual_budgets = usual_budgets
        self._usual_retry = usual_retry
        self._plans: dict[str, RoutePlan] = {}
        self._links: dict[str, list[_Link]] = {}
        self._done: dict[str, RoutePlan] = {}

    def plans(self, section: Section) -> dict[str, RoutePlan]:
        """Every named model, its fallbacks linked."""
        for name, model in section.sections():
            if self._is_name(section, name):
                self._plans[name] = self._plan(name, model)
        return {name: self._linked(name, (), section) for name in self._plans}

    def _is_name(self, section: Section, name: str) -> bool:
        if name.partition(":")[0] in AGENT_NAMES:
            section.complain("is the workflow agent's own name; choose another", name)
            return False
        if not _MODEL_NAME.fullmatch(name):
            section.complain("a model's name has no spaces, and at most 200 characters", name)
            return False
        return True

    def _plan(self, name: str, section: Section) -> RoutePlan:
        timeouts = read_timeouts(section.section("timeouts"))
        found = section.listed_sections("routes")
        routes = [self._route(route, timeouts) for route in found[:MOST_ROUTES]]
        if not 1 <= len(found) <= MOST_ROUTES:
            section.complain(f"needs from 1 to {MOST_ROUTES} routes", "routes")
        for number, route in enumerate(routes):
            if route.route_id in {before.route_id for before in routes[:number]}:
                found[number].complain(f"{route.route_id} is there twice; keep one, with a weight")
        retries = section.whole("retries", most=MOST_RETRIES, zero=True)
        patience = section.number("patience_seconds", most=LONGEST_SECONDS, zero=True)
        usual = RoutePlan(name, ())
        plan = RoutePlan(
            name=name,
            routes=tuple(routes),
            strategy=section.choice("strategy", STRATEGY_NAMES, "priority"),
            retry=replace(self._usual_retry, limit=1 if retries is None else retries),
            budgets=self._usual_budgets.but(**timeouts),
            patience_seconds=usual.patience_seconds if patience is None else patience,
            hedge_after_seconds=section.number("hedge_after_seconds", most=LONGEST_HEDGE_SECONDS),
            is_named=True,
        )
        if plan.strategy == "weighted" and not any(route.weight for route in routes):
            section.complain("needs a route with a weight over 0", "routes")
        self._links[name] = self._read_links(section)
        section.close()
        return plan

    def _route(self, section: Section, timeouts: Mapping[str, float]) -> Route:
        provider = section.required_text("provider")
        weight = section.whole("weight", most=MOST_WEIGHT, zero=True)
        own_timeouts = read_timeouts(section.section("timeouts"))
        budgets = self._budgets.get(provider, self._usual_budgets)
        route = Route(
            provider=provider,
            model=section.required_text("model"),
            weight=1 if weight is None else weight,
            budgets=budgets.but(**timeouts).but(**own_timeouts),
            context_window=section.whole("context_window", most=1_000_000_000),
            max_in_flight=section.whole("max_in_flight", most=1_000_000),
            origin=self._origins.get(provider, ""),
        )
        if provider and provider not in self._origins:
            section.complain(self._unknown(provider), "provider")
        section.close()
        return route

    def _unknown(self, provider: str) -> str:
        if mend := self._mends.get(provider):
            return f"{provider} is not configured on this server: {mend}"
        near = closest(provider, self._origins)
        hint = f"did you mean {near}? " if near else ""
        return f"no such provider; {hint}configured are {listed(self._origins)}"

    def _read_links(self, section: Section) -> list[_Link]:
        links = []
        for number, node in enumerate(section.items("fallbacks")):
            path = f"{section.at('fallbacks')}[{number}]"
            if isinstance(node.value, str):
                links.append(_Link(node.value, frozenset({"error"}), node, path))
                continue
            item = Section(node, path, section.problems)
            name = item.required_text("model")
            links.append(_Link(name, self._causes(item), node, path))
            item.close()
        if len(links) > MOST_FALLBACKS:
            section.complain(f"takes at most {MOST_FALLBACKS} fallbacks", "fallbacks")
        return links[:MOST_FALLBACKS]

    def _causes(self, section: Section) -> frozenset[Cause]:
        if not section.has("on"):
            section.items("on")
            return frozenset({"error"})
        words = [node.value for node in section.items("on")]
        if not words or any(word not in CAUSES for word in words):
            section.complain(f"must be a list of {', '.join(CAUSES)}", "on")
        return frozenset(cause for cause in CAUSES if cause in words)

    def _linked(self, name: str, above: tuple[str, ...], section: Section) -> RoutePlan:
        """The plan with its fallbacks, each with its own; a circle is cut where it closes."""
        if (done := self._done.get(name)) is not None:
            return done
        above = (*above, name)
        fallbacks = []
        for link in self._links[name]:
            if link.name not in self._plans:
                near = closest(link.name, self._plans)
                hint = f"did you mean `{near}`?" if near else "name a model of this file"
                section.complain_at(link.node.line, link.path, f"no such model; {hint}")
            elif link.name in above:
                circle = " > ".join((*above[above.index(link.name) :], link.name))
                section.complain_at(link.node.line, link.path, f"goes round in a circle: {circle}")
            elif (plan := self._shallow(link, above, section)) is not None:
                fallbacks.append(Fallback(plan, link.on))
        plan = replace(self._plans[name], fallbacks=tuple(fallbacks))
        self._done[name] = plan
        return plan

    def _shallow(self, link: _Link, above: tuple[str, ...], section: Section) -> RoutePlan | None:
        """The plan of a fallback, unless fallbacks go on too deep under it."""
        if len(above) < MOST_ROUTES:
            plan = self._linked(link.name, above, section)
            if _depth(plan) <= DEEPEST_FALLBACKS:
                return plan
        reason = f"fallbacks go over {DEEPEST_FALLBACKS} deep; list them at one model"
        section.complain_at(link.node.line, link.path, reason)
        return None


def _depth(plan: RoutePlan) -> int:
    return 1 + max((_depth(fallback.plan) for fallback in plan.fallbacks), default=0)


def read_timeouts(section: Section) -> dict[str, float]:
    """The bounds that a `timeouts` section gives, by their names in the file."""
    given = {name: section.number(name, most=LONGEST_SECONDS) for name in BUDGET_FIELDS}
    section.close()
    return {name: seconds for name, seconds in given.items() if seconds is not None}
