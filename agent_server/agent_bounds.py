"""How much one answer of the agent may take: the server's bounds, and those of a run token.

What this module promises: a bound that is reached is an error naming the setting, or the field of
the step, that raises it. The budget of a run token is held before each turn, by an estimate of the
prompt; within it, by what the model has said so far; and after it, by what the provider counted.
"""

from dataclasses import dataclass, replace
from typing import Final

from agent_server.chat_estimate import prompt_tokens, said_tokens
from providers.chat_request import ChatRequest
from streaming.errors import AgentLimitError
from streaming.events import Event, Usage
from streaming.run_tokens import RunClaims

# Every model takes this as the most of an answer; many refuse a number that is over their own.
SAFE_ANSWER_TOKENS: Final = 4096


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """The bounds of one answer; each is the setting `AGENT_SERVER_` and its name."""

    max_turns: int = 24
    max_tool_calls: int = 64
    max_wall_seconds: float = 3600.0
    max_tokens: int = 1_000_000


class AnswerBounds:
    """What one answer has used, and what it may."""

    def __init__(self, limits: AgentLimits, claims: RunClaims | None = None) -> None:
        self._limits = limits
        self._claims = claims
        self._calls = 0
        self._used = 0
        self._prompt = 0.0
        self._said = 0.0
        self.usage: Usage | None = None

    @property
    def max_turns(self) -> int:
        """Most turns of the model."""
        most = self._limits.max_turns
        return most if self._claims is None else min(most, self._claims.turns)

    @property
    def max_wall_seconds(self) -> float:
        """Longest time of the answer."""
        return self._limits.max_wall_seconds

    def begin_turn(self, request: ChatRequest) -> ChatRequest:
        """The request of the next turn, with an answer as short as what is left.

        Raises:
            AgentLimitError: the budget of the run token has no room for its prompt.
        """
        if self._claims is None:
            return request
        self._prompt, self._said = prompt_tokens(request), 0.0
        room = self._answer_room()
        if room < 1:
            raise self._tokens_error()
        if room <= SAFE_ANSWER_TOKENS:
            request = replace(request, max_tokens=min(request.max_tokens or room, room))
        return request

    def hear(self, event: Event) -> None:
        """Count what the model says.

        Raises:
            AgentLimitError: it is more than the budget of the run token has room for.
        """
        if self._claims is None:
            return
        self._said += said_tokens(event)
        if self._said > max(self._answer_room(), SAFE_ANSWER_TOKENS):
            raise self._tokens_error()

    def end_turn(self, usage: Usage | None) -> None:
        """Take what the provider counted; where it counts nothing, the estimates hold."""
        if usage is None:
            self._used += round(self._prompt + self._said)
            return
        self.usage = usage if self.usage is None else self.usage + usage
        self._used += max(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def add_calls(self, count: int) -> None:
        """Count calls of our tools.

        Raises:
            AgentLimitError: they are too many.
        """
        self._calls += count
        if self._calls > self._limits.max_tool_calls:
            raise _setting_error("max_tool_calls", self._limits.max_tool_calls)

    def check_tokens(self) -> None:
        """Whether another turn may follow.

        Raises:
            AgentLimitError: the tokens are used up.
        """
        if self._used >= self._limits.max_tokens:
            raise _setting_error("max_tokens", self._limits.max_tokens)
        if self._claims is not None and self._used >= self._claims.tokens:
            raise self._tokens_error()

    def turns_error(self) -> AgentLimitError:
        """The error of an answer that needs more turns."""
        if self._claims is not None and self._claims.turns <= self._limits.max_turns:
            turns = self._claims.turns
            return _budget_error("turns", f"{turns} model turns were not enough for an answer")
        return _setting_error("max_turns", self._limits.max_turns)

    def wall_error(self) -> AgentLimitError:
        """The error of an answer that takes too long."""
        return _setting_error("max_wall_seconds", self._limits.max_wall_seconds)

    def _answer_room(self) -> int:
        tokens = 0 if self._claims is None else self._claims.tokens
        return int(tokens - self._used - self._prompt)

    def _tokens_error(self) -> AgentLimitError:
        tokens = 0 if self._claims is None else self._claims.tokens
        prompt = f", and its next prompt has about {self._prompt:.0f}" if self._prompt else ""
        return _budget_error(
            "tokens", f"of the {tokens} tokens that were left it has used {self._used}{prompt}"
        )


_LIMIT_WORDS = {
    "max_turns": "{} model turns were not enough for an answer",
    "max_tool_calls": "the model asked for more than {} tool calls",
    "max_wall_seconds": "the answer took longer than {:g} s",
    "max_tokens": "the model used its {} tokens before it had answered",
}


def _setting_error(name: str, value: float) -> AgentLimitError:
    setting = f"AGENT_SERVER_{name.upper()}"
    words = _LIMIT_WORDS[name].format(value)
    return AgentLimitError(
        f"The agent stopped: {words}. Ask for less at once, or raise {setting}.", param=setting
    )


def _budget_error(field: str, words: str) -> AgentLimitError:
    return AgentLimitError(
        f"The agent step stopped: {words}. Ask for less, or raise `budget.{field}` of the step.",
        param=f"budget.{field}",
    )
