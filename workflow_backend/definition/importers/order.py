"""The order of the steps: their names here, and who waits for whom.

Dagu, "Execution Type": in a `chain`, the default, each step waits for the one before; in a `graph`
for what `depends` names. Steps in a list of their own run side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow_backend.definition.importers.draft import Context
from workflow_backend.definition.importers.fields import STEP, WORKFLOW
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.scope import Output, variable_of
from workflow_backend.definition.importers.steps import Planned, step_name

MAX_STEPS = 2_000


@dataclass(slots=True)
class Ordered:
    """The steps with what they wait for; `ends` are the approvals that follow some."""

    steps: list[Planned] = field(default_factory=list)
    depends: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Item:
    """A step of the source. `group`: those with the same number run side by side."""

    data: Mapping[str, object]
    path: str
    group: int


def plan_steps(fields: Fields, context: Context, defaults: Mapping[str, object]) -> Ordered:
    """Names and order of the steps; secrets that a step only fetches become names."""
    items = _items(fields, defaults)
    ordered = Ordered()
    groups: dict[int, list[str]] = {}
    dropped: dict[str, list[str]] = {}
    for item in items:
        step = Fields(item.data, item.path, context.notes)
        if _is_secret(step):
            _declare_secret(step, context, dropped)
            continue
        planned = _plan(step, context)
        ordered.steps.append(planned)
        if planned.end != planned.name:
            ordered.ends[planned.name] = planned.end
        groups.setdefault(item.group, []).append(planned.name)
    _depend(ordered, groups, fields, context, dropped)
    return ordered


def _items(fields: Fields, defaults: Mapping[str, object]) -> list[_Item]:
    given = fields.take(*WORKFLOW["steps"])
    path = fields.at(*WORKFLOW["steps"])
    if isinstance(given, Mapping):
        given = [
            {"name": name, **step} if isinstance(step, Mapping) else {"name": name, "command": step}
            for name, step in given.items()
        ]
    items: list[_Item] = []
    for group, item in enumerate(given if isinstance(given, list) else []):
        place = f"{path}[{group}]"
        inner = item if isinstance(item, list) else [item]
        for index, one in enumerate(inner):
            where = f"{place}[{index}]" if isinstance(item, list) else place
            if isinstance(one, (str, int, float)):
                one = {"command": scalar_text(one)}  # noqa: PLW2901 - the short form
            if isinstance(one, Mapping) and len(items) < MAX_STEPS:
                items.append(_Item(_with_defaults(one, defaults), where, group))
            else:
                fields.notes.add(where, "this is no step.")
    return items


def _with_defaults(step: Mapping[str, object], defaults: Mapping[str, object]) -> dict[str, object]:
    """The step with what all steps have: its own fields count, but lists are joined."""
    merged = {**defaults, **step}
    for key in ("env", "preconditions"):
        mine, theirs = step.get(key), defaults.get(key)
        if mine and theirs:
            merged[key] = [theirs, mine] if key == "env" else [*_list(theirs), *_list(mine)]
    return merged


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _is_secret(step: Fields) -> bool:
    return _kind_of(step) == "get_secret"


def _kind_of(step: Fields) -> str:
    """The type of the step's executor, as far as its name decides something here."""
    executor = step.peek(*STEP["executor"])
    kind = executor.get("type") if isinstance(executor, Mapping) else executor
    kind = kind or step.peek("type")
    return kind.lower() if isinstance(kind, str) else ""


def _declare_secret(step: Fields, context: Context, dropped: dict[str, list[str]]) -> None:
    """A step that fetches a secret: its name stands for the secret."""
    name = scalar_text(step.peek(*STEP["name"])) or "secret"
    secret = variable_of(scalar_text(step.peek(*STEP["secret"])) or name)
    variable = step.peek(*STEP["output"])
    for known in (name, variable if isinstance(variable, str) else ""):
        if known:
            context.scope.secrets[known] = secret
    dropped[name] = [str(other) for other in _list(step.peek(*STEP["depends"]) or [])]
    context.notes.add(
        step.path,
        "a secret needs no step.",
        f"It is `secrets.{secret}`, which the server must have.",
    )


def _plan(step: Fields, context: Context) -> Planned:
    """The step under a name of its own, with the variables that it gives values."""
    scope = context.scope
    given = scalar_text(step.peek(*STEP["name"])) or scalar_text(step.peek(*STEP["id"]))
    ours = step_name(given or f"step-{len(scope.order) + 1}", scope.order)
    scope.order[ours] = len(scope.order)
    for known in (step.peek(*STEP["name"]), step.peek(*STEP["id"])):
        if isinstance(known, (str, int)):
            scope.steps.setdefault(str(known), ours)
    if given and given != ours:
        step.note(STEP["name"], "the name cannot be used here.", f"It is `{ours}`.")
    planned = Planned(step, ours)
    if step.peek(*STEP["approval"]) not in (None, False, ""):
        planned.approval = step_name(f"approve-{ours}", scope.order)
        scope.order[planned.approval] = len(scope.order)
        _declare_form(step, planned, context)
    _declare_output(step, ours, context)
    return planned


def _declare_form(step: Fields, planned: Planned, context: Context) -> None:
    """What a person fills in is a variable of later steps."""
    given = step.peek(*STEP["approval"])
    names = given.get("input") if isinstance(given, Mapping) else None
    for name in names if isinstance(names, list) else []:
        output = Output(planned.approval, f"outputs.values.{name}")
        context.scope.outputs.setdefault(str(name), []).append(output)


def _declare_output(step: Fields, ours: str, context: Context) -> None:
    output = step.peek(*STEP["output"])
    if isinstance(output, Mapping):
        inner = Fields(output, step.at(*STEP["output"]), context.notes)
        output = inner.take("name")
        inner.finish()
    if isinstance(output, str) and output.strip():
        name = output.strip().removeprefix("$").strip("{}")
        context.scope.outputs.setdefault(name, []).append(Output(ours, _output_field(step)))


def _output_field(step: Fields) -> str:
    """What of our step is the same as what theirs prints."""
    return "outputs.text" if _kind_of(step) in _ASKS_MODEL else "outputs.stdout"


def _depend(
    ordered: Ordered,
    groups: Mapping[int, list[str]],
    fields: Fields,
    context: Context,
    dropped: Mapping[str, list[str]],
) -> None:
    """Who waits for whom."""
    kind = scalar_text(fields.take(*WORKFLOW["type"])).lower()
    explicit = {planned.name: _named(planned, context, dropped) for planned in ordered.steps}
    is_chain = kind != "graph"
    if is_chain and any(explicit.values()):
        is_chain = not _goes_back(ordered, explicit)
        fields.note(
            WORKFLOW["type"],
            "steps of a chain wait for the one before, and these have `depends` as well.",
            "They wait for both; write `type: graph` in the source for `depends` alone."
            if is_chain
            else "They wait for `depends` alone, because one waits for a later step.",
        )
    before: list[str] = []
    for group in sorted(groups):
        for name in groups[group]:
            free = explicit[name] is None
            chained = before if is_chain and not free else []
            ordered.depends[name] = list(dict.fromkeys([*chained, *(explicit[name] or [])]))
        before = groups[group]


def _named(
    planned: Planned, context: Context, dropped: Mapping[str, list[str]]
) -> list[str] | None:
    """The steps that `depends` names; None where it is there and empty: the step waits for none."""
    given = planned.fields.peek(*STEP["depends"])
    if given == [] and context.format == "dagu":
        return None
    found: list[str] = []
    open_names = [str(name) for name in _list(given) if isinstance(name, (str, int))]
    seen: set[str] = set()
    while open_names:
        name = open_names.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if name in dropped:
            open_names += dropped[name]
        elif name in context.scope.steps:
            found.append(context.scope.steps[name])
        else:
            planned.fields.note(STEP["depends"], f"there is no step {name[:60]!r}.")
    return [name for name in dict.fromkeys(found) if name != planned.name]


def _goes_back(ordered: Ordered, explicit: Mapping[str, list[str] | None]) -> bool:
    """Whether a step waits for a later one, so that the order of the file cannot count."""
    place = {planned.name: index for index, planned in enumerate(ordered.steps)}
    return any(
        place[other] > place[name] for name, others in explicit.items() for other in others or ()
    )


_ASKS_MODEL = frozenset({"inline_agent", "agent", "llm_completion", "chat", "llm"})
