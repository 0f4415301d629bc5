"""One step of another format: its action, its policies, and the steps that come of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workflow_backend.definition.importers.actions import approval_of, read_action
from workflow_backend.definition.importers.conditions import (
    Check,
    all_of,
    check_source,
    read_conditions,
)
from workflow_backend.definition.importers.draft import Context, StepDraft
from workflow_backend.definition.importers.fields import STEP
from workflow_backend.definition.importers.loops import read_parallel, read_repeat
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.policies import duration_of, may_fail, retry_of
from workflow_backend.definition.importers.scope import free_name
from workflow_backend.definition.importers.scripts import Script, ScriptWriter
from workflow_backend.definition.importers.texts import Texts
from workflow_backend.definition.patterns import STEP_NAME

KUBIYA_BACKOFF = 2.0


@dataclass(slots=True)
class Planned:
    """A step that is to be read: its fields, its name here, that of its approval."""

    fields: Fields
    name: str
    approval: str = ""

    @property
    def asks_before(self) -> bool:
        """Whether the approval is asked for before the step, as Kubiya does."""
        return self.fields.peek("approval") is None

    @property
    def end(self) -> str:
        """What steps after it wait for."""
        return self.approval if self.approval and not self.asks_before else self.name


def read_step(planned: Planned, context: Context) -> list[StepDraft]:
    """The step, with the steps that its conditions and its approval need."""
    fields = planned.fields
    draft = StepDraft(planned.name, fields.path, Texts(context.scope, planned.name))
    for taken in (STEP["name"], STEP["id"], STEP["depends"], STEP["output"], STEP["secret"]):
        fields.take(*taken)
    if description := fields.text(*STEP["description"]):
        draft.data["description"] = description
    _read_surroundings(fields, draft)
    read_action(fields, draft, context)
    _read_policies(fields, draft, context)
    read_parallel(fields, draft, context)
    read_repeat(fields, draft, context)
    before = _read_conditions(fields, draft, context)
    approval = _read_approval(planned, draft, context)
    fields.finish(_STEP_REASONS)
    _drop_what_has_no_use(draft)
    if approval is None:
        return [*before, draft]
    if planned.asks_before:
        draft.depends[approval.name] = None
        return [*before, approval, draft]
    approval.depends[draft.name] = None
    return [*before, draft, approval]


def step_name(text: str, taken: Mapping[str, object]) -> str:
    """A name of ours, as near to this text as may be, that no other step has."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", text.encode("ascii", "ignore").decode()).strip("-")
    if not STEP_NAME.fullmatch(slug[:60]):
        slug = f"step-{slug}".rstrip("-")
    return free_name(slug[:60].rstrip("-") or "step", taken, 60)


def check_step(name: str, check: Check, path: str, context: Context) -> StepDraft:
    """A step that runs the command of a precondition, and may fail."""
    draft = StepDraft(name, path, Texts(context.scope, name))
    ScriptWriter(draft).write(Script(context.shell, check.command), path)
    draft.data["continue_on_error"] = True
    return draft


def _read_surroundings(fields: Fields, draft: StepDraft) -> None:
    """`env` and working directory, which the action may add to."""
    given = fields.take(*STEP["env"])
    if given:
        draft.env.update(draft.texts.variables(given, fields.at(*STEP["env"])))
    if directory := fields.text(*STEP["working_dir"]):
        path = fields.at(*STEP["working_dir"])
        draft.data["working_dir"] = draft.texts.template(directory, path, in_one_line=True)


def _read_policies(fields: Fields, draft: StepDraft, context: Context) -> None:
    seconds = fields.take(*STEP["timeout"])
    if timeout := duration_of(seconds, fields.at(*STEP["timeout"]), context.notes):
        draft.data["timeout"] = timeout
    backoff = KUBIYA_BACKOFF if context.format == "kubiya" else 1.0
    retry = fields.take(*STEP["retry"])
    if isinstance(retry, Mapping):
        policy = Fields(retry, fields.at(*STEP["retry"]), context.notes)
        draft.data["retry"] = retry_of(policy, default_backoff=backoff)
    elif retry is not None:
        limit = Fields({"limit": retry}, fields.at(*STEP["retry"]), context.notes)
        draft.data["retry"] = retry_of(limit, default_backoff=backoff)
    given = fields.take(*STEP["continue_on"])
    if may_fail(given, fields.at(*STEP["continue_on"]), context.notes):
        draft.data["continue_on_error"] = True
    if fields.has("signal_on_stop") and scalar_text(fields.peek("signal_on_stop")) == "SIGTERM":
        fields.take("signal_on_stop")


def _read_conditions(fields: Fields, draft: StepDraft, context: Context) -> list[StepDraft]:
    """`if`, and a step of its own for each condition that is a command."""
    given = fields.take(*STEP["preconditions"])
    path = fields.at(*STEP["preconditions"])
    found = read_conditions(given, path, draft.texts, context.notes)
    before = []
    for check in found.checks:
        name = step_name(f"check-{draft.name}", context.scope.order)
        context.scope.order[name] = context.scope.order.get(draft.name, 0)
        before.append(check_step(name, check, path, context))
        found.sources.append(check_source(name, check))
        draft.texts.needs[name] = None
    if condition := all_of(found.sources):
        draft.data["if"] = condition
    return before


def _read_approval(planned: Planned, draft: StepDraft, context: Context) -> StepDraft | None:
    """An approval that Dagu asks for after a step has run, and Kubiya before."""
    fields = planned.fields
    given = fields.take(*STEP["approval"])
    if not planned.approval:
        return None
    path = fields.at(*STEP["approval"])
    inner = Fields(given if isinstance(given, Mapping) else {}, path, context.notes)
    if not isinstance(given, (bool, Mapping)):
        fields.note(
            STEP["approval"],
            "whether an approval is needed is not computed.",
            "It is always asked for.",
        )
    asked = StepDraft(planned.approval, path, Texts(context.scope, planned.approval))
    question = f"Run {draft.name}?" if planned.asks_before else f"Go on after {draft.name}?"
    asked.data["approval"] = approval_of(inner, asked, question)
    inner.finish()
    return asked


def _drop_what_has_no_use(draft: StepDraft) -> None:
    """Fields that our step of this kind cannot have."""
    for key, kinds in _NO_USE.items():
        if draft.data.get(key) and any(kind in draft.data for kind in kinds):
            draft.texts.scope.notes.add(
                f"{draft.path}.{key}", f"`{key}` has no use in a step of this kind."
            )
            del draft.data[key]


_NO_USE: dict[str, frozenset[str]] = {
    "env": frozenset({"workflow", "approval", "agent"}),
    "working_dir": frozenset({"workflow", "approval", "agent"}),
    "timeout": frozenset({"workflow", "approval"}),
    "retry": frozenset({"workflow", "approval"}),
}
_STEP_REASONS = {
    "stdout": ("what a step prints is kept.", "Read it as `outputs.stdout`."),
    "stderr": ("what a step prints is kept.", "Read it as `outputs.stdout`."),
    "log_output": ("what a step prints is kept as one text.", ""),
    "mail_on_error": ("no mail is sent.", "See `notify`, which sends webhooks."),
    "signal_on_stop": ("a step that is stopped gets SIGTERM, then SIGKILL.", ""),
    "worker_selector": ("a workflow names one `runner`.", ""),
    "foreach": (
        "a list of steps for each item has no counterpart.",
        "Make it a workflow of `workflows`, and call that with `foreach`.",
    ),
}
