"""The promise that what is imported is valid: what is not is put in words, or left out.

What a check refuses in a step, such as a URL that is none, is known only when the whole is there.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from pydantic import ValidationError

from workflow_backend.definition.importers.notes import Notes
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.parse import check_definition
from workflow_backend.definition.problems import InvalidWorkflowError, Problem
from workflow_backend.definition.step_checks import check_step

MAX_ROUNDS = 12

_STEP = re.compile(r"(?:workflows\.([\w-]+)\.)?(steps|on_failure|finally)\[(\d+)\]")
_NAMED = re.compile(r"(?:workflows\.([\w-]+)\.)?(inputs|env|outputs)\.(\w+)")
_LISTS = ("steps", "on_failure", "finally")
_OPTIONAL = ("schedule", "concurrency", "timeout", "working_dir", "description", "max_parallel")


def valid_workflow(document: dict[str, object], notes: Notes) -> Workflow:
    """The workflow of the document, mended where it has to be.

    Raises:
        InvalidWorkflowError: It cannot be mended.
    """
    for path, steps, index in _steps_of(document):
        if problem := _fault_of(steps[index], path):
            _put_in_words(steps, index, problem, notes)
    checked = check_definition(document)
    for _ in range(MAX_ROUNDS):
        if checked.workflow is not None:
            return checked.workflow
        # All in one round: a mended step is in words, and no later problem of it counts.
        if {_mend(problem, document, notes) for problem in checked.problems} == {False}:
            break
        checked = check_definition(document)
    if checked.workflow is None:
        raise InvalidWorkflowError(checked.problems)
    return checked.workflow


def _steps_of(document: dict[str, object]) -> Iterator[tuple[str, list[Any], int]]:
    """Every step of the document: its path, its list, its place there."""
    workflows = document.get("workflows")
    bodies: dict[str, object] = {"": document}
    if isinstance(workflows, dict):
        bodies |= {f"workflows.{ref}.": body for ref, body in workflows.items()}
    for prefix, body in bodies.items():
        for key in _LISTS:
            steps = body.get(key) if isinstance(body, dict) else None
            if isinstance(steps, list):
                for index in range(len(steps)):
                    yield f"{prefix}{key}[{index}]", steps, index


def _fault_of(step: object, path: str) -> Problem | None:
    """What is wrong with a step by itself; a whole document is looked at for 50 faults alone."""
    try:
        checked = Step.model_validate(step)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return Problem(f"{path}.{place}", f"{first['msg']}.", "Mend it.")
    return next(check_step(checked, path), None)


def _mend(problem: Problem, document: dict[str, object], notes: Notes) -> bool:
    if match := _STEP.match(problem.path):
        body = _body(document, match.group(1))
        steps = body.get(match.group(2)) if body else None
        index = int(match.group(3))
        if isinstance(steps, list) and index < len(steps):
            return _put_in_words(steps, index, problem, notes)
    if match := _NAMED.match(problem.path):
        body = _body(document, match.group(1))
        named = body.get(match.group(2)) if body else None
        if isinstance(named, dict) and match.group(3) in named:
            return _mend_named(named, match.group(2), match.group(3), problem, notes)
    for key in _OPTIONAL:
        if problem.path.split(".")[0] == key and key in document:
            del document[key]
            notes.add(problem.path, problem.reason, f"`{key}` was left out. {problem.fix}")
            return True
    return False


def _put_in_words(steps: list[Any], index: int, problem: Problem, notes: Notes) -> bool:
    step = steps[index]
    if not isinstance(step, dict):
        return False
    if _is_in_words(step):
        # A name or a dependency of the step: nothing in it is left to give up.
        return False
    notes.add(
        problem.path,
        problem.reason,
        f"The step is in words, so that the rest can be used. {problem.fix}",
    )
    steps[index] = {
        "name": step["name"],
        "needs_command": _words_of(step),
        **({"depends": step["depends"]} if step.get("depends") else {}),
    }
    return True


def _is_in_words(step: Mapping[str, object]) -> bool:
    return "needs_command" in step and set(step) <= {"name", "needs_command", "depends"}


def _words_of(step: Mapping[str, object]) -> str:
    for key in ("needs_command", "description", "run", "python"):
        text = step.get(key)
        plain = text.replace("\0", "").strip() if isinstance(text, str) else ""
        if plain:
            return plain[:2_000]
    return f"Do what the step {step['name']} did"


def _mend_named(
    named: MutableMapping[str, Any], kind: str, name: str, problem: Problem, notes: Notes
) -> bool:
    """An input keeps its name and nothing else; a variable or output is taken out."""
    if kind == "inputs" and named[name] != {}:
        named[name] = {}
        notes.add(problem.path, problem.reason, "The input takes any text.")
        return True
    if kind == "inputs":
        return False
    del named[name]
    notes.add(problem.path, problem.reason, "It was left out.")
    return True


def _body(document: dict[str, object], ref: str | None) -> dict[str, object] | None:
    if ref is None:
        return document
    workflows = document.get("workflows")
    body = workflows.get(ref) if isinstance(workflows, dict) else None
    return body if isinstance(body, dict) else None
