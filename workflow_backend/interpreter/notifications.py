"""Messages about a run: attempts of their own, made beside it, repeated until one is taken."""

import asyncio
from collections.abc import Mapping

from workflow_backend.definition.actions import HttpRequest
from workflow_backend.definition.control import Notification, NotifyOn, RetryPolicy
from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.model import Step
from workflow_backend.engines.base import AttemptSpec, RunEvent
from workflow_backend.events import bounded_outputs
from workflow_backend.interpreter.context import Place, RunContext
from workflow_backend.rendered_texts import escape_json
from workflow_backend.rendering import ExpressionError
from workflow_backend.retries import delay_seconds
from workflow_backend.step_state import RunStatus

# Eight attempts over about two minutes.
RETRIES = RetryPolicy(limit=7, interval="1s", backoff=2.0, max_interval="1m")
ATTEMPT_TIMEOUT = "15s"
_ENDS: Mapping[RunStatus, NotifyOn] = {
    "success": "success",
    "failed": "failed",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
}


def notify_of_end(
    context: RunContext, status: RunStatus, error: str | None, outputs: Mapping[str, object]
) -> None:
    """Begin to tell what the run has come to; `RunContext.deliveries` end when that is done."""
    message = {"status": status, "error": error, "outputs": bounded_outputs(outputs)}
    _notify(context, _ENDS[status], "end", message)


def notify_of_approval(context: RunContext, place: Place, requested: RunEvent) -> None:
    """Begin to tell that a person is asked."""
    message = {
        name: requested[name]
        for name in ("step", "message", "form", "approval_id")
        if name in requested
    }
    _notify(context, "approval", f"approval:{place.key}", message)


def _notify(context: RunContext, on: NotifyOn, about: str, message: Mapping[str, object]) -> None:
    body: dict[str, object] = {
        "type": "approval.requested" if on == "approval" else "run.ended",
        "run_id": context.run_id,
        "workflow": context.workflow.name,
        **message,
    }
    for index, notification in enumerate(context.workflow.notify):
        if on in notification.on:
            instance = f"notify[{index}]:{about}"
            task = asyncio.create_task(_deliver(context, notification, instance, body))
            context.deliveries.append(task)


async def _deliver(
    context: RunContext, notification: Notification, instance: str, body: Mapping[str, object]
) -> None:
    """Make attempts until one is taken; what becomes of them changes nothing about the run."""
    try:
        url = context.renderer.own_text(notification.url)
    except ExpressionError:
        return
    request = HttpRequest(
        url=url,
        method="POST",
        headers={"webhook-id": f"{context.run_id}.{instance}"},
        json=escape_json(body),
    )
    step = Step(name="notify", http=request, retry=RETRIES)
    attempt = 0
    while True:
        attempt += 1
        spec = AttemptSpec(
            run_id=context.run_id,
            step=step,
            attempt=attempt,
            secrets=(notification.secret,) if notification.secret else (),
            timeout_seconds=parse_duration(ATTEMPT_TIMEOUT),
            retries_left=RETRIES.limit - (attempt - 1),
            instance=instance,
            owner=context.owner,
            depth=context.depth,
            trace=context.trace,
            sign_with=notification.secret,
            is_hidden=True,
        )
        result = await context.runtime.attempt(spec)
        if not result.will_retry:
            return
        delay = delay_seconds(RETRIES, attempt)
        await context.runtime.sleep(f"{instance}#{attempt}:sleep", delay)
