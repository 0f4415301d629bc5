"""The actions that are no scripts or requests: approvals, waits, agents, containers."""

from collections.abc import Iterator

from workflow_backend.definition.actions import Approval, Wait
from workflow_backend.definition.json_schemas import JsonSchemaError, check_json_schema
from workflow_backend.definition.model import Step
from workflow_backend.definition.patterns import MODEL_NAME, SIGNAL_NAME, TOOL_NAME
from workflow_backend.definition.problems import Problem
from workflow_backend.definition.value_checks import check_duration, check_specs, slug_of

MAX_FIELDS = 50
MAX_TOOLS = 64


def check_actions_of(step: Step, path: str) -> Iterator[Problem]:
    """The faults of what the step at `path` does."""
    if step.approval is not None:
        yield from _check_approval(f"{path}.approval", step.approval)
    if step.wait is not None:
        yield from _check_wait(f"{path}.wait", step.wait)
    yield from _check_agent(f"{path}.agent", step)
    if step.container is not None and not step.container.image.strip():
        yield Problem(f"{path}.container.image", "the image has no name.", "Name it.")


def _check_approval(path: str, approval: Approval) -> Iterator[Problem]:
    if not approval.message.strip():
        yield Problem(f"{path}.message", "the message is empty.", "Say what is to be approved.")
    if len(approval.form) > MAX_FIELDS:
        yield Problem(
            f"{path}.form",
            f"the form has {len(approval.form)} fields, the limit is {MAX_FIELDS}.",
            "Ask for less, or in several steps.",
        )
        return
    yield from check_specs(f"{path}.form", approval.form, "field")
    yield from check_duration(f"{path}.timeout", approval.timeout)
    if approval.on_timeout != "fail" and approval.timeout is None:
        yield _no_timeout(path, approval.on_timeout, "24h")
    needed = [
        name for name, spec in approval.form.items() if spec.required and spec.default is None
    ]
    if approval.on_timeout == "approve" and needed:
        yield Problem(
            f"{path}.on_timeout",
            f"when the time is over, nobody has given `{needed[0][:64]}`, which is required.",
            "Give the field a `default`, or write `on_timeout: fail`.",
        )


def _check_wait(path: str, wait: Wait) -> Iterator[Problem]:
    given = [
        name
        for name, value in (("for", wait.for_), ("signal", wait.signal), ("webhook", wait.webhook))
        if value is not None
    ]
    if len(given) != 1:
        shown = " and ".join(f"`{name}`" for name in given) or "nothing to wait for"
        yield Problem(
            path,
            f"the wait has {shown}.",
            "Give it exactly one: `for: 10m`, `signal: NAME` or `webhook: true`.",
        )
        return
    yield from check_duration(f"{path}.for", wait.for_)
    yield from check_duration(f"{path}.timeout", wait.timeout)
    if wait.for_ is not None and wait.timeout is not None:
        yield Problem(f"{path}.timeout", "a timer has an end anyway.", "Remove it.")
    elif wait.on_timeout != "fail" and wait.timeout is None:
        yield _no_timeout(path, wait.on_timeout, "1h")
    if wait.signal is not None and not SIGNAL_NAME.fullmatch(wait.signal):
        slug = slug_of(wait.signal, r"[^A-Za-z0-9_-]+")
        yield Problem(
            f"{path}.signal",
            "a signal's name is a letter or `_`, then letters, digits, `-` and `_`, 64 at most.",
            f"Call it `{slug if SIGNAL_NAME.fullmatch(slug) else 'done'}`.",
        )


def _no_timeout(path: str, on_timeout: str, example: str) -> Problem:
    return Problem(
        f"{path}.on_timeout",
        f"without `timeout` there is no time after which to {on_timeout}.",
        f"Add `timeout: {example}`, or remove this.",
    )


def _check_agent(path: str, step: Step) -> Iterator[Problem]:
    agent = step.agent
    if agent is None:
        return
    if not agent.prompt.strip():
        yield Problem(f"{path}.prompt", "the prompt is empty.", "Say what is to be done.")
    if agent.model is not None and not MODEL_NAME.fullmatch(agent.model):
        yield Problem(
            f"{path}.model",
            "a model's name has 1 to 200 characters, and no spaces.",
            "Write it as `provider/model`, or leave it out.",
        )
    if len(agent.tools) > MAX_TOOLS:
        yield Problem(
            f"{path}.tools",
            f"there are {len(agent.tools)} tools, the limit is {MAX_TOOLS}.",
            "Name those that the task needs.",
        )
        return
    for index, name in enumerate(agent.tools):
        if not TOOL_NAME.fullmatch(name):
            yield Problem(
                f"{path}.tools[{index}]",
                f"{name[:64]!r} is no name of a tool.",
                "Use letters, digits, `_`, `-`, `.`: `list_runs`, or `server__tool`.",
            )
        elif name in agent.tools[:index]:
            yield Problem(f"{path}.tools[{index}]", "the tool is named twice.", "Remove one.")
    if agent.output_schema is None:
        return
    try:
        check_json_schema(agent.output_schema)
    except JsonSchemaError as error:
        yield Problem(f"{path}.output_schema", str(error), error.fix)
