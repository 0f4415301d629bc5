"""Parameters of other formats as inputs, in every form that they may have."""

import shlex
from collections.abc import Mapping

from workflow_backend.definition.importers.notes import Fields, Notes, scalar_text
from workflow_backend.definition.importers.references import is_fully_literal, references_in
from workflow_backend.definition.importers.scope import Scope

_TYPES = {
    "string": "string", "str": "string", "text": "string", "integer": "integer", "int": "integer",
    "number": "number", "float": "number", "boolean": "boolean", "bool": "boolean",
    "array": "array", "list": "array", "object": "object", "json": "object",
}  # fmt: skip
_SPEC_KEYS = frozenset({
    "default", "type", "required", "description", "enum", "options", "pattern", "minimum",
    "maximum", "eval", "name", "value", "min_length", "max_length",
})  # fmt: skip


def read_parameters(value: object, path: str, scope: Scope) -> None:
    """Declare the inputs of a `params` or `inputs`."""
    if isinstance(value, str):
        _read_words(value, path, scope)
    elif isinstance(value, Mapping):
        _read_mapping(value, path, scope)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _read_item(item, f"{path}[{index}]", scope)
    elif value is not None:
        scope.notes.add(path, "this is no list of parameters.")


def words_of(text: str) -> list[tuple[str, str]]:
    """The parameters of a text such as `first ENV=dev`: names ("" for none) and values."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        is_named = bool(equals) and name.replace("_", "").replace("-", "").isalnum()
        found.append((name, value) if is_named else ("", word))
    return found


def _read_words(text: str, path: str, scope: Scope) -> None:
    for name, value in words_of(text):
        _declare(name or _next_position(scope), value, path, scope)


def _read_mapping(given: Mapping[str, object], path: str, scope: Scope) -> None:
    properties = given.get("properties")
    if given.get("type") == "object" and isinstance(properties, Mapping):
        required = given.get("required")
        needed = set(map(str, required)) if isinstance(required, list) else set()
        for name, spec in properties.items():
            fields = spec if isinstance(spec, Mapping) else {}
            given_spec = {**fields, "required": str(name) in needed}
            _declare_spec(str(name), given_spec, f"{path}.properties.{name}", scope)
        return
    if "schema" in given and "values" in given:
        scope.notes.add(f"{path}.schema", "a schema elsewhere is not read.", "It was left out.")
        read_parameters(given["values"], f"{path}.values", scope)
        return
    for name, value in given.items():
        place = f"{path}.{name}"
        if isinstance(value, Mapping) and set(value) <= _SPEC_KEYS:
            _declare_spec(str(name), value, place, scope)
        else:
            _declare(str(name), value, place, scope)


def _read_item(item: object, path: str, scope: Scope) -> None:
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        _declare_spec(item["name"], item, path, scope)
    elif isinstance(item, Mapping):
        _read_mapping(item, path, scope)
    elif isinstance(item, str):
        name, equals, value = item.partition("=")
        is_named = bool(equals) and name.strip().isidentifier()
        if is_named:
            _declare(name.strip(), value, path, scope)
        else:
            _declare(_next_position(scope), item, path, scope)
    elif isinstance(item, (int, float)):
        _declare(_next_position(scope), item, path, scope)
    elif item is not None:
        scope.notes.add(path, "this is no parameter.")


def _declare(name: str, value: object, path: str, scope: Scope) -> None:
    """An input whose default is this value; its type is text, as parameters are."""
    if isinstance(value, (list, Mapping)):
        kind = "array" if isinstance(value, list) else "object"
        _add(name, {"type": kind, "default": value}, path, scope)
        return
    _add(name, _default_spec(scalar_text(value), path, scope.notes), path, scope)


def _default_spec(text: str, path: str, notes: Notes) -> dict[str, object]:
    """The default that a text says, also as `${NAME:-default}`."""
    if is_fully_literal(text):
        return {"default": text}
    references = list(references_in(text))
    if len(references) == 1 and references[0].raw == text.strip():
        default = references[0].default
        if default is not None and is_fully_literal(default):
            notes.add(path, f"`{text[:60]}` reads the environment.", f"It is {default[:40]!r} now.")
            return {"default": default}
        notes.add(path, f"`{text[:60]}` reads the environment.", "The run must give it.")
    else:
        notes.add(path, f"`{text[:60]}` is computed.", "The run must give it.")
    return {"required": True}


def _declare_spec(name: str, given: Mapping[str, object], path: str, scope: Scope) -> None:
    fields = Fields({key: item for key, item in given.items() if key != "name"}, path, scope.notes)
    kind = _TYPES.get(str(fields.take("type") or "string").lower())
    if kind is None:
        fields.note("type", "there is no such type.", "It is `string`.")
    spec: dict[str, object] = {"type": kind or "string"}
    default = fields.take("default", "value")
    if isinstance(default, str) and kind in {None, "string"}:
        spec |= _default_spec(default, fields.at("default", "value"), scope.notes)
    elif default is not None:
        spec["default"] = scalar_text(default) if kind in {None, "string"} else default
    if fields.has("eval"):
        fields.note("eval", "a value is not computed before the run.", "The default counts.")
        fields.take("eval")
    if fields.take("required") is True and "default" not in spec:
        spec["required"] = True
    for key in ("description", "pattern", "minimum", "maximum"):
        if (value := fields.take(key)) is not None:
            spec[key] = value
    options = fields.take("enum", "options")
    if isinstance(options, list):
        spec["enum"] = options
    fields.finish()
    _add(name, spec, path, scope)


def _add(name: str, spec: Mapping[str, object], path: str, scope: Scope) -> None:
    ours = scope.declare_input(name, spec)
    if ours is None:
        scope.notes.add(path, "there are too many inputs.")
    elif ours != name:
        scope.notes.add(path, "the name cannot be used here.", f"The input is called `{ours}`.")


def _next_position(scope: Scope) -> str:
    """The name of the next parameter without one: `1`, `2`, ..."""
    number = 1
    while str(number) in scope.input_names:
        number += 1
    return str(number)
