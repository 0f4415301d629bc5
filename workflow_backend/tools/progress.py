"""Step events as sentences, for hosts that show progress to people as it is."""

from collections.abc import Callable, Mapping

from workflow_backend.definition.plain_text import plain_text

MAX_CHARACTERS = 400


def sentence(event: Mapping[str, object]) -> str:
    """What happened, in one line; `step_output` gives the written text itself."""
    write = _SENTENCES.get(str(event.get("type")))
    text = write(event) if write else str(event.get("type"))
    return plain_text(text, MAX_CHARACTERS).strip()


def _complete(event: Mapping[str, object]) -> str:
    return f"{event.get('step')} completed in {event.get('duration')}"


def _failed(event: Mapping[str, object]) -> str:
    again = "; it will be tried again" if event.get("will_retry") else ""
    return f"{event.get('step')} failed: {event.get('error')}{again}"


def _asked(event: Mapping[str, object]) -> str:
    return f"{event.get('step')} waits for an approval: {event.get('message')}"


def _decided(event: Mapping[str, object]) -> str:
    word = "approved" if event.get("approved") is True else "rejected"
    reason = f": {event['reason']}" if event.get("reason") else ""
    return f"{event.get('step')} {word} by {event.get('by')}{reason}"


def _waits(event: Mapping[str, object]) -> str:
    what = {
        "signal": f"for the signal {event.get('signal')}",
        "webhook": f"for a POST to {event.get('url_path')}",
        "timer": f"until {event.get('expires')}",
    }
    return f"{event.get('step')} waits {what.get(str(event.get('kind')), '')}"


def _ended(event: Mapping[str, object]) -> str:
    error = f": {event['error']}" if event.get("error") else ""
    return f"Workflow {event.get('workflow')}: {event.get('status')}{error}"


_SENTENCES: dict[str, Callable[[Mapping[str, object]], str]] = {
    "workflow_started": lambda event: f"Workflow {event.get('workflow')} started",
    "workflow_complete": _ended,
    "step_queued": lambda event: f"{event.get('step')} waits for a free place",
    "step_running": lambda event: f"{event.get('step')}: {event.get('message')}",
    "step_output": lambda event: str(event.get("text", "")),
    "step_complete": _complete,
    "step_failed": _failed,
    "step_skipped": lambda event: f"{event.get('step')} skipped: {event.get('reason')}",
    "approval_requested": _asked,
    "approval_decided": _decided,
    "wait_started": _waits,
}
