"""Opens the answer to a call: on the routes of its model, relayed where formats agree.

What this module promises: an answer that `open` returns has content, or is whole; what fails before
is tried again or elsewhere, as the plan of its routes says; an answer of a named model carries the
name that the client gave, any other the upstream's.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from agent_server.chat_estimate import prompt_tokens, said_tokens
from agent_server.gateway.call import Charge, ModelCall, OpenAnswer
from agent_server.gateway.failover import Failover, Trail
from agent_server.gateway.names import ModelNames
from agent_server.gateway.providers import ProviderPool
from agent_server.gateway.routes import Route, RoutePlan
from agent_server.gateway.translate import (
    TranslatedBody,
    TranslatedStream,
    has_content,
)
from agent_server.log_config import get_logger
from providers.base import ModelInfo, Provider, RelayingProvider
from providers.chat_request import ChatRequest
from providers.relay.request import RelayRequest, WireFormat
from streaming.errors import AgentServerError, UpstreamProtocolError
from streaming.events import Event, Finished, Usage

if TYPE_CHECKING:
    from agent_server.call_traces import CallTraces, InnerCall

log = get_logger()


class Gateway:
    """What names mean now, and the way to an answer. A reload makes another one."""

    def __init__(self, providers: ProviderPool, names: ModelNames, failover: Failover) -> None:
        self.providers = providers
        self.names = names
        self._failover = failover

    async def open(self, call: ModelCall, plan: RoutePlan) -> OpenAnswer:
        """The answer on a route of the plan, once it has content.

        `call.trail` is filled in, and holds the route's place until it is closed.

        Raises:
            AgentServerError: no route answered, or the request is at fault.
        """

        def attempt(route: Route, deadline: float) -> Awaitable[OpenAnswer]:
            return self._open(call, plan, route, deadline)

        return await self._failover.first(plan, attempt, call.trail)

    def breaker_states(self) -> Mapping[str, str]:
        """The state of each configured route's breaker, by the route's id."""
        return self._failover.book.states()

    def provider(
        self, plan: RoutePlan, charges: list[Charge], traces: "CallTraces | None" = None
    ) -> Provider:
        """The plan as a provider, whose every call goes over its routes and into `charges`."""
        return RoutedProvider(self, plan, charges, traces)

    def base_url_of(self, route: Route) -> str:
        """Where the provider of a route answers, as far as it has an address."""
        provider = self.providers.get(route.provider, route.budgets)
        return str(getattr(provider, "base_url", ""))

    async def open_events(
        self, request: ChatRequest, plan: RoutePlan, trail: Trail
    ) -> "OpenedEvents":
        """The events of an answer on a route of the plan, once it has content; raises as `open`."""

        async def attempt(route: Route, deadline: float) -> OpenedEvents:
            provider = self.providers.get(route.provider, route.budgets)
            asked = replace(request, model=route.model, deadline=deadline)
            opened = OpenedEvents(provider.chat(asked), [])
            async with _closed_on_failure(opened):
                await opened.prove(route)
            return opened

        return await self._failover.first(plan, attempt, trail)

    async def _open(
        self, call: ModelCall, plan: RoutePlan, route: Route, deadline: float
    ) -> OpenAnswer:
        provider = self.providers.get(route.provider, route.budgets)
        named = call.model if plan.is_named else None
        door, choice = call.door, call.choice
        relaying = _relaying(provider, door.wire, route.model)
        if relaying is not None and door.may_relay(choice, call.body):
            request = RelayRequest(
                wire=door.wire,
                model=route.model,
                body=call.body,
                stream=call.is_stream,
                include_usage=choice.include_usage,
                answer_model=named,
                headers=call.forwarded,
                dropped=call.dropped,
                deadline=deadline,
            )
            return await relaying.relay(request)
        is_own = door.wire in getattr(provider, "relays", ())
        chat = call.chat if is_own else call.chat_elsewhere(route.model)
        chat = replace(
            chat,
            model=route.model,
            stream=call.is_stream,
            trace=call.trace,
            dropped=call.dropped,
            deadline=deadline,
        )
        return await self._translate(call, provider.chat(chat), named or route.model, named)

    async def _translate(
        self,
        call: ModelCall,
        events: AsyncGenerator[Event, None],
        model: str,
        named: str | None,
    ) -> OpenAnswer:
        door, choice = call.door, call.choice
        answer: TranslatedStream | TranslatedBody
        if choice.format is None:
            answer = TranslatedBody(
                events, lambda told: door.make_body(door.head(named or told or model, choice))
            )
        else:
            make_encoder = door.formats[choice.format]
            answer = TranslatedStream(
                events, lambda told: make_encoder(door.head(named or told or model, choice))
            )
        async with _closed_on_failure(answer):
            await answer.prove()
        return answer


def _relaying(provider: Provider, wire: WireFormat, model: str) -> RelayingProvider | None:
    """The provider, if its model takes requests of this format as clients write them."""
    if not getattr(provider, "relays", None):
        return None
    relaying = cast("RelayingProvider", provider)
    return relaying if wire in relaying.relays_for(model) else None


@dataclass(slots=True)
class OpenedEvents:
    """The events of an answer that has content: the first ones, then the rest."""

    rest: AsyncGenerator[Event, None]
    first: list[Event]

    async def prove(self, route: Route) -> None:
        """Wait for content; raises what the provider raises."""
        async for event in self.rest:
            self.first.append(event)
            if has_content(event):
                return
        raise UpstreamProtocolError(
            f"{route.provider} ended its answer before it began one", provider=route.provider
        )

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events of the answer."""
        for event in self.first:
            yield event
        async for event in self.rest:
            yield event

    async def aclose(self) -> None:
        """End whatever gives the events, at once."""
        await self.rest.aclose()


class RoutedProvider(Provider):
    """A plan of routes in the shape of one provider, for the agent's own calls."""

    def __init__(
        self,
        gateway: Gateway,
        plan: RoutePlan,
        charges: list[Charge],
        traces: "CallTraces | None" = None,
    ) -> None:
        self.name = plan.name
        self.default_model = plan.routes[0].model
        self._gateway = gateway
        self._plan = plan
        self._charges = charges
        self._traces = traces

    @override
    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        if self._traces is None:
            return self._chat(request, Trail())
        return self._traced(self._traces.inner_call(request, self._plan))

    async def _traced(self, traced: "InnerCall") -> AsyncGenerator[Event, None]:
        trail = Trail()
        error: BaseException | None = None
        try:
            async with contextlib.aclosing(self._chat(traced.request, trail)) as answer:
                async for event in answer:
                    traced.note(event)
                    yield event
        except BaseException as exc:
            error = exc
            raise
        finally:
            traced.end(trail, self._gateway.base_url_of, error)

    async def _chat(self, request: ChatRequest, trail: Trail) -> AsyncGenerator[Event, None]:
        began, usage, outcome = time.perf_counter(), None, "abandoned"
        said, has_begun = 0.0, False
        try:
            with trail:
                opened = await self._gateway.open_events(request, self._plan, trail)
                has_begun = True
                async with contextlib.aclosing(opened):
                    async for event in opened.events():
                        said += said_tokens(event)
                        if isinstance(event, Finished):
                            outcome, usage = event.reason, event.usage or usage
                        yield event
        except AgentServerError as exc:
            outcome = type(exc).__name__
            raise
        finally:
            if usage is None and has_begun:
                # Cut off, or the upstream counts nothing: what was read and said is paid for.
                prompt = round(prompt_tokens(request))
                usage = Usage(prompt, round(said), prompt + round(said))
            self._note(trail, usage, outcome, time.perf_counter() - began)

    def _note(self, trail: Trail, usage: Usage | None, outcome: str, seconds: float) -> None:
        route = trail.route or self._plan.routes[0]
        told = usage or Usage()
        if usage is not None:
            self._charges.append((route.provider, route.model, usage))
        log.info(
            "Provider called",
            provider=route.provider,
            model=route.model,
            attempts=trail.attempts,
            outcome=outcome,
            prompt_tokens=told.prompt_tokens,
            completion_tokens=told.completion_tokens,
            duration_ms=round(seconds * 1000, 1),
        )

    @override
    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(route.model, route.provider) for route in self._plan.all_routes()]

    @override
    async def aclose(self) -> None:
        """Nothing is held here: the providers belong to their pool."""


@contextlib.asynccontextmanager
async def _closed_on_failure(
    answer: TranslatedStream | TranslatedBody | OpenedEvents,
) -> AsyncGenerator[None, None]:
    try:
        yield
    except BaseException:
        await answer.aclose()
        raise
