"""Loops of other formats: `parallel` as `foreach`, `repeatPolicy` as `repeat`."""

import json
import shlex
from collections.abc import Mapping

from workflow_backend.definition.importers.conditions import comparison
from workflow_backend.definition.importers.draft import Context, StepDraft
from workflow_backend.definition.importers.fields import REPEAT, STEP
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.policies import duration_of, exit_codes, whole_number
from workflow_backend.definition.importers.references import references_in

MAX_ITEMS = 1_000
MAX_REPEATS = 1_000
MAX_PARALLEL = 256


def read_parallel(fields: Fields, draft: StepDraft, context: Context) -> None:
    """`foreach` and `max_parallel`."""
    given = fields.take(*STEP["parallel"])
    path = fields.at(*STEP["parallel"])
    limit = fields.take("maxConcurrent")
    if isinstance(given, Mapping):
        inner = Fields(given, path, context.notes)
        given = inner.take("items")
        path = inner.at("items")
        limit = inner.take("maxConcurrent") or limit
        inner.finish()
    if given in (None, "", []):
        return
    items = _items(given, path, draft, context)
    if items is None:
        context.notes.add(path, "the items are no list here.", "The step runs once.")
        return
    draft.data["foreach"] = items
    number = whole_number(limit)
    if number is not None and number >= 1:
        draft.data["max_parallel"] = min(number, MAX_PARALLEL)


def read_repeat(fields: Fields, draft: StepDraft, context: Context) -> None:
    """`repeat` with its `until`; what has no condition or no limit cannot be one."""
    policy = fields.mapping(*STEP["repeat"])
    if policy is None:
        return
    mode = scalar_text(policy.take(*REPEAT["mode"])).lower()
    until = _until(policy, mode, draft)
    limit = whole_number(policy.take(*REPEAT["limit"]))
    interval = policy.take(*REPEAT["interval"])
    seconds = duration_of(interval, policy.at(*REPEAT["interval"]), context.notes)
    policy.finish({"backoff": ("the time between two repeats stays the same.", "")})
    if until is None:
        context.notes.add(
            policy.path,
            "a step is repeated until a condition about itself holds, which this lacks.",
            "The step runs once; write `repeat: {until: ..., limit: ...}`.",
        )
        return
    if limit is None or not 1 <= limit <= MAX_REPEATS:
        policy.note(
            REPEAT["limit"],
            f"repeats have a limit of 1 to {MAX_REPEATS}.",
            f"It is {MAX_REPEATS}, after which the step has failed.",
        )
        limit = MAX_REPEATS
    draft.data["repeat"] = {"until": until, "limit": limit, "interval": seconds or "1s"}


def _until(policy: Fields, mode: str, draft: StepDraft) -> str | None:
    """CEL that ends the repeats; it sees the step itself."""
    condition, expected = policy.text(*REPEAT["condition"]), policy.take(*REPEAT["expected"])
    codes = exit_codes(policy, *REPEAT["exit_codes"])
    if codes:
        policy.note(
            REPEAT["exit_codes"],
            "a step that fails is not repeated by its exit code.",
            "Use `retry` with `on_exit_codes`, or let the script print what it found.",
        )
    if not condition or expected in (None, ""):
        return None
    # The step's own output is known to its own condition alone.
    texts = type(draft.texts)(draft.texts.scope, None)
    source = comparison(condition, scalar_text(expected), policy.at("condition"), texts)
    draft.texts.needs |= {name: None for name in texts.needs if name != draft.name}
    if source is None:
        return None
    return f"!({source})" if mode in {"while", "true"} else source


def _items(
    given: object, path: str, draft: StepDraft, context: Context
) -> list[object] | str | None:
    if isinstance(given, list):
        if len(given) > MAX_ITEMS:
            context.notes.add(path, f"there are over {MAX_ITEMS} items.", "The rest was left out.")
        return list(given[:MAX_ITEMS])
    if not isinstance(given, str):
        return None
    references = list(references_in(given))
    if not references:
        return _listed(given)
    if len(references) > 1 or references[0].raw != given.strip():
        return None
    return _items_of_reference(references[0].path, path, draft, context)


def _items_of_reference(
    names: tuple[str, ...], path: str, draft: StepDraft, context: Context
) -> str | None:
    """A list that an input or the output of a step gives."""
    scope = context.scope
    ours = scope.input_names.get(names[-1]) if names else None
    if ours is not None and names[-1] not in scope.outputs:
        spec = scope.inputs[ours]
        default = spec.get("default")
        if isinstance(default, str):
            spec["default"] = _listed(default)
        spec["type"] = "array"
        context.notes.add(path, "the items are a list.", f"The input `{ours}` is one now.")
        return f"${{{{ inputs.{ours} }}}}"
    value = scope.resolve(names, draft.name)
    if value is None or value.producer is None:
        return None
    draft.texts.use(value)
    if not value.is_output:
        return value.template
    scope.json_steps.add(value.producer)
    context.notes.add(
        path, "the items are a list.", f"Step `{value.producer}` must print one as JSON."
    )
    return f"${{{{ steps.{value.producer}.outputs.json }}}}"


def _listed(text: str) -> list[object]:
    """The items of a text: a JSON array, or words."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found[:MAX_ITEMS]
    try:
        words = shlex.split(text.replace(",", " ").replace(";", " ").replace("|", " "))
    except ValueError:
        words = text.split()
    return list(words[:MAX_ITEMS])


def _no_constant(name: str) -> object:
    raise ValueError(name)
