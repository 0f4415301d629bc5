"""How people decide an approval in a chat, and by what the AI SDK's clients know one.

Source of the second: Vercel AI SDK 6 and 7, "Human-in-the-loop", 2026-11.
"""

from collections.abc import Mapping
from typing import Final

from streaming.events import JsonValue

# The tool that a client shows as asking; no model has it, and nobody calls it.
APPROVAL_TOOL: Final = "workflow_approval"
_CALL_PREFIX: Final = "approval:"


def approval_id_of(event: Mapping[str, JsonValue]) -> str:
    """`<run>/<step>`, which names the approval that an event is about."""
    given = event.get("approval_id")
    if isinstance(given, str):
        return given
    return f"{event.get('run_id', '')}/{event.get('step', '')}"


def decide_words(approval_id: str) -> str:
    """What a person writes to decide."""
    return f"write `approve {approval_id}` or `reject {approval_id}`"


def approval_call_id(approval_id: str) -> str:
    """The id of the tool call by which a client shows the approval: always the same."""
    return f"{_CALL_PREFIX}{approval_id}"
