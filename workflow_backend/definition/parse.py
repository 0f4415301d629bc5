"""From text to a valid workflow: the one way that validating, planning and running take."""

from collections.abc import Collection
from dataclasses import dataclass

from workflow_backend.definition.checks import check_workflow
from workflow_backend.definition.documents import Source, read_document
from workflow_backend.definition.lint import LOCAL_RUNNER, lint
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.problems import InvalidWorkflowError, Problem
from workflow_backend.definition.structure import MAX_PROBLEMS, read_structure


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading a definition came to: the workflow if it is valid, else the problems."""

    workflow: Workflow | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def parse_workflow(source: Source) -> Workflow:
    """The valid workflow of a YAML or JSON text, or of an object already read.

    Raises:
        InvalidWorkflowError: With every problem found.
    """
    checked = check_definition(source)
    if checked.workflow is None:
        raise InvalidWorkflowError(checked.problems)
    return checked.workflow


def check_step(source: Source, inputs: Collection[str] = ()) -> Checked:
    """What is wrong with one step by itself, with paths that begin at it.

    The steps that it depends on count as there, and so do the inputs of these names. Never raises
    for bad input; `Checked.workflow` is a workflow of that step.
    """
    try:
        step = read_document(source)
    except InvalidWorkflowError as error:
        return Checked(None, error.problems)
    depends = step.get("depends")
    names = depends if isinstance(depends, list) else []
    before = dict.fromkeys(name for name in names if isinstance(name, str))
    stubs = [
        {"name": name, "run": ":", "timeout": "1m"} for name in before if name != step.get("name")
    ]
    document = {
        "name": "one-step",
        "inputs": {name: {} for name in inputs},
        "steps": [*stubs, dict(step)],
    }
    checked = check_definition(document)
    here = f"steps[{len(stubs)}]"
    return Checked(
        checked.workflow,
        tuple(_relative(problem, here) for problem in checked.problems),
        tuple(_relative(one, here) for one in checked.warnings if one.path.startswith(here)),
    )


def _relative(problem: Problem, here: str) -> Problem:
    # What is wrong elsewhere is a name of those that the step depends on.
    is_here = problem.path.startswith(here)
    path = problem.path.removeprefix(here).removeprefix(".") if is_here else "depends"
    return Problem(path, problem.reason, problem.fix)


def check_definition(source: Source, runners: Collection[str] = (LOCAL_RUNNER,)) -> Checked:
    """The workflow with its warnings, or all that is wrong with it. Never raises for bad input."""
    try:
        data = read_document(source)
    except InvalidWorkflowError as error:
        return Checked(None, error.problems)
    workflow, structural = read_structure(data)
    problems = list(structural)
    if workflow is not None:
        reported = [problem.path for problem in structural]
        problems += [
            problem
            for problem in check_workflow(workflow, MAX_PROBLEMS)
            if not any(problem.path.startswith(path) for path in reported if path)
        ]
    if problems or workflow is None:
        return Checked(None, tuple(dict.fromkeys(problems))[:MAX_PROBLEMS])
    return Checked(workflow, (), tuple(lint(workflow, runners)))
