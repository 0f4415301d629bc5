"""The meaning of a workflow whose structure is right: names, actions, values, graph."""

import contextlib
import re
from collections.abc import Callable, Iterator
from itertools import islice
from urllib.parse import urlsplit

from workflow_backend.definition.actions import HttpRequest
from workflow_backend.definition.durations import DurationError, parse_duration
from workflow_backend.definition.expressions import OPEN, ExpressionError, expressions_in
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.patterns import (
    HEADER_NAME,
    RESERVED_ENV,
    STEP_NAME,
    VARIABLE_NAME,
    WORKFLOW_NAME,
)
from workflow_backend.definition.problems import Problem, closest, listed
from workflow_backend.definition.reference_checks import check_references
from workflow_backend.definition.values import MAX_PATTERNS, check_input

MAX_CYCLE_NAMES = 20

_ACTIONS = ("run", "python", "http", "needs_command")


def check_workflow(workflow: Workflow, max_problems: int) -> list[Problem]:
    """The faults in the meaning of the workflow, in the order of the document.

    No more are looked for than wanted: to name what was meant takes long among thousands of steps.
    """
    return list(islice(_check(workflow), max_problems))


def _check(workflow: Workflow) -> Iterator[Problem]:
    yield from _check_top(workflow)
    for index, step in enumerate(workflow.steps):
        for check in _STEP_CHECKS:
            yield from check(step, f"steps[{index}]")
    has_graph = True
    for problem in _check_graph(workflow):
        has_graph = False
        yield problem
    if has_graph:
        yield from check_references(workflow)


def _check_top(workflow: Workflow) -> Iterator[Problem]:
    if not WORKFLOW_NAME.fullmatch(workflow.name):
        slug = _slug(workflow.name, r"[^A-Za-z0-9 ._-]+") or "my-workflow"
        yield Problem(
            "name",
            "the name has characters that are not allowed, or over 100.",
            f"Use letters, digits, spaces, `.`, `_`, `-`: `name: {slug}`.",
        )
    yield from _check_duration("timeout", workflow.timeout)
    yield from _check_env("env", workflow.env)
    patterns = sum(spec.pattern is not None for spec in workflow.inputs.values())
    if patterns > MAX_PATTERNS:
        yield Problem(
            "inputs",
            f"{patterns} inputs have a `pattern`, the limit is {MAX_PATTERNS}.",
            "Check the others in a step.",
        )
        return
    for name, spec in workflow.inputs.items():
        path = f"inputs.{name[:64]}"
        if not VARIABLE_NAME.fullmatch(name):
            slug = _slug(name, r"\W+").replace("-", "_")
            yield Problem(
                path,
                "an input's name is a letter or `_`, then letters, digits, `_`.",
                f"Call it `{slug or 'value'}`.",
            )
        yield from check_input(path, spec)
    for name in workflow.outputs:
        if not VARIABLE_NAME.fullmatch(name):
            slug = _slug(name, r"\W+").replace("-", "_")
            yield Problem(
                f"outputs.{name[:64]}",
                "an output's name is a letter or `_`, then letters, digits, `_`.",
                f"Call it `{slug or 'result'}`.",
            )


def _check_name(step: Step, path: str) -> Iterator[Problem]:
    if not STEP_NAME.fullmatch(step.name):
        slug = _slug(step.name, r"[^A-Za-z0-9_-]+")
        if not slug or not STEP_NAME.fullmatch(slug):
            slug = f"step-{slug}"[:64].rstrip("-")
        yield Problem(
            f"{path}.name",
            "a step's name is a letter or `_`, then letters, digits, `-` and `_`, 64 at most.",
            f"Call it `{slug.lower()}`.",
        )


def _check_action(step: Step, path: str) -> Iterator[Problem]:
    given = [name for name in _ACTIONS if getattr(step, name) is not None]
    if not given:
        yield Problem(
            path,
            "the step does nothing.",
            "Give it one of `run`, `python`, `http` (or `needs_command`, in words).",
        )
    elif len(given) > 1:
        yield Problem(
            path,
            f"the step has {' and '.join(f'`{name}`' for name in given)}.",
            "Keep one, and make a step of its own of each other.",
        )
    for key in ("run", "python", "needs_command"):
        text: str | None = getattr(step, key)
        if text is None:
            continue
        if not text.strip():
            yield Problem(f"{path}.{key}", "the text is empty.", "Write what the step does.")
        if "\0" in text:
            yield Problem(f"{path}.{key}", "the text has a NUL character.", "Remove it.")
        if OPEN in text and key != "needs_command":
            yield _interpolation(f"{path}.{key}", key, text)
    if "shell" in step.model_fields_set and step.run is None and given:
        yield Problem(f"{path}.shell", "`shell` belongs to `run` alone.", "Remove it.")
    if step.parse == "json" and step.kind == "needs_command" and given:
        yield Problem(f"{path}.parse", "a step without a command has no output.", "Remove it.")


def _interpolation(path: str, key: str, text: str) -> Problem:
    """`${{ }}` inside a script: the hole through which data becomes code."""
    source = "inputs.value"
    with contextlib.suppress(ExpressionError, IndexError):
        source = expressions_in(text)[0]
    words = re.findall(r"[A-Za-z][A-Za-z0-9_]*", source)
    meaning = [word for word in words if word not in {"stdout", "outputs", "status"}]
    name = (meaning[-1] if meaning else "value").upper()
    if name in RESERVED_ENV:
        name += "_VALUE"
    use = f'"${name}"' if key == "run" else f'os.environ["{name}"]'
    return Problem(
        path,
        f"`${{{{ }}}}` is not allowed inside `{key}`: data would become code.",
        f'Put it in env and use {use}: `env: {{{name}: "${{{{ {source} }}}}"}}`.',
    )


def _check_values(step: Step, path: str) -> Iterator[Problem]:
    yield from _check_env(f"{path}.env", step.env)
    yield from _check_duration(f"{path}.timeout", step.timeout)
    if step.retry is not None:
        yield from _check_duration(f"{path}.retry.interval", step.retry.interval)
        yield from _check_duration(f"{path}.retry.max_interval", step.retry.max_interval)
        codes = step.retry.on_exit_codes
        if codes is not None and step.http is not None:
            yield Problem(
                f"{path}.retry.on_exit_codes", "an http step has no exit code.", "Remove it."
            )
        elif codes is not None and not all(1 <= code <= 255 for code in codes):
            yield Problem(
                f"{path}.retry.on_exit_codes",
                "an exit code of a failure is 1 to 255.",
                "List such codes.",
            )


def _check_http(step: Step, path: str) -> Iterator[Problem]:
    request = step.http
    if request is None:
        return
    path = f"{path}.http"
    yield from _check_url(f"{path}.url", request)
    for name, value in request.headers.items():
        if not HEADER_NAME.fullmatch(name):
            yield Problem(f"{path}.headers", f"{name[:64]!r} is no header name.", "Mend the name.")
        if re.search(r"[\0\r\n]", value):
            yield Problem(
                f"{path}.headers.{name[:64]}", "the value has a line break.", "Remove it."
            )
    if request.body is not None and "json_body" in request.model_fields_set:
        yield Problem(path, "the request has `body` and `json`.", "Keep one of them.")
    for status in request.expect_status or ():
        if not 100 <= status <= 599:
            yield Problem(
                f"{path}.expect_status", f"{status} is no HTTP status.", "Use 100 to 599."
            )


def _check_url(path: str, request: HttpRequest) -> Iterator[Problem]:
    if OPEN in request.url:
        return
    try:
        url = urlsplit(request.url)
        is_whole = url.scheme in {"http", "https"} and bool(url.hostname)
        has_user = url.username is not None
        _ = url.port
    except ValueError:
        is_whole, has_user = False, False
    if not is_whole or re.search(r"[\x00-\x20\x7f]", request.url):
        yield Problem(
            path, "this is no absolute http or https URL.", "Write it whole: `https://host/path`."
        )
    elif has_user:
        yield Problem(
            path,
            "the URL holds a user or password.",
            "Put it in `headers`, as `Authorization: ${{ secrets.NAME }}`.",
        )


def _check_graph(workflow: Workflow) -> Iterator[Problem]:
    names = [step.name for step in workflow.steps]
    known = set(names)
    first: dict[str, int] = {}
    for index, step in enumerate(workflow.steps):
        path = f"steps[{index}]"
        if first.setdefault(step.name, index) != index:
            yield Problem(
                f"{path}.name",
                f"steps[{first[step.name]}] has the name `{step.name[:64]}` already.",
                "Give each step a name of its own.",
            )
        for at, name in enumerate(step.depends):
            if name in known and name != step.name:
                continue
            meant = closest(name, known - {step.name})
            if name == step.name:
                reason, fix = "the step depends on itself.", "Remove it."
            else:
                reason = f"there is no step `{name[:64]}`."
                fix = f"Did you mean `{meant}`?" if meant else f"The steps are {listed(names)}."
            yield Problem(f"{path}.depends[{at}]", reason, fix)
    if len(first) < len(names):
        return
    positions = {name: index for index, name in enumerate(names)}
    for cycle in StepGraph(workflow.steps).cycles():
        if len(cycle) > 2:
            yield Problem(
                f"steps[{positions[cycle[0]]}].depends",
                f"these steps wait for each other: {_arrows(cycle)}.",
                f"Remove one, such as `{cycle[1]}` from the `depends` of `{cycle[0]}`.",
            )


def _arrows(cycle: list[str]) -> str:
    """The cycle as `a -> b -> a`; the middle of a long one is left out."""
    shown = [name[:64] for name in cycle]
    if len(shown) > MAX_CYCLE_NAMES:
        half = MAX_CYCLE_NAMES // 2
        left_out = f"... {len(shown) - 2 * half} more ..."
        shown = [*shown[:half], left_out, *shown[-half:]]
    return " -> ".join(shown)


def _check_env(path: str, env: dict[str, str]) -> Iterator[Problem]:
    for name, value in env.items():
        if not VARIABLE_NAME.fullmatch(name):
            slug = _slug(name, r"\W+").replace("-", "_").upper() or "VALUE"
            yield Problem(
                f"{path}.{name[:64]}",
                "a variable's name is a letter or `_`, then letters, digits, `_`.",
                f"Call it `{slug}`.",
            )
        elif name in RESERVED_ENV:
            yield Problem(f"{path}.{name}", f"`{name}` is set by the engine.", "Use another name.")
        if "\0" in value:
            yield Problem(f"{path}.{name[:64]}", "the value has a NUL character.", "Remove it.")


def _check_duration(path: str, text: str | None) -> Iterator[Problem]:
    if text is None:
        return
    try:
        parse_duration(text)
    except DurationError as error:
        yield Problem(path, f"{text[:40]!r} is no duration.", f"{str(error).capitalize()}.")


def _slug(text: str, refused: str) -> str:
    """The text with what is not allowed as single dashes, cut to 64."""
    return re.sub(refused, "-", text.encode("ascii", "ignore").decode()).strip("- ")[:64]


_STEP_CHECKS: tuple[Callable[[Step, str], Iterator[Problem]], ...] = (
    _check_name,
    _check_action,
    _check_values,
    _check_http,
)
