"""Steps that ask a model, as `agent` steps of ours."""

from collections.abc import Mapping

from workflow_backend.definition.importers.draft import Context, StepDraft
from workflow_backend.definition.importers.fields import STEP
from workflow_backend.definition.importers.notes import Fields, scalar_text


def read_inline_agent(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """An agent that the step defines."""
    agent = config.mapping("agent") or Fields({}, config.at("agent"), config.notes)
    _write(
        draft,
        prompt=config.text("message", "prompt") or _command(step),
        path=config.at("message"),
        system=agent.text("ai_instructions", "system", "instructions"),
        model=agent.text("llm_model", "model"),
    )
    agent.take("name")
    agent.finish(_AGENT_REASONS)


def read_agent(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """An agent of Kubiya's platform, which is known there by its name alone."""
    name = config.text("agent_name", "name", "agent_id")
    if name:
        config.note(
            ("agent_name", "name", "agent_id"),
            f"the agent {name[:60]!r} of Kubiya is not here.",
            "The server's own model gets the message; add instructions in `system`.",
        )
    _write(
        draft,
        prompt=config.text("message", "prompt") or _command(step),
        path=config.at("message"),
        system=config.text("ai_instructions", "system"),
        model=config.text("llm_model", "model"),
    )
    config.finish(_AGENT_REASONS)


def read_completion(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """A conversation with a model: its system messages, and the others as one prompt."""
    llm = step.mapping("llm") or config
    messages = step.take("messages") or config.take("messages")
    system = [llm.text("system")]
    prompts: list[str] = []
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, Mapping):
            text = scalar_text(message.get("content"))
            (system if message.get("role") == "system" else prompts).append(text)
    provider, model = llm.text("provider"), llm.text("model")
    _write(
        draft,
        prompt="\n\n".join(prompts) or config.text("prompt", "message") or _command(step),
        path=step.at("messages"),
        system="\n\n".join(text for text in system if text),
        model=f"{provider}/{model}" if provider and model else model,
    )
    for key in ("api_key", "api_key_name"):
        if llm.take(key):
            llm.note(key, "the server has the keys of models.", "Nothing was lost.")
    llm.finish(_AGENT_REASONS)


def _write(draft: StepDraft, *, prompt: str, path: str, system: str, model: str) -> None:
    agent: dict[str, object] = {"prompt": draft.texts.template(prompt or draft.name, path)}
    if system:
        agent["system"] = draft.texts.template(system, path)
    if model:
        agent["model"] = model
        if "/" not in model:
            draft.texts.scope.notes.add(
                path,
                f"the model {model[:60]!r} names no provider.",
                "The server's own provider is asked for it; write `provider/model` for another.",
            )
    draft.data["agent"] = agent


def _command(step: Fields) -> str:
    return step.text(*STEP["command"]) or step.text(*STEP["script"])


_AGENT_REASONS = {
    "tools": (
        "tools of the platform are not here.",
        "The agent has none; name tools of this server in `agent.tools`.",
    ),
    "runners": ("an agent runs on this server.", ""),
    "is_debug_mode": ("there is no such mode.", ""),
    "evaluate": ("there is no such mode.", ""),
}
