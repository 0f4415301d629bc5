"""What a step of another format does, as an action of ours: a table by the executor's type."""

from collections.abc import Callable, Mapping

from workflow_backend.definition.importers.draft import Context, StepDraft
from workflow_backend.definition.importers.fields import EXECUTOR, STEP
from workflow_backend.definition.importers.model_actions import (
    read_agent,
    read_completion,
    read_inline_agent,
)
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.requests import read_http
from workflow_backend.definition.importers.scripts import (
    Script,
    ScriptWriter,
    command_text,
    is_like_bash,
    language_of,
    script_of,
)
from workflow_backend.definition.importers.sub_workflows import called_name, read_call

Reader = Callable[[Fields, Fields, StepDraft, Context], None]


def read_action(step: Fields, draft: StepDraft, context: Context) -> None:
    """Give the draft the action of the step."""
    kind, config = _executor(step)
    call = called_name(step, context) if kind in {"", "dag", "subworkflow", "workflow"} else None
    if call is not None or kind in {"dag", "subworkflow", "workflow"}:
        read_call(call or config.text("dag", "name"), step, config, draft, context)
    elif kind in _READERS:
        _READERS[kind](step, config, draft, context)
    else:
        _in_words(kind, step, config, draft)
    config.finish(_CONFIG_REASONS)


def _executor(step: Fields) -> tuple[str, Fields]:
    """The type of the executor and its settings, in the forms of all versions."""
    executor = step.take(*STEP["executor"])
    path = step.at(*STEP["executor"])
    if isinstance(executor, Mapping):
        fields = Fields(executor, path, step.notes)
        kind = fields.text(*EXECUTOR["type"])
        config = fields.mapping(*EXECUTOR["config"])
        fields.finish()
    else:
        kind = scalar_text(executor) if isinstance(executor, str) else ""
        kind = kind or step.text("type") or step.text("action")
        config = step.mapping("config", "with")
    name = kind.strip().lower().replace("-", "_")
    return _ALIASES.get(name, name), config or Fields({}, f"{path}.config", step.notes)


def _read_command(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """A shell command or script; with an image it belongs into a container."""
    image = step.text(*STEP["image"]) or _image_of(step, config) or context.image or ""
    given = step.take(*STEP["shell"]) or config.take("shell")
    shell = context.shell
    if given:
        shell = _shell(given, step, draft)
    run = step.take(*STEP["run"])
    command = step.take(*STEP["command"])
    script = step.text(*STEP["script"])
    found = script_of(command if command is not None else run, script, shell)
    where = step.at(*(STEP["script"] if script else STEP["command"]))
    if image:
        _into_container(image, found, where, draft)
    else:
        ScriptWriter(draft).write(found, where)


def _read_docker(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    image = config.text("image") or step.text(*STEP["image"]) or context.image or ""
    command = config.take("command") or config.take("content") or step.take(*STEP["command"])
    step.take(*STEP["shell"])
    script = step.text(*STEP["script"])
    found = script_of(command, script, "sh")
    if not image:
        config.note("image", "the container has no image.", "The step says in words what it does.")
        draft.in_words(f"Run in a container: {command_text(command) or script}")
        return
    _into_container(image, found, step.at(*STEP["command"]), draft)


def _into_container(image: str, script: Script, where: str, draft: StepDraft) -> None:
    """A container that runs the script by its own shell."""
    notes = draft.texts.scope.notes
    notes.add(
        where,
        f"the step runs in a container of {image[:100]!r}.",
        "It is a `container` step, which this server plans but does not run yet.",
    )
    container: dict[str, object] = {"image": image}
    if script.text.strip():
        text = ScriptWriter(draft).shell_text(script, where)
        container["command"] = ["python3" if script.language == "python" else "sh", "-c", text]
    draft.data["container"] = container


def _read_tool(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """A tool: one that the step defines is a container with its arguments as variables."""
    definition = config.mapping("tool_def")
    arguments = config.take("args")
    if definition is None:
        name = config.text("tool_name", "name")
        config.note("tool_name", "tools of Kubiya's platform are not here.", _WORDS)
        draft.in_words(f"Call the tool {name} of Kubiya with {arguments or 'no arguments'}")
        return
    given = draft.texts.variables(arguments, config.at("args"))
    draft.env.update(given)
    image, content = definition.text("image"), definition.text("content")
    step.take(*STEP["command"])
    kind = definition.text("type")
    definition.take("name")
    definition.take("args")
    if description := definition.text("description"):
        draft.data.setdefault("description", description)
    definition.finish()
    script = Script(language_of(kind) if kind == "python" else "sh", content)
    if image and kind != "python":
        _into_container(image, script, definition.at("content"), draft)
    else:
        ScriptWriter(draft).write(script, definition.at("content"))


def _read_jq(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """A query of JSON: the program `jq`, which must be on the machine."""
    query = config.text("query", "filter") or command_text(step.take(*STEP["command"]))
    data = step.text(*STEP["script"]) or scalar_text(config.take("data", "input"))
    draft.env["JQ_QUERY"] = draft.texts.template(query, step.at(*STEP["command"]))
    draft.env["JQ_INPUT"] = draft.texts.template(data, step.at(*STEP["script"]))
    option = "-r " if config.take("raw") is True else ""
    draft.data["run"] = f'printf \'%s\' "$JQ_INPUT" | jq {option}"$JQ_QUERY"\n'


def _read_approval(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    draft.data["approval"] = approval_of(config, draft, f"Approve {draft.name}?")


def approval_of(fields: Fields, draft: StepDraft, question: str) -> dict[str, object]:
    """An approval of ours; what it collects is the form."""
    prompt = fields.text("prompt", "message", "description") or question
    names = fields.take("input", "inputs")
    needed = fields.take("required")
    required = set(map(str, needed)) if isinstance(needed, list) else set()
    form = {
        str(name): {"required": True} if str(name) in required else {}
        for name in (names if isinstance(names, list) else [])
    }
    approval: dict[str, object] = {
        "message": draft.texts.template(prompt, fields.at("prompt", "message"))
    }
    return {**approval, "form": form} if form else approval


def _shell(given: object, step: Fields, draft: StepDraft) -> str:
    words = given if isinstance(given, str) else command_text(given)
    language = language_of(words)
    if is_like_bash(words):
        step.note(STEP["shell"], f"there is no shell {words[:40]!r}.", "It is `bash`.")
    elif language in {"sh", "bash"} and len(words.split()) > 1:
        step.note(STEP["shell"], "a shell gets no arguments.", "Write `set -e` and the like.")
    return language


def _image_of(step: Fields, config: Fields) -> str:
    """The image of a `container` of the step, or of the settings."""
    container = step.take(*STEP["container"])
    if isinstance(container, str):
        return container
    if not isinstance(container, Mapping):
        return config.text("image") if config.has("image") else ""
    fields = Fields(container, step.at(*STEP["container"]), step.notes)
    image = fields.text("image") or fields.text("exec")
    fields.finish(_CONFIG_REASONS)
    return image


def _in_words(kind: str, step: Fields, config: Fields, draft: StepDraft) -> None:
    """An executor that has no counterpart: the step says in words what it should do."""
    step.note(STEP["executor"], f"there is no executor {kind[:40]!r} here.", _WORDS)
    what = command_text(step.take(*STEP["command"])) or step.text(*STEP["script"])
    settings = config.peek("url", "host", "to", "source", "query", "image")
    detail = ": ".join(text for text in (scalar_text(settings), what) if text)
    draft.in_words(f"By {kind or 'another executor'}: {detail or draft.name}")


_WORDS = "The step says in words what it does; give it a command before it can run."
_CONFIG_REASONS = {
    "silent": ("only the body of an answer is kept.", "Nothing was lost."),
    "debug": ("requests are not logged.", ""),
    "volumes": ("a step sees its run's folder alone.", ""),
    "pull": ("images are not pulled here.", ""),
    "auto_remove": ("containers are not kept.", "Nothing was lost."),
}
_ALIASES = {
    "": "", "command": "", "shell": "", "exec": "", "bash": "", "sh": "", "local": "",
    "container": "docker", "docker.run": "docker",
    "http.request": "http", "request": "http",
    "chat": "llm_completion", "chat.completion": "llm_completion", "llm": "llm_completion",
    "hitl": "approval", "human.task": "approval", "human_task": "approval",
    "dag.run": "dag", "jq.filter": "jq",
}  # fmt: skip
_READERS: dict[str, Reader] = {
    "": _read_command,
    "docker": _read_docker,
    "tool": _read_tool,
    "http": read_http,
    "jq": _read_jq,
    "approval": _read_approval,
    "inline_agent": read_inline_agent,
    "agent": read_agent,
    "llm_completion": read_completion,
}
