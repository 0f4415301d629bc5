"""What one step is and has: its name, its one action, the values of its keys."""

import contextlib
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from workflow_backend.definition.action_checks import check_actions_of
from workflow_backend.definition.expressions import OPEN, ExpressionError, expressions_in
from workflow_backend.definition.loop_checks import check_loops
from workflow_backend.definition.model import ACTIONS, ActionKind, Step
from workflow_backend.definition.patterns import HEADER_NAME, RESERVED_ENV, STEP_NAME
from workflow_backend.definition.problems import Problem, listed
from workflow_backend.definition.value_checks import check_duration, check_env, slug_of

MAX_ARTEFACTS = 50
MAX_GLOB_CHARACTERS = 500


def check_step(step: Step, path: str) -> Iterator[Problem]:
    """The faults of the step at `path` that it has by itself."""
    for check in _CHECKS:
        yield from check(step, path)


def check_url(path: str, url: str) -> Iterator[Problem]:
    """The faults of an absolute URL; one with expressions is known when they are."""
    if OPEN in url:
        return
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
        has_user = parts.username is not None
        _ = parts.port
    except ValueError:
        is_whole, has_user = False, False
    if not is_whole or re.search(r"[\x00-\x20\x7f]", url):
        yield Problem(
            path, "this is no absolute http or https URL.", "Write it whole: `https://host/path`."
        )
    elif has_user:
        yield Problem(
            path,
            "the URL holds a user or password.",
            "Put it in `headers`, as `Authorization: ${{ secrets.NAME }}`.",
        )


def _check_name(step: Step, path: str) -> Iterator[Problem]:
    if not STEP_NAME.fullmatch(step.name):
        slug = slug_of(step.name, r"[^A-Za-z0-9_-]+")
        if not slug or not STEP_NAME.fullmatch(slug):
            slug = f"step-{slug}"[:64].rstrip("-")
        yield Problem(
            f"{path}.name",
            "a step's name is a letter or `_`, then letters, digits, `-` and `_`, 64 at most.",
            f"Call it `{slug.lower()}`.",
        )


def _actions_of(step: Step) -> list[ActionKind]:
    return [name for name in ACTIONS if getattr(step, name) is not None]


def _check_action(step: Step, path: str) -> Iterator[Problem]:
    given = _actions_of(step)
    if not given:
        others = listed(f"`{name}`" for name in ACTIONS if name not in {"run", "needs_command"})
        yield Problem(
            path,
            "the step does nothing.",
            f"Give it one of `run`, {others} (or `needs_command`, in words).",
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


def _check_keys(step: Step, path: str) -> Iterator[Problem]:
    """The keys for which steps of this kind have no use."""
    given = _actions_of(step)
    if len(given) != 1:
        return
    if "shell" in step.model_fields_set and step.run is None:
        yield Problem(f"{path}.shell", "`shell` belongs to `run` alone.", "Remove it.")
    if step.parse == "json" and step.kind == "needs_command":
        yield Problem(f"{path}.parse", "a step without a command has no output.", "Remove it.")
    for key, kinds in _KEYS.items():
        default = Step.model_fields[key].get_default(call_default_factory=True)
        if step.kind in kinds or getattr(step, key) in (default, None):
            continue
        fix = _INSTEAD.get((step.kind, key), "Remove it.")
        shown = f"an `{step.kind}`" if step.kind[0] in "aeiou" else f"a `{step.kind}`"
        yield Problem(f"{path}.{key}", f"`{key}` has no use in {shown} step.", fix)


def _check_values(step: Step, path: str) -> Iterator[Problem]:
    yield from check_env(f"{path}.env", step.env)
    yield from check_duration(f"{path}.timeout", step.timeout)
    if step.retry is not None:
        yield from check_duration(f"{path}.retry.interval", step.retry.interval)
        yield from check_duration(f"{path}.retry.max_interval", step.retry.max_interval)
        codes = step.retry.on_exit_codes
        if codes is not None and step.kind in {"http", "agent"}:
            yield Problem(
                f"{path}.retry.on_exit_codes",
                f"an {step.kind} step has no exit code.",
                "Remove it.",
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
    yield from check_url(f"{path}.url", request.url)
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


def _check_artefacts(step: Step, path: str) -> Iterator[Problem]:
    if len(step.artefacts) > MAX_ARTEFACTS:
        yield Problem(
            f"{path}.artefacts",
            f"there are {len(step.artefacts)} globs, the limit is {MAX_ARTEFACTS}.",
            "Put the files into a folder, and keep that: `out/**`.",
        )
        return
    for index, glob in enumerate(step.artefacts):
        parts = glob.split("/")
        reason, fix = "", "Write a path below the run's folder, such as `out/*.html`."
        if not glob.strip() or "\0" in glob or len(glob) > MAX_GLOB_CHARACTERS:
            reason = f"a glob has 1 to {MAX_GLOB_CHARACTERS} characters, none of them NUL."
        elif OPEN in glob:
            reason = "globs hold no `${{ }}`."
            fix = "Let the step write to a file of a fixed name."
        elif not parts[0]:
            reason = "a glob is relative to the run's folder."
        elif ".." in parts:
            reason = "a glob stays below the run's folder."
        if reason:
            yield Problem(f"{path}.artefacts[{index}]", reason, fix)


_CHECKS: tuple[Callable[[Step, str], Iterator[Problem]], ...] = (
    _check_name,
    _check_action,
    _check_keys,
    _check_values,
    _check_http,
    check_actions_of,
    check_loops,
    _check_artefacts,
)
_COMMANDS: frozenset[ActionKind] = frozenset({"run", "python", "container", "needs_command"})
_REQUESTS: frozenset[ActionKind] = frozenset({*_COMMANDS, "http"})
_ATTEMPTS: frozenset[ActionKind] = frozenset({*_REQUESTS, "agent"})
# The kinds of step that have a use for a key; the keys left out belong to all.
_KEYS: dict[str, frozenset[ActionKind]] = {
    "env": _REQUESTS,
    "working_dir": _REQUESTS,
    "timeout": _ATTEMPTS,
    "retry": _ATTEMPTS,
    "artefacts": _COMMANDS,
    "parse": _REQUESTS,
    "network": _REQUESTS,
}
_INSTEAD: dict[tuple[ActionKind, str], str] = {
    ("approval", "timeout"): "Write it inside: `approval: {message: ..., timeout: 24h}`.",
    ("wait", "timeout"): "Write it inside: `wait: {signal: ..., timeout: 1h}`.",
    ("workflow", "timeout"): "Give the workflow that it calls a `timeout`.",
    ("workflow", "env"): "Pass values by `inputs`: `workflow: {ref: ..., inputs: {NAME: ...}}`.",
    ("workflow", "working_dir"): "Give the workflow that it calls a `working_dir`.",
    ("workflow", "retry"): "Give the steps of the workflow that it calls a `retry`.",
    ("agent", "env"): "Write the values into `prompt`, as `${{ inputs.NAME }}`.",
    ("agent", "parse"): "Give the agent an `output_schema`; the answer is `outputs.json`.",
    ("agent", "network"): "Remove it; the agent reaches what its `tools` reach.",
    ("http", "artefacts"): "Write the answer to a file in a `run` step, and keep it there.",
    ("approval", "retry"): "Remove it; a person is asked once.",
    ("wait", "retry"): "Remove it; give the wait a longer `timeout`.",
}
