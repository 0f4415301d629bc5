"""A whole workflow of another format as a document of ours."""

import re
from collections.abc import Iterator, Mapping

from workflow_backend.definition.importers.conditions import all_of, check_source, read_conditions
from workflow_backend.definition.importers.draft import Called, Context, Format, StepDraft
from workflow_backend.definition.importers.environment import read_names
from workflow_backend.definition.importers.fields import HANDLERS, WORKFLOW
from workflow_backend.definition.importers.network import open_network
from workflow_backend.definition.importers.notes import Fields, Notes
from workflow_backend.definition.importers.order import Ordered, plan_steps
from workflow_backend.definition.importers.policies import duration_of, whole_number
from workflow_backend.definition.importers.scope import Scope, expression_of, free_name
from workflow_backend.definition.importers.scripts import language_of
from workflow_backend.definition.importers.steps import (
    Planned,
    check_step,
    read_step,
    step_name,
)
from workflow_backend.definition.importers.texts import Texts
from workflow_backend.definition.importers.triggers import read_concurrency, read_schedule

MAX_PARALLEL = 256
KUBIYA_HOSTED = frozenset({"kubiya-hosted", "core", ""})


class Reading:
    """One document being read: its names first, so that others can call it, then the rest."""

    def __init__(
        self, data: Mapping[str, object], path: str, format_name: Format, notes: Notes
    ) -> None:
        self.notes = notes
        self.fields = Fields(data, path, notes)
        self.name = self.fields.text(*WORKFLOW["name"]) or "imported"
        self.scope = Scope(notes, self.name, has_braces=format_name == "kubiya")
        self._format = format_name
        self._is_camel_case = any(re.search("[a-z][A-Z]", key) for key in _keys(data))
        defaults = self.fields.take(*WORKFLOW["defaults"])
        self._defaults = defaults if isinstance(defaults, Mapping) else {}
        read_names(self.fields, self.scope)

    def body(self, called: Mapping[str, Called]) -> dict[str, object]:
        """What the document comes to, without its name; `called` are those of the same file."""
        fields, scope = self.fields, self.scope
        context = Context(self._format, self.notes, scope, called, "sh", None, self._is_camel_case)
        if shell := fields.text(*WORKFLOW["shell"]):
            context.shell = language_of(shell)
        context.image = _image(fields)
        document: dict[str, object] = {}
        if description := fields.text(*WORKFLOW["description"]):
            document["description"] = description
        texts = Texts(scope, None)
        if directory := fields.text(*WORKFLOW["working_dir"]):
            document["working_dir"] = texts.template(directory, fields.at("dir", "working_dir"))
        seconds = fields.take(*WORKFLOW["timeout"])
        if timeout := duration_of(seconds, fields.at(*WORKFLOW["timeout"]), self.notes):
            document["timeout"] = timeout
        number = whole_number(fields.take(*WORKFLOW["max_parallel"]))
        if number is not None and number >= 1:
            document["max_parallel"] = min(number, MAX_PARALLEL)
        ordered = plan_steps(fields, context, self._defaults)
        document["steps"] = self._steps(ordered, context)
        document |= self._handlers(context)
        return {**document, **self._names()}

    def head(self) -> dict[str, object]:
        """What only the first document of a file has."""
        head: dict[str, object] = {"name": workflow_name(self.name)}
        if head["name"] != self.name:
            self.fields.note("name", "the name cannot be used here.", f"It is {head['name']!r}.")
        runner = self.fields.text(*WORKFLOW["runner"])
        if runner:
            head["runner"] = runner
            self.fields.note(
                WORKFLOW["runner"],
                f"the runner {runner[:60]!r} is one of Kubiya's.",
                "It stays; remove it to run on this machine.",
            )
        if schedule := read_schedule(self.fields):
            head["schedule"] = schedule
        if concurrency := read_concurrency(self.fields, self.name):
            head["concurrency"] = concurrency
        return head

    def finish(self) -> None:
        """Note what nobody took."""
        self.fields.finish(_REASONS)

    def _steps(self, ordered: Ordered, context: Context) -> list[dict[str, object]]:
        drafts = [draft for planned in ordered.steps for draft in read_step(planned, context)]
        for draft in drafts:
            draft.depends |= dict.fromkeys(ordered.depends.get(draft.name, ()))
        _follow(drafts, ordered)
        first = self._first_steps(context)
        roots = [draft for draft in drafts if not draft.depends and not draft.texts.needs]
        for draft in roots:
            draft.depends |= dict.fromkeys(one.name for one in first)
        self._gate(roots, first, context)
        drafts = [*first, *drafts]
        for draft in drafts:
            self._parse_json(draft)
        open_network(drafts, self.notes)
        _break_cycles(drafts, self.notes)
        return [draft.document() for draft in drafts]

    def _parse_json(self, draft: StepDraft) -> None:
        """A step of whose output others read parts."""
        if draft.name in self.scope.json_steps and {"run", "python", "http"} & set(draft.data):
            draft.data["parse"] = "json"
            self.notes.add(
                draft.path,
                "later steps read parts of what it prints.",
                "It must print one JSON value, or it fails.",
            )

    def _first_steps(self, context: Context) -> list[StepDraft]:
        """Steps before all others: a delay, and what is done when the run begins."""
        first = []
        delay = self.fields.take(*WORKFLOW["delay"])
        if seconds := duration_of(delay, self.fields.at(*WORKFLOW["delay"]), self.notes):
            name = self._free("delay")
            wait = StepDraft(name, self.fields.at(*WORKFLOW["delay"]), Texts(self.scope, name))
            wait.data["wait"] = {"for": seconds}
            first.append(wait)
        handlers = self.fields.peek(*WORKFLOW["handlers"])
        init = handlers.get("init") if isinstance(handlers, Mapping) else None
        if isinstance(init, Mapping):
            path = f"{self.fields.at(*WORKFLOW['handlers'])}.init"
            planned = Planned(Fields(init, path, self.notes), self._free("on-init"))
            drafts = read_step(planned, context)
            drafts[0].depends |= dict.fromkeys(one.name for one in first)
            first += drafts
        return first

    def _gate(self, roots: list[StepDraft], first: list[StepDraft], context: Context) -> None:
        """Preconditions of the whole workflow: its first steps have them."""
        given = self.fields.take(*WORKFLOW["preconditions"])
        path = self.fields.at(*WORKFLOW["preconditions"])
        found = read_conditions(given, path, Texts(self.scope, None), self.notes)
        for check in found.checks:
            name = self._free("check-workflow")
            step = check_step(name, check, path, context)
            first.append(step)
            found.sources.append(check_source(name, check))
            for draft in roots:
                draft.depends[name] = None
        if found.sources:
            for draft in roots:
                own = draft.data.get("if")
                sources = [*found.sources, *([own] if isinstance(own, str) else [])]
                draft.data["if"] = all_of(sources)

    def _handlers(self, context: Context) -> dict[str, object]:
        """`handlerOn` as steps of `on_failure` and `finally`."""
        handlers = self.fields.mapping(*WORKFLOW["handlers"])
        if handlers is None:
            return {}
        handlers.take(*HANDLERS["init"])
        lists: dict[str, list[dict[str, object]]] = {"on_failure": [], "finally": []}
        for kind, (key, condition) in _HANDLERS.items():
            if not handlers.has(*HANDLERS[kind]):
                handlers.take(*HANDLERS[kind])
                continue
            inner = handlers.mapping(*HANDLERS[kind])
            if inner is None:
                continue
            drafts = read_step(Planned(inner, self._free(f"on-{kind}")), context)
            for draft in drafts:
                draft.texts.needs = {
                    name: None
                    for name in draft.texts.needs
                    if name in {other.name for other in drafts}
                }
            if condition:
                own = drafts[-1].data.get("if")
                sources = [condition, *([own] if isinstance(own, str) else [])]
                drafts[-1].data["if"] = all_of(sources)
            lists[key] += [draft.document() for draft in drafts]
        handlers.finish({"wait": ("nothing runs when a run waits.", "See `notify`.")})
        return {key: steps for key, steps in lists.items() if steps}

    def _names(self) -> dict[str, object]:
        """`inputs` and `env`: every input is a variable of every step, as parameters are."""
        scope = self.scope
        env = {name: expression_of("inputs", name) for name in scope.inputs}
        env |= {name: value for name, value in scope.env.items() if name not in env}
        found: dict[str, object] = {}
        if scope.inputs:
            found["inputs"] = scope.inputs
        if env:
            found["env"] = env
        return found

    def _free(self, name: str) -> str:
        ours = step_name(name, self.scope.order)
        self.scope.order[ours] = -1
        return ours


def workflow_name(text: str) -> str:
    """A name of a workflow, as near to this text as may be."""
    slug = re.sub(r"[^A-Za-z0-9 ._-]+", "-", text.encode("ascii", "ignore").decode())
    return slug.strip("-._ ")[:100].rstrip() or "imported"


def reference_name(text: str, taken: Mapping[str, object]) -> str:
    """A name for a workflow inside the document."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", text.encode("ascii", "ignore").decode()).strip("-_")
    return free_name((slug if slug[:1].isalpha() else f"w-{slug}")[:60].rstrip("-"), taken, 60)


def _follow(drafts: list[StepDraft], ordered: Ordered) -> None:
    """A step that waits for one with an approval after it waits for the approval."""
    for draft in drafts:
        draft.depends = {
            ordered.ends.get(name, name) if ordered.ends.get(name) != draft.name else name: None
            for name in draft.depends
        }


def _break_cycles(drafts: list[StepDraft], notes: Notes) -> None:
    """Take out what a step reads but may not wait for: it would wait for itself."""
    by_name = {draft.name: draft for draft in drafts}
    for draft in drafts:
        for name in list(draft.texts.needs):
            if name in draft.depends:
                continue
            if name == draft.name or draft.name in _before(name, by_name):
                del draft.texts.needs[name]
                notes.add(
                    draft.path,
                    f"it reads what step `{name}` gives, which runs after it.",
                    "The definition is not valid with that; the step is in words.",
                )
                draft.data = {"needs_command": f"Do what {draft.path} does"}
                continue
            draft.depends[name] = None


def _before(name: str, by_name: Mapping[str, StepDraft]) -> set[str]:
    """The step and all that it waits for."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        one = open_names.pop()
        if one not in found and one in by_name:
            found.add(one)
            open_names += by_name[one].depends
    return found


def _image(fields: Fields) -> str | None:
    """The image of the container in which all steps run, if there is one."""
    container = fields.take(*WORKFLOW["container"])
    if isinstance(container, Mapping):
        inner = Fields(container, fields.at(*WORKFLOW["container"]), fields.notes)
        image = inner.text("image") or inner.text("exec")
        inner.finish()
        return image or None
    return container if isinstance(container, str) and container else None


def _keys(value: object, depth: int = 0) -> Iterator[str]:
    """The keys of the document and of its steps."""
    if isinstance(value, Mapping) and depth < 4:
        for key, item in value.items():
            yield str(key)
            if key not in {"env", "params", "config"}:
                yield from _keys(item, depth + 1)
    elif isinstance(value, list) and depth < 4:
        for item in value[:200]:
            yield from _keys(item, depth + 1)


_HANDLERS = {
    "failure": ("on_failure", ""),
    "success": ("finally", "run.status == 'success'"),
    "cancel": ("finally", "run.status == 'cancelled'"),
    "exit": ("finally", ""),
}
_REASONS = {
    "tags": ("workflows have no tags.", ""),
    "group": ("workflows have no groups.", ""),
    "dotenv": ("files of variables are not read.", "Write the variables into `env` or inputs."),
    "log_dir": ("runs keep their output themselves.", ""),
    "hist_retention_days": ("how long runs are kept is a setting of the server.", ""),
    "max_output_size": ("how much output is kept is a setting of the server.", ""),
    "max_clean_up_time_sec": ("how long a step may take to end is fixed.", ""),
    "retry_policy": ("a whole run is not tried again.", "Give the steps a `retry`."),
    "mail_on": ("no mail is sent.", "See `notify`, which sends webhooks."),
    "error_mail": ("no mail is sent.", "See `notify`, which sends webhooks."),
    "info_mail": ("no mail is sent.", "See `notify`, which sends webhooks."),
    "wait_mail": ("no mail is sent.", "See `notify`, which sends webhooks."),
    "smtp": ("no mail is sent.", "See `notify`, which sends webhooks."),
    "skip_if_successful": ("a schedule does not look at earlier runs.", ""),
    "worker_selector": ("a workflow names one `runner`.", ""),
    "files": ("a workflow holds no files.", "Write them in a first step."),
}
