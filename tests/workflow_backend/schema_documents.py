"""Documents made of a JSON Schema: such that fit it, such that nearly do, and such that are mended.

A small generator for what our own schema uses; the words are chosen so that a good part of the
documents means something. What is still faulty can be mended by what is said of each fault.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from workflow_backend.definition import check_definition

NAMES = ("a", "b", "c-d", "E_1", "build")
DURATIONS = ("1s", "5m", "1h30m", "500ms", "2d")
EXPRESSIONS = (
    "${{ inputs.a }}", "${{ inputs.b }} and ${{ run.id }}", "${{ steps.a.outputs.stdout }}",
    "${{ steps.b.status }}", "${{ item }}", "${{ item.a }}-${{ index }}", "${{ env.A }}",
    "${{ secrets.K }}", "$${{ literal", "${{ steps.a.outputs.json.x }}", "${{ run.error }}",
    "${{ [1, 2].map(x, x * 2) }}", "${{ steps.size() }}",
)  # fmt: skip
CONDITIONS = (
    "always()", "failure()", "success() && inputs.a != ''", "steps.a.status == 'success'",
    "steps.a.outputs.stdout == 'ok'", "inputs.b > 1", "true", "steps.b.outputs.approved",
    "run.status == 'failed'", "size(inputs) < 9", "steps.c.attempts >= 0",
)  # fmt: skip
WORDS = ("x", "ls", "a text", "line\nline\n", "", " ", "1", "no", "é\u2028", *EXPRESSIONS)
LISTS = ("${{ inputs.a }}", "${{ [1, 2] }}", "${{ steps.a.outputs.items }}", "${{ ['a'] }}")

# Words for the texts of some keys; the others take any.
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "depends": NAMES, "if": CONDITIONS, "until": CONDITIONS, "ref": NAMES,
    "run": ("ls", "echo 1", "cat /etc/x"), "python": ("print(1)", "pass"),
    "url": ("https://example.com/x", "http://h/${{ inputs.a }}", "${{ inputs.a }}"),
    "cron": ("0 6 * * *", "*/5 1-3 * * mon", "61 * * * *"),
    "timezone": ("UTC", "Europe/Berlin", "Mars"), "image": ("alpine",),
    "group": ("g", "g-${{ inputs.a }}"), "artefacts": ("out/*", "a.txt", "../x"),
    "tools": ("list_runs", "server__tool"), "runner": ("local",),
    "prompt": ("Do it", "Sum up ${{ inputs.a }}"), "message": ("Go?", "${{ inputs.a }}?"),
}  # fmt: skip
# Steps that belong together in a way that chance seldom finds.
_USUAL: tuple[dict[str, Any], ...] = (
    {"workflow": {"inputs": {"a": "${{ steps.a.outputs.stdout }}"}}},
    {"workflow": {}, "foreach": ["x", "y"], "continue_on_error": True},
    {"run": "ls", "foreach": "${{ [1, 2, 3] }}", "env": {"A": "${{ item }} ${{ index }}"}},
    {"run": "ls", "matrix": {"a": [1, 2], "b": ["${{ inputs.a }}"]}, "env": {"A": "${{ item.a }}"}},
    {"run": "ls", "if": "steps.a.status == 'success' || failure()", "retry": {"limit": 2}},
    {"wait": {"webhook": True, "timeout": "1m", "on_timeout": "skip"}},
    {"approval": {"message": "${{ inputs.a }}?", "form": {"a": {}}, "timeout": "1h"}},
    {"python": "pass", "repeat": {"until": "size(inputs) > 9", "limit": 3}},
    {"agent": {"prompt": "${{ steps.a.status }}"}, "foreach": "${{ steps.a.outputs.items }}"},
    {"run": "ls", "env": {"A": "${{ run.status }} ${{ run.error }}", "K": "${{ secrets.K }}"}},
)
# Bounds of numbers that cost time when they are large.
_SMALL = {"limit": 3, "tokens": 100, "turns": 3}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)


class Generator:
    """Strategies for the values that a schema allows."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._known: dict[str, st.SearchStrategy[Any]] = {}

    def documents(self) -> st.SearchStrategy[Any]:
        """Documents that the schema accepts."""
        return self._of(self._schema, "")

    def part(self, name: str) -> st.SearchStrategy[Any]:
        """Values that the part of the schema with this name accepts."""
        return self._of(self._schema["$defs"][name], "")

    def _of(self, schema: Mapping[str, Any], key: str) -> st.SearchStrategy[Any]:
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            if name not in self._known:
                self._known[name] = self._of(self._schema["$defs"][name], key)
            return self._known[name]
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if "anyOf" in schema:
            return st.one_of([self._of(choice, key) for choice in schema["anyOf"]])
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return st.one_of([self._of({**schema, "type": kind}, key) for kind in kinds])
        return _MAKERS[kinds](self, schema, key) if kinds in _MAKERS else JSON

    def _object(self, schema: Mapping[str, Any], _key: str) -> st.SearchStrategy[Any]:
        if "properties" not in schema:
            return self._mapping(schema, _key)
        parts = {name: self._of(member, name) for name, member in schema["properties"].items()}
        choices = schema.get("oneOf")
        if choices is None:
            return self._fixed(parts, set(schema.get("required", ())))
        named = {name for choice in choices for name in choice["required"]}
        return st.one_of(
            [
                self._fixed(
                    {
                        name: part
                        for name, part in parts.items()
                        if name not in named - set(choice["required"])
                    },
                    {*schema.get("required", ()), *choice["required"]},
                ).filter(lambda value, names=tuple(choice["required"]): value[names[0]] is not None)
                for choice in choices
            ]
        )

    def _fixed(
        self, parts: Mapping[str, st.SearchStrategy[Any]], required: set[str]
    ) -> st.SearchStrategy[dict[str, Any]]:
        """Objects with some of the properties; a few are enough to see what goes together."""
        needed = {name: part for name, part in parts.items() if name in required}
        others = {name: part for name, part in parts.items() if name not in required}
        if not others:
            return st.fixed_dictionaries(needed)
        often = [name for name in ("on_failure", "finally") if name in others] * 4
        chosen = st.lists(st.sampled_from([*sorted(others), *often]), max_size=4, unique=True)
        return chosen.flatmap(
            lambda names: st.fixed_dictionaries(
                {**needed, **{name: others[name] for name in names}}
            )
        )

    def _mapping(self, schema: Mapping[str, Any], key: str) -> st.SearchStrategy[Any]:
        members = schema.get("additionalProperties")
        values = self._of(members, key) if isinstance(members, dict) else JSON
        names = ("a", "b", "build") if key == "workflows" else ("a", "b", "A")
        least = schema.get("minProperties", 0)
        return st.dictionaries(st.sampled_from(names), values, min_size=least, max_size=3)

    def _array(self, schema: Mapping[str, Any], key: str) -> st.SearchStrategy[Any]:
        least = schema.get("minItems", 0)
        items = self._of(schema["items"], key) if schema["items"] else JSON
        return st.lists(items, min_size=least, max_size=max(least, 4 if key == "steps" else 2))

    def _string(self, schema: Mapping[str, Any], key: str) -> st.SearchStrategy[str]:
        if "pattern" not in schema:
            return st.sampled_from(_TEXTS.get(key, WORDS)) | st.text(max_size=4)
        known = [*DURATIONS, *NAMES, *LISTS, "K", "list_runs"]
        return st.sampled_from([text for text in known if re.search(schema["pattern"], text)])

    def _integer(self, schema: Mapping[str, Any], key: str) -> st.SearchStrategy[int]:
        low = schema.get("minimum", -5)
        high = min(schema.get("maximum", low + 300), low + _SMALL.get(key, 300))
        return st.integers(low, high)

    def _number(self, schema: Mapping[str, Any], _key: str) -> st.SearchStrategy[float]:
        low = schema.get("minimum", -5.0)
        return st.floats(low, schema.get("maximum", low + 10.0))


_MAKERS: dict[object, Any] = {
    "object": Generator._object,
    "array": Generator._array,
    "string": Generator._string,
    "integer": Generator._integer,
    "number": Generator._number,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
}


@st.composite
def joined(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> Any:
    """A document whose steps have names of their own, wait for each other, and call workflows."""
    document = copy.deepcopy(draw(documents))
    if not document.get("workflows"):
        document["workflows"] = {"build": {"steps": [{"name": "a", "run": "ls"}]}}
    refs = sorted(document["workflows"])
    for body in (document, *document["workflows"].values()):
        body["inputs"] = {"b": {"type": "integer"}, **(body.get("inputs") or {}), "a": {}}
        names = iter([*NAMES, *(f"s{number}" for number in range(50))])
        for part in ("steps", "on_failure", "finally"):
            before: list[str] = []
            for index, made in enumerate(body.get(part, ())):
                step = made
                if draw(st.integers(0, 3)) == 3:
                    body[part][index] = step = copy.deepcopy(draw(st.sampled_from(_USUAL)))
                step["name"] = next(names)
                if before:
                    others = draw(st.lists(st.sampled_from(before), max_size=2))
                    step["depends"] = [before[0], *others]
                before.append(step["name"])
                if step.get("workflow") is not None:
                    step["workflow"]["ref"] = draw(st.sampled_from(refs))
    return document


@st.composite
def mutated(draw: st.DrawFn, documents: st.SearchStrategy[Any], least: int = 1) -> Any:
    """A document with some of its values replaced, taken out, or put under other keys."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(least, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["replace", "empty", "remove", "rename", "nest"]))
        if kind == "replace" or (kind == "rename" and isinstance(holder, list)):
            holder[key] = draw(JSON)
        elif kind == "empty":
            value = holder[key]
            holder[key] = -1 if isinstance(value, (int, float)) else type(value or "")()
        elif kind == "remove":
            del holder[key]
        elif kind == "nest":
            holder[key] = draw(st.sampled_from([[holder[key]], {"a": holder[key]}]))
        else:
            holder[draw(st.sampled_from(["rum", "needs", "name", "with", "x", "", *NAMES]))] = (
                holder.pop(key)
            )
    return document


def _places(node: Any) -> Any:
    members = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(members):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def mended(document: dict[str, Any], rounds: int = 12) -> dict[str, Any] | None:
    """The document without what its problems name; None if it cannot be mended so.

    Every problem has to name a place that is there, or would be.
    """
    document = copy.deepcopy(document)
    for _ in range(rounds):
        problems = check_definition(document).problems
        if not problems:
            return document
        for problem in problems:
            if not problem.path:
                return None
            _mend(document, problem.path)
    return None


def _mend(document: dict[str, Any], path: str) -> None:
    """Take the value at the path out, or put in its place what is right for sure."""
    node: Any = document
    while True:
        step = _next(node, path)
        if step is None:
            return
        key, path = step
        if not path:
            break
        node = node[key]
    if isinstance(key, int) and isinstance(node[key], dict) and "name" in node[key]:
        node[key] = {"name": str(node[key]["name"]), "run": "ls"}
    elif key == "name":
        node[key] = f"s{id(node) % 10_007}"
    elif key in _SAFE:
        node[key] = _SAFE[key]
    elif isinstance(node, list):
        node[:] = [item for at, item in enumerate(node) if at != key]
    else:
        node.pop(key, None)
    if node.get("workflow", 0) is None if isinstance(node, dict) else False:
        node["run"] = "ls"


def _next(node: Any, path: str) -> tuple[Any, str] | None:
    """The key of the node that the path begins with, and what is left of the path."""
    if found := re.match(r"\[(\d+)\]\.?", path):
        index = int(found.group(1))
        is_there = isinstance(node, list) and index < len(node)
        return (index, path[found.end() :]) if is_there else None
    if not isinstance(node, dict):
        return None
    for key in sorted(node, key=len, reverse=True):
        shown = re.sub(r"[^\x20-\x7e]", "?", key)[:64]
        for text in (shown, key[:64]):
            rest = path.removeprefix(text)
            if path.startswith(text) and (not rest or rest[0] in ".["):
                return key, rest.removeprefix(".")
    return None


_SAFE: Mapping[Any, Any] = {
    "run": "ls", "python": "pass", "needs_command": "Do it", "message": "Go?", "prompt": "Do it",
    "url": "https://example.com", "cron": "0 6 * * *", "group": "g", "until": "true",
    "image": "alpine", "limit": 1, "wait": {"for": "1s"}, "steps": [{"name": "a", "run": "ls"}],
    "timezone": "UTC",
}  # fmt: skip
