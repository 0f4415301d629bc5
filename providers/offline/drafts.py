"""A list of things to do, written as a workflow: each item one step, one after the other."""

import re
import unicodedata

from providers.offline.actions import action_step
from providers.offline.request_items import RequestItem, RequestList
from streaming.events import JsonObject, JsonValue

_MAX_NAME = 40
# A name is made of no more: placeholders in a longer text would be looked for quadratically.
_MAX_READ = 1_000
_PLACEHOLDER = re.compile(r"\{[^}]*\}|<[^>]*>|\$\{\{.*?\}\}")
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_NOT_IN_NAME = re.compile(r"[^a-z0-9]+")


def draft_workflow(found: RequestList) -> JsonObject:
    """The workflow of a list; an item that nobody has a command for becomes `needs_command`."""
    steps: list[JsonValue] = []
    names: list[str] = []
    for item in found.items:
        name = _unique(_step_name(item), names)
        step: JsonObject = {"name": name, "description": _one_line(item.text), **_action(item)}
        if names:
            step["depends"] = [names[-1]]
        names.append(name)
        steps.append(step)
    workflow: JsonObject = {"version": 1, "name": _workflow_name(found, names)}
    if found.description:
        workflow["description"] = _one_line(found.description)
    if found.runner:
        workflow["runner"] = found.runner
    return {**workflow, "steps": steps}


def slug(text: str, *, fallback: str) -> str:
    """A name of at most 40 lower-case letters, digits, hyphens; `{placeholders}` are left out."""
    letters = unicodedata.normalize("NFKD", _PLACEHOLDER.sub("", text[:_MAX_READ]))
    ascii_only = letters.encode("ascii", "ignore").decode().lower()
    plain = _NOT_IN_NAME.sub("-", ascii_only).strip("-")
    if len(plain) > _MAX_NAME:
        plain = plain[: _MAX_NAME + 1].rpartition("-")[0] or plain[:_MAX_NAME]
    return plain if plain and plain[0].isalpha() else f"{fallback}-{plain}".rstrip("-")[:_MAX_NAME]


def _workflow_name(found: RequestList, steps: list[str]) -> str:
    if found.name:
        return slug(found.name, fallback="workflow")
    return steps[0] if len(steps) == 1 else f"{steps[0]}-and-more"


def _step_name(item: RequestItem) -> str:
    """The item's words without its command, or the command where there are no other words."""
    words = _INLINE_CODE.sub("", item.text)
    return slug(words if re.search(r"\w", words) else item.text, fallback="step")


def _action(item: RequestItem) -> JsonObject:
    if item.python is not None:
        return {"python": item.python}
    if item.command is not None:
        return {"run": item.command}
    return action_step(item.text) or {"needs_command": _one_line(item.text)}


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:500]


def _unique(name: str, taken: list[str]) -> str:
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique
