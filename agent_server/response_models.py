"""How the Responses door reaches models: every call is one of the gateway's, or of the agent's."""

import asyncio
import contextlib
import pkgutil
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from agent_server.accounts.accounts import Accounts
from agent_server.doors.responses import RESPONSES_FORMAT, responses_door
from agent_server.gateway.call import ModelCall, OpenAnswer
from agent_server.gateway.names import Target
from agent_server.gateway.routes import Route
from agent_server.model_calls import ModelCalls, call_headers, last_frames
from agent_server.stored_responses.background import BackgroundResponses
from agent_server.stored_responses.keeper import ResponseKeeper
from agent_server.stored_responses.memory_store import MemoryResponseStore
from agent_server.stored_responses.port import (
    OpenedResponse,
    ProviderAnswer,
    ResponseCall,
)
from agent_server.stored_responses.record import (
    ResponseStore,
    StoredResponse,
    StoreUnavailableError,
)
from agent_server.stored_responses.responses import Responses
from agent_server.stream_formats import StreamChoice
from providers.openai.adapter import OpenAIProvider
from providers.relay.answer import RelayedAnswer
from streaming.errors import AgentServerError, NotFoundError
from streaming.json_bytes import dump

if TYPE_CHECKING:
    from agent_server.stored_responses.sql_store import SqlResponseStore


def responses_of(calls: ModelCalls, accounts: Accounts) -> Responses:
    """The Responses door of a server: kept in its store, or in memory where there is none."""
    store: ResponseStore = MemoryResponseStore()
    if accounts.ledger is not None:
        # SQLAlchemy is loaded for a store alone.
        make = pkgutil.resolve_name("agent_server.stored_responses.sql_store:SqlResponseStore")
        kept = make(accounts.ledger.store)
        accounts.sweep_also(partial(_sweep, kept))
        store = kept
    models, keeper = GatewayResponses(calls), ResponseKeeper(store)
    return Responses(models, keeper, BackgroundResponses(models, keeper))


async def _sweep(store: "SqlResponseStore") -> None:
    """Delete all that has expired; a store that is down is swept the next time."""
    with contextlib.suppress(StoreUnavailableError):
        while await store.sweep():
            pass


class GatewayResponses:
    """The models of this server, as the Responses door asks for them: its `ResponseModels`."""

    def __init__(self, calls: ModelCalls) -> None:
        self._calls = calls

    async def open(self, call: ResponseCall) -> OpenedResponse:
        """The answer to a call, once it has content; raises `AgentServerError`."""
        body = call.relay_body
        made = ModelCall(
            door=responses_door(call, may_relay=not call.is_background or bool(self.kept_by(call))),
            caller=call.caller,
            raw=call.raw,
            body=body,
            choice=StreamChoice(
                RESPONSES_FORMAT if call.stream else None,
                call.head.progress_text,
                detached=call.is_background,
            ),
            model=call.model,
            forwarded=call.forwarded,
            request_id=call.request_id,
            log_fields=call.log_fields,
        )
        try:
            target = await self._calls.begin(made, self._target(call))
            answer = await self._calls.open(made, target)
        except BaseException as exc:
            made.failure = exc
            self._calls.finish(made)
            raise
        return _Response(self._calls, call, made, target, answer, self._stored_by(made, answer))

    def kept_by(self, call: ResponseCall) -> str | None:
        """The provider that the call would be relayed to, if it keeps responses itself.

        Raises:
            AgentServerError: the model's name means nothing here.
        """
        target = self._target(call)
        plan = target.plan
        if target.is_agent or len(plan.routes) > 1 or plan.fallbacks:
            return None
        return plan.routes[0].provider if self._keeps(plan.routes[0]) else None

    async def ask_provider(
        self, record: StoredResponse, method: str, path: str, query: str = ""
    ) -> ProviderAnswer:
        """What a provider answers about a response that it keeps; raises `AgentServerError`."""
        provider = record.provider or ""
        asked = self._calls.gateway.providers.get(provider)
        if not isinstance(asked, OpenAIProvider):
            raise NotFoundError(f"The provider '{provider}' keeps no responses.")
        kind = cast("Literal['GET', 'POST', 'DELETE']", method)
        path = f"/responses/{record.response_id}{path}"
        is_named = record.model in self._calls.gateway.names.configured()
        answer = await asked.fetch(
            kind,
            f"{path}?{query}" if query else path,
            answer_model=record.model if is_named else None,
        )
        return ProviderAnswer(200, answer.content_type, _chunks(answer))

    def _target(self, call: ResponseCall) -> Target:
        names = self._calls.gateway.names
        target = names.resolve(call.model)
        if call.provider is None or target.is_agent:
            return target
        # The conversation lies with this provider, so no other one can go on with it.
        for route in target.plan.routes:
            if route.provider == call.provider:
                return replace(target, plan=replace(target.plan, routes=(route,), fallbacks=()))
        return Target(names.direct_plan(call.provider, target.model), is_agent=False)

    def _keeps(self, route: Route) -> bool:
        provider = self._calls.gateway.providers.get(route.provider, route.budgets)
        return (
            isinstance(provider, OpenAIProvider)
            and provider.keeps_responses
            and "responses" in provider.relays_for(route.model)
        )

    def _stored_by(self, call: ModelCall, answer: OpenAnswer) -> str | None:
        route = call.trail.route
        if route is None or not isinstance(answer, RelayedAnswer):
            return None
        return route.provider if self._keeps(route) else None


class _Response:
    """An answer of the gateway or the agent, whose call is finished when it is closed."""

    def __init__(
        self,
        calls: ModelCalls,
        asked: ResponseCall,
        call: ModelCall,
        target: Target,
        answer: OpenAnswer,
        stored_by: str | None,
    ) -> None:
        self._calls = calls
        self._asked = asked
        self._call = call
        self._target = target
        self._answer = answer
        self._stored_by = stored_by
        self._previous_id = _inlined_previous_id(asked, answer)
        self._is_whole = False
        self._is_closed = False

    @property
    def stored_by(self) -> str | None:
        """The provider that keeps the response."""
        return self._stored_by

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Headers that tell who answered."""
        return call_headers(self._call)

    async def read(self) -> bytes:
        """The next whole frames or the body, b"" at the end; raises `AgentServerError`."""
        try:
            data = await self._answer.read()
        except AgentServerError as exc:
            self._call.failure = exc
            raise
        if self._previous_id is not None:
            data = _with_previous_id(data, self._previous_id)
        self._call.bytes_out += len(data)
        self._is_whole = not data or not self._answer.is_stream
        return data

    def fail(self, error: AgentServerError) -> bytes:
        """The last frames of a stream that fails."""
        return last_frames(self._answer, error, self._call, self._target)

    async def aclose(self) -> None:
        """End whatever gives the answer, and finish its call."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._asked.is_cancelled and self._call.agent_caller is not None:
            self._call.agent_caller.detached = False
        try:
            await self._answer.aclose()
        finally:
            if not self._is_whole and self._call.failure is None:
                self._call.failure = asyncio.CancelledError()
            self._calls.finish(self._call)


def _inlined_previous_id(asked: ResponseCall, answer: OpenAnswer) -> str | None:
    """The response that the call continues, where the upstream got its items and not its id."""
    previous_id = asked.body.get("previous_response_id")
    is_relayed = isinstance(answer, RelayedAnswer) and asked.provider is None
    return previous_id if is_relayed and isinstance(previous_id, str) else None


def _with_previous_id(data: bytes, previous_id: str) -> bytes:
    """The frames or the body, telling the id; within a text or arguments, quotes are escaped."""
    for colon in (b":", b": "):
        name = b'"previous_response_id"' + colon
        data = data.replace(name + b"null", name + dump(previous_id))
    return data


async def _chunks(answer: RelayedAnswer) -> AsyncGenerator[bytes, None]:
    async with answer:
        while data := await answer.read():
            yield data
