"""What a new run takes over from one that has ended: all that need not be done again. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.problems import closest, listed
from workflow_backend.step_state import StepState


class RerunError(ValueError):
    """The run cannot be taken up from there; the message says why."""


def kept_states(
    workflow: Workflow, states: Mapping[str, StepState], from_step: str | None = None
) -> dict[str, StepState]:
    """The states, by instance, that a rerun takes over.

    Every step that did not succeed is done again, with all that depends on it; with `from_step`
    that step and what depends on it as well, whatever they had come to. Of a fanned-out step
    that is done again, the items that had succeeded are kept, and of a run inside the run its own
    steps that had. Handlers are always done again. Steps inside another run stand under
    `step/inner`.

    Raises:
        RerunError: There is no such step, or nothing is left to be done again.
    """
    names = [step.name for step in workflow.steps]
    if from_step is not None and from_step not in names:
        meant = closest(from_step, names)
        hint = f"did you mean `{meant}`?" if meant else f"the steps are {listed(names)}."
        raise RerunError(f"there is no step `{from_step[:64]}` to begin from; {hint}")
    begins = _unsuccessful(workflow.steps, states) | ({from_step} if from_step else set())
    again = _with_dependents(workflow.steps, begins)
    if not again:
        raise RerunError("every step has succeeded; name the step from which to do them again")
    kept: dict[str, StepState] = {}
    for step in workflow.steps:
        state = states.get(step.name)
        if step.name not in again and state is not None:
            kept[step.name] = state
        elif step.name != from_step and not again.intersection(step.depends):
            # What it works on is the same as before.
            kept |= _kept_within(step, workflow, states)
    return kept


def _unsuccessful(steps: Sequence[Step], states: Mapping[str, StepState]) -> set[str]:
    """The steps to begin from: those that failed or never ran because of that.

    A step that its own condition left out is decided anew only if one before it is done again.
    """
    found = set()
    for step in steps:
        state = states.get(step.name)
        if state is None or state.status in {"failed", "timed_out", "cancelled", "pending"}:
            if state is None or not (step.continue_on_error and state.status == "failed"):
                found.add(step.name)
        elif state.status == "skipped" and state.reason != "its condition `if` is false":
            found.add(step.name)
    return found


def _with_dependents(steps: Iterable[Step], begins: set[str]) -> set[str]:
    again = set(begins)
    steps = list(steps)
    has_grown = True
    while has_grown:
        more = {step.name for step in steps if again.intersection(step.depends)} - again
        again |= more
        has_grown = bool(more)
    return again


def _kept_within(
    step: Step, workflow: Workflow, states: Mapping[str, StepState]
) -> dict[str, StepState]:
    """What is kept of a step that is done again: finished items, finished steps of inner runs.

    Of a repeated step nothing is: which time what belongs to is not known.
    """
    if step.repeat is not None and step.workflow is not None:
        return {}
    if not step.is_fanned_out:
        return _kept_inside(step.name, step, workflow, states)
    kept: dict[str, StepState] = {}
    for name, item in states.items():
        if name.startswith(f"{step.name}["):
            is_kept = item.status == "success"
            kept |= {name: item} if is_kept else _kept_inside(name, step, workflow, states)
    return kept


def _kept_inside(
    instance: str, step: Step, workflow: Workflow, states: Mapping[str, StepState]
) -> dict[str, StepState]:
    """What is kept of the run that a `workflow` step made."""
    state = states.get(instance)
    if step.workflow is None or state is None or not state.inner:
        return {}
    try:
        inner = kept_states(workflow.called(step.workflow.ref), state.inner)
    except RerunError:
        return {}
    return {f"{instance}/{name}": found for name, found in inner.items()}
