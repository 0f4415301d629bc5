"""The answers of the planner, in Markdown; each says that no model wrote it."""

import json

from providers.code_blocks import fenced
from providers.offline.exchange import ToolAnswer
from streaming.approval_words import decide_words
from streaming.events import JsonObject, JsonValue

NOTE = "_Offline planner: rules, not a model._"
_MAX_OUTPUT = 2_000
_MAX_SHOWN = 12_000

_ABILITIES = """\
- **A workflow you paste** (YAML or JSON): I check it, plan it, and run it if you ask.
- **A numbered or bulleted list**: each item becomes a step. Text in back-quotes or a code block \
is its command; items like "check disk usage of /var", "check memory", "back up /etc" or \
"check https://example.com" I know; any other is marked as needing a command.
- **A template**, found by your words, such as "Create and run a system health check".
- **Questions about runs**: "list runs", "show run <id>", "cancel run <id>", "list templates", \
"list runners"."""


def help_text() -> str:
    """What the planner can do."""
    return _answer(f"I turn requests into workflows and run them. I understand:\n\n{_ABILITIES}")


def no_tools(message: str) -> str:
    """The answer where no workflow tools are offered, so that nothing can be done."""
    said = "I cannot answer this: I am no language model" if message else "I am no language model"
    return _answer(
        f"{said} and have no workflow tools here. Ask the model `kubiya-workflow-agent` to use me "
        "with them, or start the server with a provider such as openai, anthropic or ollama. As "
        f"the agent I understand:\n\n{_ABILITIES}"
    )


def no_template(message: str, templates: list[JsonObject]) -> str:
    """No template fits the words of the request."""
    names = "\n".join(f"- `{item.get('name')}`: {item.get('description')}" for item in templates)
    words = " ".join(message.split())
    words = words if len(words) <= 200 else f"{words[:200]}..."
    return _answer(
        f"No template fits these words: {_quoted(words)}. The templates are:\n\n{names}\n\n"
        "Or write the steps as a list with each command in back-quotes, or paste a workflow."
    )


def template_taken(template: JsonObject) -> str:
    """The line that says which template was chosen."""
    return f"Taking the template `{template.get('name')}`: {template.get('description')}\n\n"


def running(plan: ToolAnswer) -> str:
    """The line before the run."""
    return f"Running `{plan.text_of('workflow')}`.\n\n"


def problems(compiled: ToolAnswer, workflow: JsonValue) -> str:
    """What is wrong with a workflow, with the workflow itself."""
    lines = [
        f"- `{item.get('path') or '(whole document)'}`: {item.get('reason')} {item.get('fix')}"
        for item in compiled.objects("problems")
    ]
    is_text = isinstance(workflow, str)
    shown = workflow if isinstance(workflow, str) else json.dumps(workflow, indent=2)
    shown = fenced(shown[:_MAX_SHOWN], "text" if is_text else "json")
    listed = "\n".join(lines) or "- it is not valid"
    return _answer(f"The workflow is not valid, so nothing was run:\n\n{listed}\n\n{shown}")


def planned(plan: ToolAnswer, *, unmet: list[str], is_asked: bool) -> str:
    """The plan of a workflow that was not run, and why it was not."""
    name = plan.text_of("workflow")
    parts = [f"The workflow `{name}` would do this:\n\n{_planned_steps(plan)}"]
    inputs = plan.arguments.get("inputs")
    if isinstance(inputs, dict):
        values = (f"- `{key}` = `{_one_line(value)}`" for key, value in inputs.items())
        parts.append("With these inputs:\n\n" + "\n".join(values))
    if plan.texts("risks"):
        parts.append("Mind:\n\n" + "\n".join(f"- {risk}" for risk in plan.texts("risks")))
    blockers = plan.texts("blockers")
    if blockers:
        parts.append("It cannot run yet:\n\n" + "\n".join(f"- {text}" for text in blockers))
    parts.append(_definition(plan))
    if unmet:
        words = ", ".join(f"`{word}`" for word in unmet)
        parts.append(f"It is the nearest template, but it knows nothing of {words}.")
    return _answer("\n\n".join(parts), question=_question(plan, is_asked=is_asked))


def run_done(run: ToolAnswer) -> str:
    """What a run came to."""
    status, duration = run.text_of("status"), run.text_of("duration")
    took = f" in {duration}" if duration else ""
    is_waiting = (run.data or {}).get("is_waiting") is True
    came = "waits for a person" if is_waiting else f"ended with **{status}**{took}"
    parts = [f"The workflow `{run.text_of('workflow')}` {came} (run `{run.text_of('run_id')}`)."]
    if is_waiting:
        parts.append(_waits(run))
    if run.text_of("error"):
        parts.append(f"Error: {run.text_of('error')}")
    parts += [_run_step(number, step) for number, step in enumerate(run.objects("steps"), start=1)]
    outputs = (run.data or {}).get("outputs")
    if isinstance(outputs, dict) and outputs:
        parts.append("Outputs:\n\n" + fenced(json.dumps(outputs, indent=2), "json"))
    parts.append(_definition(run))
    return _answer("\n\n".join(parts))


def command_done(answer: ToolAnswer) -> str:
    """The result of a question about runs, templates or the machine."""
    data = json.dumps(answer.data, indent=2, ensure_ascii=False)
    return _answer(f"`{answer.tool}` answers:\n\n{fenced(data[:_MAX_SHOWN], 'json')}")


def tool_failed(answer: ToolAnswer, workflow: str) -> str:
    """A tool refused or failed; what it said, and the workflow if there is one already."""
    parts = [f"`{answer.tool}` did not do it:\n\n{fenced(answer.text[:_MAX_SHOWN], 'text')}"]
    if workflow:
        parts.append(f"The workflow:\n\n{fenced(workflow, 'yaml')}")
    return _answer("\n\n".join(parts))


def _planned_steps(plan: ToolAnswer) -> str:
    lines = []
    for number, step in enumerate(plan.objects("steps"), start=1):
        action = str(step.get("action", ""))
        if step.get("kind") == "needs_command":
            lines.append(f"{number}. `{step.get('name')}`: **needs a command** for {action}")
        else:
            shown = fenced(action[:_MAX_OUTPUT], "sh" if step.get("kind") == "run" else "text")
            lines.append(f"{number}. `{step.get('name')}`\n\n{_indented(shown)}\n")
    return "\n".join(lines).rstrip()


def _question(plan: ToolAnswer, *, is_asked: bool) -> str:
    if plan.texts("needs_command"):
        return (
            "Nothing was run. Give each step that needs a command one: write it in back-quotes "
            "into its item, or replace `needs_command` by `run` above."
        )
    missing = plan.texts("missing_inputs")
    if missing:
        values = " ".join(f"{name}=VALUE" for name in missing)
        return f"Nothing was run. To run it, say: run it with {values}"
    if plan.texts("blockers"):
        return "Nothing was run."
    return f"Nothing was run{' for that reason' if is_asked else ''}. Shall I run it?"


def _run_step(number: int, step: JsonObject) -> str:
    took = f" in {step['duration']}" if step.get("duration") else ""
    lines = [f"{number}. `{step.get('name')}`: {step.get('status')}{took}"]
    if step.get("error"):
        lines.append(f"   Error: {step['error']}")
    output = str(step.get("output") or "").strip("\n")
    if output:
        cut = output if len(output) <= _MAX_OUTPUT else f"{output[:_MAX_OUTPUT]}\n[...]"
        lines.append("\n" + _indented(fenced(cut, "text")))
    return "\n".join(lines)


def _definition(answer: ToolAnswer) -> str:
    """The workflow itself, as the tool was given it."""
    workflow = answer.arguments.get("workflow")
    return f"The workflow:\n\n{fenced(str(workflow), 'yaml')}"


def _waits(run: ToolAnswer) -> str:
    """What a run waits for, and what a person writes; a message of that alone decides."""
    lines = [
        f"- {_one_line(approval.get('message'))} To decide, "
        f"{decide_words(str(approval.get('approval_id')))}."
        for approval in run.objects("approvals")
    ]
    for wait in run.objects("waits"):
        signal = wait.get("signal")
        what = f"the signal `{signal}`" if signal else "its webhook"
        lines.append(f"- The step `{wait.get('step')}` waits for {what}.")
    return "\n".join(lines)


def _one_line(value: JsonValue) -> str:
    return " ".join(str(value).replace("`", "'").split())[:200]


def _quoted(text: str) -> str:
    return '"' + text.replace("`", "'") + '"'


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" if line else "" for line in text.splitlines())


def _answer(text: str, question: str = "") -> str:
    """The question comes last, so that a bare yes answers it."""
    parts = [text, NOTE, question] if question else [text, NOTE]
    return "\n\n".join(parts) + "\n"
