"""Documents: the text of a workflow, YAML 1.2 or JSON, as plain data.

Scalars follow YAML 1.2's core schema (YAML 1.2.2, section 10.3.2): only `true` and `false` are
booleans, `1:30` and dates are text. What makes a document mean something else than it shows is
refused: duplicate keys, anchors, aliases, tags, merge keys; so is what makes it costly to read:
over 256 KiB, over 24 levels.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import TypeAlias

import yaml

from workflow_backend.definition.problems import InvalidWorkflowError, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24

Source: TypeAlias = str | Mapping[str, object]

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
_PREFIXED = re.compile(r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(source: Source) -> dict[str, object]:
    """The document as a mapping of plain data: dict, list, str, int, float, bool, None.

    `source` is YAML or JSON text, which may stand in one Markdown fence, or an object already read.

    Raises:
        InvalidWorkflowError: With one problem that names the line, or the path in an object.
    """
    if not isinstance(source, str):
        return _checked_object(source)
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _refused(
            "", f"the text is over {MAX_BYTES // 1024} KiB.", "Move data into files or inputs."
        )
    text = _without_fence(source)
    data = _read_json(text) if text.lstrip().startswith("{") else _read_yaml(text)
    if not isinstance(data, dict):
        raise _refused(
            "",
            f"the document is {_kind(data)}, not a mapping.",
            "Begin with `name:` and `steps:` at the top level.",
        )
    return data


def _without_fence(source: str) -> str:
    """The text between a Markdown fence's lines, if there is one around it."""
    text = source.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3]
    return source


def _read_json(text: str) -> object:
    """A document that begins like JSON; if it is none, it may still be YAML's flow style."""
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        try:
            return _read_yaml(text)
        except InvalidWorkflowError:
            place = f"line {error.lineno}, column {error.colno}"
            raise _refused(place, f"this is not JSON: {error.msg}.", "Mend the JSON.") from error
    except RecursionError as error:
        raise _too_deep("") from error
    except ValueError as error:
        raise _refused("", f"this is not plain JSON: {str(error)[:200]}", "Mend it.") from error
    return _checked(data, "", 0)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        if key in members:
            raise _duplicate("", key)
        members[key] = value
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number.")


def _checked_object(source: Mapping[str, object]) -> dict[str, object]:
    data = _checked(source, "", 0)
    if not isinstance(data, dict):
        raise _refused("", "the workflow is no object.", "Send an object or YAML text.")
    try:
        size = len(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise _refused("", "the object holds a number that is not finite.", "Remove it.") from error
    if size > MAX_BYTES:
        raise _refused("", f"the object is over {MAX_BYTES // 1024} KiB.", "Move data into files.")
    return data


def _checked(value: object, path: str, depth: int) -> object:
    """A copy of the value as plain data, if it is no deeper than allowed."""
    if depth > MAX_DEPTH:
        raise _too_deep(path)
    if isinstance(value, Mapping):
        members = {}
        for key, member in value.items():
            if not isinstance(key, str):
                raise _refused(path, f"the key {key!r:.40} is no text.", "Put it in quotes.")
            _check_characters(key, path)
            members[key] = _checked(member, f"{path}.{key}" if path else key, depth + 1)
        return members
    if isinstance(value, (list, tuple)):
        return [_checked(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(path, "the number is not finite.", "Write a finite number.")
    if isinstance(value, str):
        _check_characters(value, path)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise _refused(path, f"{type(value).__name__} is no JSON value.", "Write it as text.")


def _check_characters(text: str, path: str) -> None:
    """Refuse what JSON can escape and no file can hold: half of a surrogate pair."""
    if _SURROGATE.search(text):
        raise _refused(path, "the text holds half of a surrogate pair.", "Write it as UTF-8.")


class _Builder:
    """Builds the data from the parser's events, one container at a time, without recursion."""

    def __init__(self) -> None:
        self.root: object = None
        self._open: list[dict[str, object] | list[object]] = []
        self._keys: list[str | None] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Take the parser's next event."""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused(
                _place(event), "anchors and aliases (`&x`, `*x`) are not read.", "Repeat the value."
            )
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refused(_place(event), "tags (`!!type`) are not read.", "Write plain values.")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _refused(_place(event), "there is a second document.", "Send one workflow.")
        elif isinstance(event, yaml.ScalarEvent):
            self._add(event, plain_scalar(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin(event, [])
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()
            self._keys.pop()

    def _begin(self, event: yaml.Event, container: dict[str, object] | list[object]) -> None:
        self._add(event, container)
        if len(self._open) >= MAX_DEPTH:
            raise _too_deep(_place(event))
        self._open.append(container)
        self._keys.append(None)

    def _add(self, event: yaml.Event, value: object) -> None:
        if not self._open:
            self.root = value
            return
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
            return
        key = self._keys[-1]
        if key is not None:
            container[key] = value
            self._keys[-1] = None
            return
        if not isinstance(event, yaml.ScalarEvent) or event.value == "<<":
            raise _refused(_place(event), "a key is no plain text.", "Write keys as words.")
        if event.value in container:
            raise _duplicate(_place(event), event.value)
        self._keys[-1] = event.value


def _read_yaml(text: str) -> object:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refused(place, f"this is not YAML: {what}.", _yaml_fix(what)) from error
    except (yaml.YAMLError, ValueError) as error:
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise _refused("", f"this is not YAML: {what}.", "Send UTF-8 text.") from error
    return builder.root


def plain_scalar(text: str) -> object:
    """What an unquoted scalar means in the core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if len(text) <= 300 and _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _yaml_fix(what: str) -> str:
    if "cannot start any token" in what or "mapping values are not allowed" in what:
        return (
            "Indent with spaces, and quote a value that holds `: `, `#`, `@`, `%` or a back-quote."
        )
    return "Quote the value, or write a longer text as a block with `|`."


def _place(event: yaml.Event) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    return {"list": "a list", "str": "a plain text"}.get(type(value).__name__, "a single value")


def _duplicate(place: str, key: str) -> InvalidWorkflowError:
    return _refused(
        place or key[:80], f"the key `{key[:80]}` is there twice.", "Keep one of the two."
    )


def _too_deep(place: str) -> InvalidWorkflowError:
    return _refused(place, f"the data is nested over {MAX_DEPTH} levels.", "Flatten it.")


def _refused(path: str, reason: str, fix: str) -> InvalidWorkflowError:
    return InvalidWorkflowError([Problem(path, reason, fix)])
