from dataclasses import replace

import pytest

from agent_server.agent_bounds import SAFE_ANSWER_TOKENS, AgentLimits, AnswerBounds
from agent_server.chat_estimate import prompt_tokens, said_tokens
from providers.chat_request import ChatRequest, Message, TextPart, ToolSpec
from streaming.errors import AgentLimitError
from streaming.events import (
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    Usage,
)
from streaming.run_tokens import RunClaims

CLAIMS = RunClaims("alice", "run-1", "report", 1, 10_000, 4, (), 0)
REQUEST = ChatRequest("m", (Message("user", (TextPart("Sum this up, please."),)),))
# About a thousand tokens.
LONG = TextDelta("1 2 3 4 " * 230)


def bounds(limits: AgentLimits | None = None, **claims: int) -> AnswerBounds:
    return AnswerBounds(limits or AgentLimits(), replace(CLAIMS, **claims))


def test_without_a_run_token_a_request_goes_on_as_it_came() -> None:
    free = AnswerBounds(AgentLimits())
    assert free.begin_turn(REQUEST) is REQUEST
    for _ in range(1_000):
        free.hear(LONG)


def test_the_settings_stand_above_a_run_token() -> None:
    narrow = bounds(AgentLimits(max_turns=2, max_tokens=100, max_tool_calls=1), turns=9)
    assert narrow.max_turns == 2
    assert narrow.turns_error().param == "AGENT_SERVER_MAX_TURNS"
    narrow.end_turn(Usage(90, 10))
    with pytest.raises(AgentLimitError) as raised:
        narrow.check_tokens()
    assert raised.value.param == "AGENT_SERVER_MAX_TOKENS"
    narrow.add_calls(1)
    with pytest.raises(AgentLimitError) as raised:
        narrow.add_calls(1)
    assert raised.value.param == "AGENT_SERVER_MAX_TOOL_CALLS"


def test_the_turns_of_a_run_token_bound_the_answer() -> None:
    assert bounds(turns=3).max_turns == 3
    assert bounds(turns=3).turns_error().param == "budget.turns"
    assert bounds(turns=0).max_turns == 0


def test_what_turns_have_used_is_gone_for_the_next() -> None:
    step = bounds(tokens=3_000)
    first = step.begin_turn(REQUEST)
    step.end_turn(Usage(1_000, 500, 1_600))
    step.check_tokens()
    second = step.begin_turn(REQUEST)
    assert first.max_tokens is not None
    assert second.max_tokens == first.max_tokens - 1_600
    step.end_turn(Usage(1_000, 400))
    assert step.usage == Usage(2_000, 900, 1_600)
    with pytest.raises(
        AgentLimitError, match=r"of the 3000 tokens that were left it has used 3000"
    ):
        step.check_tokens()
    with pytest.raises(AgentLimitError):
        step.begin_turn(REQUEST)


def test_where_nobody_counts_the_estimates_hold() -> None:
    step = bounds(tokens=2_000)
    step.begin_turn(REQUEST)
    step.hear(LONG)
    step.end_turn(None)
    assert step.usage is None
    room = step.begin_turn(REQUEST).max_tokens
    assert room is not None
    assert 700 < room < 1_100


def test_a_length_that_the_caller_asks_for_is_only_made_shorter() -> None:
    asked = replace(REQUEST, max_tokens=50)
    assert bounds(tokens=1_000).begin_turn(asked).max_tokens == 50
    assert bounds(tokens=1_000).begin_turn(replace(asked, max_tokens=5_000)).max_tokens < 1_000  # type: ignore[operator]
    assert bounds(tokens=10_000).begin_turn(asked).max_tokens == 50


def test_a_model_that_says_more_than_is_left_is_cut_off() -> None:
    step = bounds(tokens=8_000)
    step.begin_turn(REQUEST)
    for _ in range(7):
        step.hear(LONG)
    with pytest.raises(AgentLimitError) as raised:
        step.hear(LONG)
    assert raised.value.param == "budget.tokens"


def test_a_short_rest_leaves_the_length_to_the_provider_who_was_told_of_it() -> None:
    # An estimate is no reason to cut off what the provider counts better.
    step = bounds(tokens=1_000)
    assert step.begin_turn(REQUEST).max_tokens is not None
    step.hear(LONG)
    step.hear(LONG)
    assert said_tokens(LONG) * 2 < SAFE_ANSWER_TOKENS


def test_all_that_a_model_reads_and_says_is_estimated() -> None:
    text = "word " * 100
    tool = ToolSpec("find", text)
    plain = prompt_tokens(REQUEST)
    for more in (
        replace(REQUEST, tools=(tool,)),
        replace(REQUEST, response_format={"type": "json_schema", "json_schema": {"name": text}}),
        replace(REQUEST, messages=(*REQUEST.messages, Message("tool", (TextPart(text),)))),
    ):
        assert 80 < prompt_tokens(more) - plain < 200
    for event in (TextDelta(text), ReasoningDelta(text), ToolCallDelta(0, text)):
        assert 80 < said_tokens(event) < 200
    for event in (Finished("stop"), ToolCallEnded(0, "call", "find", text)):
        assert said_tokens(event) == 0
