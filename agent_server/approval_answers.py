"""What a client says about approvals: the words of a chat, and the parts of AI SDK 6 and 7.

Only who decides what, and why, is read. What a client says about the call itself is not: what is
approved is what the run recorded when it asked.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from providers.chat_request import Message
from streaming.approval_words import APPROVAL_TOOL
from streaming.events import JsonObject, JsonValue

MAX_DECISIONS: Final = 50
MAX_REASON_CHARACTERS: Final = 2_000
_MAX_CHARACTERS: Final = 20_000
_RUN: Final = r"(?P<run>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
_STEP: Final = r"(?P<step>[A-Za-z][A-Za-z0-9_-]{0,63}(?:\[[0-9]{1,4}\])?(?:@[0-9]{1,4})?)"
_APPROVAL: Final = re.compile(f"{_RUN}/{_STEP}")
_COMMAND: Final = re.compile(
    rf"`?(?P<verb>approve|reject)\s+`?{_RUN}/{_STEP}`?(?:[.!]|:?\s+(?P<reason>\S.*?))?`?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """What somebody says to one approval."""

    run_id: str
    step: str
    approved: bool
    reason: str = ""

    @property
    def approval_id(self) -> str:
        """`<run>/<step>`."""
        return f"{self.run_id}/{self.step}"


def written_answers(messages: Sequence[Message]) -> tuple[ApprovalAnswer, ...]:
    """The decisions that the newest message is, if it is the user's, typed, and nothing else.

    Each of its lines is `approve <run>/<step>` or `reject <run>/<step>`, in any case, with a
    reason behind it or none, in back-quotes or without.
    """
    if not messages or messages[-1].role != "user" or not messages[-1].is_typed:
        return ()
    text = messages[-1].typed_text.strip()
    if len(text) > _MAX_CHARACTERS:
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [_COMMAND.fullmatch(line) for line in lines[: MAX_DECISIONS + 1]]
    if not found or len(found) > MAX_DECISIONS:
        return ()
    answers = [
        ApprovalAnswer(
            match["run"],
            match["step"],
            match["verb"].lower() == "approve",
            (match["reason"] or "")[:MAX_REASON_CHARACTERS],
        )
        for match in found
        if match is not None
    ]
    return tuple(answers) if len(answers) == len(lines) else ()


def clicked_answers(body: JsonObject) -> tuple[ApprovalAnswer, ...]:
    """The decisions in the newest message of a body of useChat, where that is the assistant's.

    Source: Vercel AI SDK 6 and 7, `addToolApprovalResponse`: a tool part in the state
    `approval-responded` with `approval: {id, approved, reason}`, 2026-11.
    """
    messages = body.get("messages")
    newest = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(newest, dict) or newest.get("role") != "assistant":
        return ()
    return tuple(_clicked(newest))[:MAX_DECISIONS]


def knows_approval_parts(body: JsonObject) -> bool:
    """Whether a client is of AI SDK 6 or later for sure: it sends parts that no older one has."""
    messages = body.get("messages")
    return isinstance(messages, list) and any(
        "approval" in part
        for message in messages
        if isinstance(message, dict)
        for part in _parts(message)
    )


def _clicked(message: JsonObject) -> Iterator[ApprovalAnswer]:
    for part in _parts(message):
        approval = part.get("approval")
        if part.get("state") != "approval-responded" or part.get("toolName") != APPROVAL_TOOL:
            continue
        if not isinstance(approval, dict) or not isinstance(approval.get("approved"), bool):
            continue
        named = _APPROVAL.fullmatch(str(approval.get("id")))
        if named is not None:
            reason = approval.get("reason")
            yield ApprovalAnswer(
                named["run"],
                named["step"],
                approval["approved"] is True,
                reason[:MAX_REASON_CHARACTERS] if isinstance(reason, str) else "",
            )


def _parts(message: JsonObject) -> list[dict[str, JsonValue]]:
    parts = message.get("parts")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
