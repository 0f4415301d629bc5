"""The mappings of a workflow whose keys are fixed, and what is meant by a key that is none.

Where such mappings stand is read from the models, so that a new field needs nothing here.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel

from workflow_backend.definition.level_names import LEVELS, MOVES, OTHER_NAMES, PLACES, USELESS
from workflow_backend.definition.problems import Problem, closest, listed

Location: TypeAlias = tuple[str | int, ...]
_Child: TypeAlias = tuple[Literal["one", "list", "map"], type[BaseModel]]

_LEVEL_OF = {model: level for level, model in LEVELS.items()}


def path_text(location: Location) -> str:
    """A place as it is read in YAML: `steps[1].retry.limit`."""
    text = ""
    for name in location:
        if isinstance(name, int):
            text += f"[{name}]"
        else:
            text += ("." if text else "") + re.sub(r"[^\x20-\x7e]", "?", name)[:64]
    return text


def model_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a mapping as they are written, such as `if` rather than `if_`."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def plain_value(value: object) -> str:
    """The value as one would write it in YAML's flow style, cut."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_./:-]{1,80}", value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)[:80]
    except (TypeError, ValueError):
        return "..."


def unknown_keys(data: object) -> Iterator[tuple[Location, Problem, str | None]]:
    """Each key that has no meaning where it stands, and the key that it is renamed to, if any."""
    for location, level, mapping in _mappings(data):
        known = model_keys(LEVELS[level])
        for key in mapping:
            if key in known:
                continue
            place = (*location, key)
            reason, fix, meant = _explain(key, mapping, level, known)
            yield place, Problem(path_text(place), reason, fix), meant


def _mappings(data: object) -> Iterator[tuple[Location, str, Mapping[str, object]]]:
    """Every mapping of the document whose keys are fixed, with its place and level."""
    pending: list[tuple[Location, str, object]] = [((), "workflow", data)]
    while pending:
        location, level, value = pending.pop()
        if not isinstance(value, dict):
            continue
        yield location, level, value
        inner: list[tuple[Location, str, object]] = []
        for key, (shape, model) in _children(LEVELS[level]).items():
            member, place, below = value.get(key), (*location, key), _LEVEL_OF[model]
            if shape == "one":
                inner.append((place, below, member))
            elif shape == "list" and isinstance(member, list):
                inner += [((*place, index), below, item) for index, item in enumerate(member)]
            elif shape == "map" and isinstance(member, dict):
                inner += [((*place, name), below, item) for name, item in member.items()]
        pending += reversed(inner)


@functools.cache
def _children(model: type[BaseModel]) -> Mapping[str, _Child]:
    """The keys under which further mappings with fixed keys stand."""
    found = {}
    for name, field in model.model_fields.items():
        if child := _child(field.annotation):
            found[field.alias or name] = child
    return found


def _child(annotation: object) -> _Child | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "one", annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    inner = [child for argument in arguments if (child := _child(argument))]
    if not inner:
        return None
    if origin in {list, dict}:
        return ("list" if origin is list else "map"), inner[0][1]
    return inner[0]


def _explain(
    key: str, mapping: Mapping[str, object], level: str, known: tuple[str, ...]
) -> tuple[str, str, str | None]:
    """What to say of the key, how to mend it, and what it is renamed to."""
    reason = f"`{key[:64]}` is no key of {PLACES[level]}."
    if (level, key) in USELESS:
        return f"{reason[:-1]}: {USELESS[level, key]}.", "Remove it.", None
    names = OTHER_NAMES.get(level, {})
    meant = names.get(key.lower().replace("_", "").replace("-", ""))
    if meant is not None:
        fix = f"`{meant}` is there already; remove this." if meant in mapping else f"Use `{meant}`."
        return reason, fix, meant
    if (other := _home_of(key, mapping, level)) is not None:
        shown = MOVES[level, other].format(key=key, value=plain_value(mapping[key]))
        reason = f"`{key}` belongs to {PLACES[other]}, not {PLACES[level]}."
        return reason, f"Write `{shown}`.", None
    near = closest(key, [*known, *names])
    if near is not None:
        meant = names.get(near, near)
        return reason, f"Did you mean `{meant}`?", meant
    return reason, f"Remove it; the keys here are {listed(known, 20)}.", None


def _home_of(key: str, mapping: Mapping[str, object], level: str) -> str | None:
    """The level that the key belongs to; one whose mapping is there already goes before others."""
    homes = [
        other
        for other, model in LEVELS.items()
        if (level, other) in MOVES and key in model_keys(model)
    ]
    there = {_LEVEL_OF[model]: name for name, (_, model) in _children(LEVELS[level]).items()}
    return next((home for home in homes if there.get(home) in mapping), homes[0] if homes else None)
