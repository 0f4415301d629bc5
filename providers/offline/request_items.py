"""What a message holds that can become a workflow without a model: a definition, or a list."""

import json
import re
from dataclasses import dataclass, field

from providers.code_blocks import CodeBlock, Prose, split_code_blocks

_DEFINITION_LANGUAGES = frozenset({"", "yaml", "yml", "json"})
_SHELL_LANGUAGES = frozenset({"", "sh", "bash", "shell", "console", "zsh"})
_STEPS_KEY = re.compile(r"(?m)^steps[ \t]*:|^[ \t]*\"steps\"[ \t]*:|^\{.*\"steps\"[ \t]*:")
_YAML_LINE = re.compile(r"(?:[A-Za-z_][\w-]*[ \t]*:(?:[ \t]|$)|[ \t]+\S|- |#|[ \t]*$|---$)")
_NUMBERED = re.compile(r"^(?P<indent>[ \t]*)\d{1,3}[.)][ \t]+(?P<text>\S.*)$")
_BULLETED = re.compile(r"^(?P<indent>[ \t]*)[-*+•][ \t]+(?P<text>\S.*)$")
_SETTING = re.compile(
    r"^[ \t]*(?:[-*+•][ \t]+)?\**(?P<key>name|runner|description|steps)\**[ \t]*:\**"
    r"[ \t]*(?P<value>.*)$",
    re.IGNORECASE,
)
_INLINE = re.compile(r"`([^`\n]+)`")
_ORDERED_CODE = re.compile(
    r"\b(?:run|runs|execute|executes|command|commands|then|and)[ \t]*(?::[ \t]*)?`([^`\n]+)`"
    r"|,[ \t]*`([^`\n]+)`",
    re.IGNORECASE,
)
_ORDERS_CODE = re.compile(r"\b(?:run|execute|commands?)\b[ \t]*(?::[ \t]*)?`", re.IGNORECASE)
_MAX_ITEMS = 200


@dataclass
class RequestItem:
    """One thing to do: its words, and the command or script that was given with it."""

    text: str
    command: str | None = None
    python: str | None = None


@dataclass
class RequestList:
    """A list of things to do, in order, with the settings that stood beside it."""

    items: list[RequestItem] = field(default_factory=list)
    name: str = ""
    runner: str = ""
    description: str = ""


def find_definition(message: str) -> str | None:
    """The text of the last workflow in a message, fenced or bare, exactly as it was written."""
    found: str | None = None
    for part in split_code_blocks(message):
        if isinstance(part, CodeBlock):
            if part.language in _DEFINITION_LANGUAGES and _STEPS_KEY.search(part.text):
                found = part.text
        else:
            found = _bare_json(part.text) or _bare_yaml(part.text) or found
    return found


def find_list(message: str) -> RequestList | None:
    """The list in a message, or the commands that it says to run; None if it has neither."""
    found = RequestList()
    parts = split_code_blocks(message)
    is_numbered = any(
        _NUMBERED.match(line)
        for part in parts
        if isinstance(part, Prose)
        for line in part.text.splitlines()
    )
    marker = _NUMBERED if is_numbered else _BULLETED
    for part in parts:
        if isinstance(part, CodeBlock):
            _add_block(found, part)
        else:
            _add_lines(found, part.text, marker)
    if not found.items:
        found.items = _commands_in_prose(parts)
    found.items = found.items[:_MAX_ITEMS]
    return found if found.items else None


def _add_lines(found: RequestList, text: str, marker: re.Pattern[str]) -> None:
    top_indent: int | None = None
    for line in text.splitlines():
        setting = _SETTING.match(line)
        if setting:
            _set(found, setting["key"].lower(), setting["value"].strip())
            continue
        item = marker.match(line)
        if item is None:
            continue
        indent = len(item["indent"].expandtabs(4))
        top_indent = indent if top_indent is None else min(top_indent, indent)
        # What is indented under an item says more of it, and is no item of its own.
        if indent < top_indent + 2:
            codes = _INLINE.findall(item["text"])
            command = " && ".join(codes) if codes else None
            found.items.append(RequestItem(item["text"].strip(), command))


def _set(found: RequestList, key: str, value: str) -> None:
    if key != "steps" and value:
        setattr(found, key, value)


def _add_block(found: RequestList, block: CodeBlock) -> None:
    """A code block belongs to the item before it."""
    if not found.items or not block.text.strip():
        return
    item = found.items[-1]
    if block.language in ("python", "py"):
        item.python = block.text
    elif block.language in _SHELL_LANGUAGES:
        item.command = block.text


def _commands_in_prose(parts: list[Prose | CodeBlock]) -> list[RequestItem]:
    """Without a list: code blocks, and back-quoted commands that the message says to run."""
    items: list[RequestItem] = []
    for part in parts:
        if isinstance(part, CodeBlock):
            if part.text.strip() and part.language in ("python", "py"):
                items.append(RequestItem("run the script", python=part.text))
            elif part.text.strip() and part.language in _SHELL_LANGUAGES:
                items.append(RequestItem("run the commands", part.text))
        elif _ORDERS_CODE.search(part.text):
            codes = [first or second for first, second in _ORDERED_CODE.findall(part.text)]
            items += [RequestItem(code, code) for code in codes]
    return items


def _bare_json(text: str) -> str | None:
    start = text.find("{")
    if start < 0 or '"steps"' not in text:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return text[start:end] if isinstance(value, dict) and "steps" in value else None


def _bare_yaml(text: str) -> str | None:
    """The lines around a bare `steps:` that look like YAML."""
    lines = text.splitlines()
    place = next((i for i, line in enumerate(lines) if re.match(r"steps[ \t]*:", line)), None)
    if place is None:
        return None
    first = place
    while first > 0 and lines[first - 1].strip() and _YAML_LINE.match(lines[first - 1]):
        first -= 1
    last = place
    while last + 1 < len(lines) and _YAML_LINE.match(lines[last + 1]):
        last += 1
    return "\n".join(lines[first : last + 1]).strip("\n")
