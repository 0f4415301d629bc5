"""Steps that run another workflow of the same file."""

import re

from workflow_backend.definition.importers.draft import Called, Context, StepDraft
from workflow_backend.definition.importers.fields import STEP
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.parameters import words_of
from workflow_backend.definition.importers.texts import pairs_of

_FILE_NAME = re.compile(r"[\w./-]+\.ya?ml")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")


def called_name(step: Fields, context: Context) -> str | None:
    """The workflow that the step runs; None if it runs a command.

    `run` names a workflow in older files of Dagu and in Kubiya's, and is a command in newer ones.
    """
    call = step.peek(*STEP["call"])
    if isinstance(call, str) and call.strip():
        step.take(*STEP["call"])
        return call.strip()
    run = step.peek(*STEP["run"])
    if not isinstance(run, str) or not run.strip() or "\n" in run:
        return None
    name = run.strip()
    is_named = name in context.called or bool(_FILE_NAME.fullmatch(name))
    if not is_named and _NAME.fullmatch(name):
        is_old = context.format == "kubiya" or context.is_camel_case
        is_named = is_old or step.has(*STEP["params"], *STEP["parallel"])
    if not is_named:
        return None
    step.take(*STEP["run"])
    return name


def read_call(name: str, step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """A `workflow` step, if the file holds the workflow; else words."""
    params = step.take(*STEP["params"])
    path = step.at(*STEP["params"])
    if params is None:
        params, path = config.take("params"), config.at("params")
    called = context.called.get(name) or context.called.get(name.rsplit("/", 1)[-1])
    if called is None:
        step.note(
            (*STEP["run"], *STEP["call"]),
            f"the workflow {name[:60]!r} is not in this file.",
            "The step says in words what it does; add that workflow to `workflows`.",
        )
        draft.in_words(f"Run the workflow {name} with {params or 'no parameters'}")
        return
    inputs: dict[str, object] = {}
    for given, value in _pairs(params, called):
        ours = called.scope.declare_input(given)
        if ours is not None:
            inputs[ours] = draft.texts.template(scalar_text(value), f"{path}.{given}")
    call: dict[str, object] = {"ref": called.ref}
    draft.data["workflow"] = {**call, "inputs": inputs} if inputs else call


def _pairs(params: object, called: Called) -> list[tuple[str, object]]:
    """The parameters by name; those without one are the workflow's own, in order."""
    if not isinstance(params, str):
        return pairs_of(params)
    order = list(called.scope.input_names)
    found: list[tuple[str, object]] = []
    for index, (name, value) in enumerate(words_of(params)):
        fallback = order[index] if index < len(order) else str(index + 1)
        found.append((name or fallback, value))
    return found
