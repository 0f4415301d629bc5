"""One attempt at an `agent` step: what is asked, what is answered, what that has used so far."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from streaming.run_tokens import RunClaims, expiry
from workflow_backend.definition.actions import AgentTask
from workflow_backend.steps.agent_call import (
    AgentAnswer,
    AgentCallError,
    AgentRequest,
    Used,
    call_server,
)
from workflow_backend.steps.agent_schema import (
    AnswerFaultsError,
    check_schema,
    instruction,
    read_answer,
    repair_request,
    response_format,
)
from workflow_backend.steps.attempt import AttemptContext, AttemptEnd
from workflow_backend.steps.capture import HeadAndTail
from workflow_backend.steps.server_link import ServerLink

AGENT_MODEL = "kubiya-workflow-agent"
AGENT_NAMES = (AGENT_MODEL, "workflow-agent")

Status = Literal["success", "failed", "timed_out", "cancelled"]

_FAULTY_ENDS = {
    "length": "the answer was cut off: at the end of the step's budget, or of what the model says"
    " in one answer; raise `budget.tokens`, or ask for less",
    "content_filter": "the provider held the answer back (content_filter)",
    "tool_calls": "the answer ended in a call of a tool that the server does not have",
}


class AgentConversation:
    """Asks, and asks once more where the answer does not fit the step's schema."""

    def __init__(self, context: AttemptContext, task: AgentTask, link: ServerLink) -> None:
        self._context = context
        self._task = task
        self._link = link
        self._used = Used()
        self._kept = HeadAndTail(context.limits.stdout_characters)
        self._deadline = time.monotonic() + context.timeout_seconds

    async def hold(self) -> AttemptEnd:
        """The end of the attempt, unless its time is over before.

        Raises:
            AgentCallError: the server did not answer, or with an error.
            StepSetupError: the schema cannot be used.
        """
        schema, turns = self._task.output_schema, self._task.budget.turns
        if schema is None:
            return self._judged(await self._ask(self._request(), turns, self._task.tools))
        check_schema(schema)
        # One turn is kept for the repair, which needs no tools.
        can_repair = turns > 1
        request, answer = await self._ask_in_any_form(schema, turns - 1 if can_repair else turns)
        if can_repair and _fault_of(answer) is None:
            try:
                read_answer(answer.text, schema)
            except AnswerFaultsError as faults:
                answer = await self._ask(_repair(request, answer, str(faults), schema), 1, ())
        return self._judged(answer, schema)

    def ended(self, status: Status, error: str | None, **outputs: object) -> AttemptEnd:
        """The end of the attempt, with what there is of an answer."""
        text, masker = self._kept.text(), self._context.masker
        return AttemptEnd(
            status,
            {"stdout": text, "text": text, "usage": self._used.as_output(), **outputs},
            error=None if error is None else masker.mask(error),
        )

    def _judged(
        self, answer: AgentAnswer, schema: Mapping[str, object] | None = None
    ) -> AttemptEnd:
        text = self._context.masker.mask(answer.text)
        self._context.log.add(text, self._kept)
        self._kept.add(text)
        if fault := _fault_of(answer):
            return self.ended("failed", fault)
        if schema is None:
            return self.ended("success", None)
        if self._kept.is_truncated:
            most = self._context.limits.stdout_characters
            return self.ended("failed", f"the answer is over {most} characters; ask for less")
        try:
            value = read_answer(answer.text, schema)
        except AnswerFaultsError as faults:
            return self.ended("failed", f"the answer does not fit `output_schema`:\n{faults}")
        return self.ended("success", None, json=self._context.masker.mask_json(value))

    def _request(self, schema: Mapping[str, object] | None = None) -> AgentRequest:
        task = self._task
        system = [{"role": "system", "content": task.system}] if task.system else []
        wanted = response_format(self._context.spec.step.name, schema) if schema else None
        messages = (*system, {"role": "user", "content": task.prompt})
        return AgentRequest(_model_of(task), messages, wanted, self._context.spec.trace)

    async def _ask_in_any_form(
        self, schema: Mapping[str, object], turns: int
    ) -> tuple[AgentRequest, AgentAnswer]:
        """What was asked, and the answer: in words, where the model's provider takes no schema."""
        request = self._request(schema)
        try:
            return request, await self._ask(request, turns, self._task.tools)
        except AgentCallError as error:
            if not (error.param or "").startswith("response_format"):
                raise
        in_words = {"role": "system", "content": instruction(schema)}
        messages = (*request.messages[:-1], in_words, request.messages[-1])
        request = replace(request, messages=messages, response_format=None)
        return request, await self._ask(request, turns, self._task.tools)

    async def _ask(self, request: AgentRequest, turns: int, tools: Sequence[str]) -> AgentAnswer:
        spec, budget = self._context.spec, self._task.budget
        left = budget.tokens - self._used.total
        if left < 1:
            raise AgentCallError(
                f"the step has used {self._used.total} of its {budget.tokens} tokens before its"
                " answer was right; raise `budget.tokens`, or ask for less"
            )
        seconds = max(1.0, self._deadline - time.monotonic())
        claims = RunClaims(
            owner=spec.owner,
            run_id=spec.run_id,
            step=spec.place,
            depth=spec.depth + 1,
            tokens=left,
            turns=turns,
            tools=tuple(tools),
            expires_at=expiry(time.time(), seconds),
        )
        answer = await call_server(self._link, request, claims)
        self._used += answer.used
        return answer


def _model_of(task: AgentTask) -> str:
    """The name by which the server knows who is to answer."""
    if task.model is None:
        return AGENT_MODEL
    is_agent = task.model.partition(":")[0] in AGENT_NAMES
    return f"{AGENT_MODEL}:{task.model}" if task.tools and not is_agent else task.model


def _repair(
    request: AgentRequest, answer: AgentAnswer, faults: str, schema: Mapping[str, object]
) -> AgentRequest:
    said = (
        {"role": "assistant", "content": answer.text},
        {"role": "user", "content": repair_request(faults, schema)},
    )
    return replace(request, messages=(*request.messages, *said))


def _fault_of(answer: AgentAnswer) -> str | None:
    """Why an answer is none."""
    if answer.refusal:
        return f"the model refused: {answer.refusal[:500]}"
    return _FAULTY_ENDS.get(answer.finish_reason)
