"""`agent` steps: a task for a model, asked through the server that this backend belongs to.

Guarantee: every call carries a token of its own that is good for this attempt, for the owner of the
run, for what is left of the budget, and for the tools that the step names; no output, event, log or
error holds it. An attempt that ends, by its time or by a cancel, ends its call, and with that the
server ends the answer and whatever it had begun.

The budget is that of one attempt: a step that is tried again may use it again.
"""

import asyncio

from streaming.run_tokens import MAX_DEPTH
from workflow_backend.steps.agent_call import AgentCallError
from workflow_backend.steps.agent_conversation import AgentConversation
from workflow_backend.steps.attempt import AttemptContext, AttemptEnd, cancelled
from workflow_backend.steps.run_folder import StepSetupError
from workflow_backend.steps.server_link import NO_SERVER, ServerLink


class AgentRunner:
    """Runs the `agent` steps of one engine. Without a link each of them fails, and says why."""

    def __init__(self, link: ServerLink | None) -> None:
        self._link = link

    async def run(self, context: AttemptContext) -> AttemptEnd:
        """One attempt at an `agent` step. A cancelled task gets its end as well."""
        task = context.spec.step.agent
        if task is None:
            raise StepSetupError("the step has no `agent`")
        if self._link is None:
            raise StepSetupError(NO_SERVER)
        if context.spec.depth >= MAX_DEPTH:
            raise StepSetupError(
                f"this run stands below {context.spec.depth} agents, of which each was started by"
                f" the one above, and {MAX_DEPTH} are the most; let an agent's workflow have no"
                " agent steps"
            )
        conversation = AgentConversation(context, task, self._link)
        try:
            async with asyncio.timeout(context.timeout_seconds):
                return await conversation.hold()
        except TimeoutError:
            return conversation.ended("timed_out", context.timed_out)
        except asyncio.CancelledError as reason:
            return conversation.ended("cancelled", cancelled(reason))
        except AgentCallError as error:
            return conversation.ended("failed", str(error))
