"""The agent: ask the model, call the tools it asks for, ask again, until it has answered.

What this module promises: one `Started` and exactly one `Finished`; the model's text and every
workflow event reach the reader as they happen; a reader that goes away ends model, tools and run,
unless the run is detached; each bound that is reached is an error naming its setting; a failure is
raised, never a quiet end.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from agent_server.agent_bounds import AgentLimits, AnswerBounds
from agent_server.agent_turn import AgentTurn, TextJoint, result_message
from agent_server.approval_answers import ApprovalAnswer, written_answers
from agent_server.decided_answer import DecidedAnswer
from agent_server.event_channel import EventChannel
from agent_server.pending_calls import KeptTurns, PendingCalls
from agent_server.system_prompt import step_prompt, system_prompt
from agent_server.toolbox import EXECUTE_TOOL, AgentCaller, Toolbox
from providers.base import Provider
from providers.chat_request import ChatRequest, Message, TextPart, ToolCall, ToolChoice
from providers.run_intent import asks_to_run
from streaming.errors import InvalidRequestError, OverloadedError, UpstreamProtocolError
from streaming.events import (
    Event,
    Finished,
    Started,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from streaming.run_tokens import RunClaims

if TYPE_CHECKING:
    from agent_server.telemetry.spans import Telemetry

MAX_DETACHED = 256


class AgentLoop:
    """The agent of one server process; its answers share tools, kept turns and bounds."""

    def __init__(
        self,
        toolbox: Toolbox,
        pending_calls: PendingCalls | None = None,
        limits: AgentLimits | None = None,
        *,
        max_detached: int = MAX_DETACHED,
        telemetry: "Telemetry | None" = None,
    ) -> None:
        self._toolbox = toolbox
        self._pending_calls = PendingCalls() if pending_calls is None else pending_calls
        self._limits = limits or AgentLimits()
        self._max_detached = max_detached
        self._telemetry = telemetry
        self._detached: set[asyncio.Task[None]] = set()

    def run(
        self,
        request: ChatRequest,
        *,
        provider: Provider,
        caller: AgentCaller,
        response_id: str,
        model: str,
        clicked: Sequence[ApprovalAnswer] = (),
    ) -> AsyncGenerator[Event, None]:
        """Check the request, then give the events of its answer.

        `request.model` is the provider's model; `response_id` and `model` are what the answer is
        called. Decisions that were `clicked`, or that the newest message of the user is, are taken
        without a model. Closing the generator ends the answer.

        Raises:
            InvalidRequestError: at once, for `n` over 1, a tool named like one of ours, a
                `tool_choice` that names no tool, or a run token that names a tool that is not here.
            OverloadedError: at once, if too many detached answers go on without a reader.
            AgentLimitError: while it is read, a bound was reached; `param` names the setting.
            UpstreamError: while it is read, the provider failed.
        """
        own_names = {spec.name for spec in self._toolbox.specs()}
        _check(request, own_names)
        if caller.claims is not None:
            _check_claims(caller.claims, own_names)
        if caller.detached and len(self._detached) >= self._max_detached:
            raise OverloadedError(
                f"{self._max_detached} answers go on without a reader. Wait until some have ended.",
                retry_after_seconds=10,
            )
        started = Started(response_id, model)
        decisions = clicked or written_answers(request.messages)
        if decisions and caller.claims is None:
            wall = self._limits.max_wall_seconds
            return self._events(DecidedAnswer(decisions, caller, self._toolbox, wall), started)
        answer = _Answer(
            request, provider, caller, self._toolbox, self._pending_calls, self._limits
        )
        answer.telemetry = self._telemetry
        return self._events(answer, started)

    async def aclose(self) -> None:
        """End the answers that outlived their readers; their runs go on."""
        for task in self._detached:
            task.cancel()
        await asyncio.gather(*self._detached, return_exceptions=True)

    async def _events(
        self, answer: "_Answer | DecidedAnswer", started: Started
    ) -> AsyncGenerator[Event, None]:
        yield started
        channel = EventChannel()
        driver = asyncio.create_task(answer.drive(channel))
        try:
            async for event in channel.events():
                yield event
            await driver
        finally:
            if answer.caller.detached and not driver.done():
                channel.abandon()
                self._detached.add(driver)
                driver.add_done_callback(self._settle)
            else:
                driver.cancel()
                await asyncio.gather(driver, return_exceptions=True)

    def _settle(self, driver: asyncio.Task[None]) -> None:
        self._detached.discard(driver)
        if not driver.cancelled():
            # Nobody is left to be told; reading it keeps asyncio from complaining.
            driver.exception()


class _Answer:
    """One answer on its way: the conversation so far, what it has used, whose it is."""

    def __init__(
        self,
        request: ChatRequest,
        provider: Provider,
        caller: AgentCaller,
        toolbox: Toolbox,
        pending_calls: PendingCalls,
        limits: AgentLimits,
    ) -> None:
        self.caller = caller
        self.telemetry: Telemetry | None = None
        self._provider = provider
        self._toolbox = toolbox
        self._pending_calls = pending_calls
        self._bounds = AnswerBounds(limits, caller.claims)
        self._run_is_asked = _run_is_asked(request.messages)
        self._client_tools = {tool.name for tool in request.tools}
        self._said: list[Message] = []
        own_tools = toolbox.specs(caller)
        prompt = self._prompt(has_tools=bool(own_tools), has_client_tools=bool(request.tools))
        history = pending_calls.restore(caller.owner, request.messages)
        ours = (Message("system", (TextPart(prompt),)),) if prompt else ()
        self._request = replace(
            request,
            messages=(*ours, *history),
            tools=(*own_tools, *request.tools),
            n=None,
            stream=True,
        )

    def _prompt(self, *, has_tools: bool, has_client_tools: bool) -> str:
        """What the model is told first; nothing, where it is asked as any model is."""
        refusal = self._toolbox.may_not_execute(self.caller, run_is_asked=self._run_is_asked)
        claims = self.caller.claims
        if claims is None:
            return system_prompt(may_not_execute=refusal, has_client_tools=has_client_tools)
        if not has_tools:
            return ""
        return step_prompt(may_not_execute=refusal if EXECUTE_TOOL in claims.tools else "")

    async def drive(self, channel: EventChannel) -> None:
        """Put the whole answer into the channel and end it; raises what ended it early."""
        if self.telemetry is None:
            await self._drive(channel)
            return
        span = self.telemetry.agent(self._request.model, self.caller.trace)
        self.caller = replace(self.caller, trace=span.headers)
        self._request = replace(self._request, trace=span.headers)
        try:
            await self._drive(channel)
        except BaseException as exc:
            span.end(usage=self._bounds.usage, error=exc)
            raise
        span.end(usage=self._bounds.usage)

    async def _drive(self, channel: EventChannel) -> None:
        try:
            try:
                async with asyncio.timeout(self._bounds.max_wall_seconds) as wall:
                    await self._take_turns(channel)
            except TimeoutError as exc:
                if wall.expired():
                    raise self._bounds.wall_error() from exc
                raise
        except Exception:
            await channel.end()
            raise
        await channel.end()

    async def _take_turns(self, channel: EventChannel) -> None:
        joint = TextJoint()
        for number in range(self._bounds.max_turns):
            turn = await self._ask(channel, joint, is_first=number == 0)
            if turn.ends_answer:
                await channel.put(Finished(turn.final_reason, usage=self._bounds.usage))
                return
            if number + 1 == self._bounds.max_turns:
                break
            if await self._answer_calls(turn, channel):
                return
            self._bounds.check_tokens()
        raise self._bounds.turns_error()

    async def _ask(self, channel: EventChannel, joint: TextJoint, *, is_first: bool) -> AgentTurn:
        """One turn of the model."""
        request = replace(
            self._request,
            messages=(*self._request.messages, *self._said),
            # A forced call is forced once, or the model could never come to an end.
            tool_choice=self._request.tool_choice if is_first else None,
        )
        request = self._bounds.begin_turn(request)
        turn = AgentTurn()
        joint.begin_turn()
        async with aclosing(self._provider.chat(request)) as events:
            async for event in events:
                self._bounds.hear(event)
                shown = turn.accept(event, joint)
                if shown is not None:
                    await channel.put(shown)
        if turn.reason is None:
            raise UpstreamProtocolError(
                "The provider ended its answer without saying why.", provider=self._provider.name
            )
        self._bounds.end_turn(turn.usage)
        return turn

    async def _answer_calls(self, turn: AgentTurn, channel: EventChannel) -> bool:
        """Run our calls, hand the client its own; true if that ends the answer."""
        own = [call for call in turn.calls if call.name not in self._client_tools]
        self._bounds.add_calls(len(own))
        emitted = turn.emitted_calls()
        results = await self._run_tools(own, emitted, channel)
        self._said += [turn.message(), *results]
        theirs = [call for call in turn.calls if call.name in self._client_tools]
        if not theirs:
            return False
        call_ids = {emitted[call.call_id].call_id: call.call_id for call in theirs}
        self._pending_calls.keep(self.caller.owner, KeptTurns(tuple(self._said), call_ids))
        for index, call in enumerate(theirs):
            for event in _call_events(index, emitted[call.call_id]):
                await channel.put(event)
        await channel.put(Finished("tool_calls", usage=self._bounds.usage))
        return True

    async def _run_tools(
        self, calls: Sequence[ToolCall], emitted: dict[str, ToolCall], channel: EventChannel
    ) -> list[Message]:
        """The results of our own tools, which run side by side, in the order of the calls."""
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(
                    self._toolbox.call(
                        emitted[call.call_id],
                        self.caller,
                        run_is_asked=self._run_is_asked,
                        emit=channel.put,
                    )
                )
                for call in calls
            ]
        return [
            result_message(call.call_id, task.result())
            for call, task in zip(calls, running, strict=True)
        ]


def _check(request: ChatRequest, own_names: set[str]) -> None:
    if request.n is not None and request.n > 1:
        raise InvalidRequestError(
            "The agent gives one answer: leave out n or set it to 1.",
            code="invalid_value",
            param="n",
        )
    for index, tool in enumerate(request.tools):
        if tool.name in own_names:
            raise InvalidRequestError(
                f"The agent has a tool named {tool.name!r} itself: give yours another name.",
                code="invalid_value",
                param=f"tools[{index}].function.name",
            )
    choice: ToolChoice | None = request.tool_choice
    names = own_names | {tool.name for tool in request.tools}
    if choice is not None and choice.mode == "function" and choice.name not in names:
        raise InvalidRequestError(
            f"tool_choice names {choice.name!r}, which is none of the tools.",
            code="invalid_value",
            param="tool_choice",
        )


def _check_claims(claims: RunClaims, own_names: set[str]) -> None:
    if missing := [name for name in claims.tools if name not in own_names]:
        raise InvalidRequestError(
            f"The agent step names tools that this server does not have now: "
            f"{', '.join(map(repr, missing))[:500]}. It has: "
            f"{', '.join(sorted(own_names)) or 'none'}.",
            code="unknown_tool",
            param="tools",
        )


def _run_is_asked(messages: Sequence[Message]) -> bool:
    """Whether the newest message of the user, without its files, asks to run something."""
    newest = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), None)
    if newest is None:
        return False
    before = (
        message.typed_text for message in reversed(messages[:newest]) if message.role == "assistant"
    )
    return asks_to_run(messages[newest].typed_text, next(before, ""))


def _call_events(index: int, call: ToolCall) -> tuple[Event, ...]:
    return (
        ToolCallStarted(index, call.call_id, call.name),
        ToolCallDelta(index, call.arguments),
        ToolCallEnded(index, call.call_id, call.name, call.arguments),
    )
