"""The rules: from what has been said and done to the next move. No model, no state, no chance.

A workflow in the message is taken as it is; a list becomes a workflow of its items; a bare order
("run it") means the last workflow of the conversation; anything else asks for the template that
fits its words. Then: compile, plan, and - if the message orders it and the plan allows it - run.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from providers.chat_request import ChatRequest
from providers.code_blocks import prose_of
from providers.offline import answers
from providers.offline.actions import action_step
from providers.offline.drafts import draft_workflow
from providers.offline.exchange import Exchange, ToolAnswer, read_exchange
from providers.offline.request_items import RequestItem, RequestList, find_definition, find_list
from providers.offline.request_words import content_words, input_values, words_of
from providers.run_intent import asks_to_run
from streaming.events import JsonObject, JsonValue

NEEDED_TOOLS = frozenset({"compile_workflow", "plan_workflow", "list_templates", "get_template"})


@dataclass(frozen=True, slots=True)
class Move:
    """What the planner does next: says a text, then calls a tool, or is done without one."""

    text: str
    tool: str | None = None
    arguments: JsonObject | None = None


def next_move(request: ChatRequest) -> Move:
    """The next move in the conversation; the same messages always give the same."""
    tools = {tool.name for tool in request.tools}
    exchange = read_exchange(request.messages)
    if not tools >= NEEDED_TOOLS:
        return Move(answers.no_tools(exchange.message))
    for tool, follow_up in _FOLLOW_UPS:
        answer = exchange.answers.get(tool)
        if answer is None:
            continue
        if answer.is_error or answer.data is None:
            return Move(answers.tool_failed(answer, _workflow_text(exchange)))
        return follow_up(exchange, answer, tools)
    return _begin(exchange, tools)


def _begin(exchange: Exchange, tools: set[str]) -> Move:
    message = exchange.message
    definition = find_definition(message)
    if definition is not None:
        return _compile("Checking the workflow you gave.", definition)
    command = _command(message, tools)
    if command is not None:
        return command
    found = find_list(message)
    if found is not None:
        return _compile("Creating a workflow from your list.", draft_workflow(found))
    wanted = content_words(message)
    before = exchange.workflow_before
    if before is not None and _means(wanted, before, message, exchange.assistant_before):
        return _compile("Taking the workflow from above.", before)
    if not wanted and not _orders_something(message):
        return Move(answers.help_text())
    return Move("Looking for a template that fits.\n\n", "list_templates", {"query": message[:500]})


def _means(wanted: set[str], before: str, message: str, assistant_before: str) -> bool:
    """Whether a message speaks of the workflow before it and of nothing else."""
    name = re.search(r"(?m)^[ \t{]*\"?name\"?[ \t]*:[ \t]*(.+)$", before)
    named = wanted <= words_of([name[1]] if name else [])
    return named and (bool(wanted) or _says_anything(message, assistant_before))


def _says_anything(message: str, assistant_before: str) -> bool:
    return asks_to_run(message, assistant_before) or bool(_ABOUT_IT.search(message))


_ABOUT_IT = re.compile(r"\b(?:it|that|this|them|plan|show|workflow|again)\b|\w+\s*=", re.IGNORECASE)


# "Create a workflow to ... and run it": what stands around the thing to do.
_ORDER_AROUND = re.compile(
    r"^(?:please )?(?:create|write|make|build|run|execute)(?: and (?:run|execute))?(?: me)?"
    r"(?: an?)?(?: workflow)?(?: (?:to|that|for|which))? (?=\S)"
    r"|,?(?: and| then)+ (?:run|execute) it(?: now)?[.!]?$",
    re.IGNORECASE,
)


def _orders_something(message: str) -> bool:
    return bool(re.search(r"\b(?:workflow|check|system|test|automat\w+)", message, re.IGNORECASE))


def _after_templates(exchange: Exchange, answer: ToolAnswer, _: set[str]) -> Move:
    if "query" not in answer.arguments:
        return Move(answers.command_done(answer))
    best = answer.text_of("best")
    chosen = next((item for item in answer.objects("templates") if item.get("name") == best), None)
    if chosen is None:
        wanted = _ORDER_AROUND.sub("", " ".join(exchange.message.split()))
        if action_step(wanted) is not None:
            single = RequestList([RequestItem(wanted)])
            return _compile("Creating a workflow of one step.", draft_workflow(single))
        return Move(answers.no_template(exchange.message, answer.objects("templates")))
    return Move(answers.template_taken(chosen), "get_template", {"name": best})


def _after_template(_: Exchange, answer: ToolAnswer, __: set[str]) -> Move:
    return _compile("", answer.text_of("workflow"))


def _after_compile(exchange: Exchange, answer: ToolAnswer, _: set[str]) -> Move:
    if (answer.data or {}).get("valid") is not True:
        return Move(answers.problems(answer, answer.arguments.get("workflow")))
    inputs = input_values(_words_around_definition(exchange.message), answer.objects("inputs"))
    if _is_about_workflow_before(exchange):
        words = _words_around_definition(exchange.request_before)
        inputs = {**input_values(words, answer.objects("inputs")), **inputs}
    arguments: JsonObject = {"workflow": answer.text_of("workflow")}
    if inputs:
        arguments["inputs"] = dict(inputs)
    return Move("", "plan_workflow", arguments)


def _words_around_definition(message: str) -> str:
    """The message without the workflow in it: what a workflow says names no inputs."""
    definition = find_definition(message)
    return message if definition is None else prose_of(message).replace(definition, " ")


def _is_about_workflow_before(exchange: Exchange) -> bool:
    """Whether what was compiled is neither a template nor in the message itself."""
    if "get_template" in exchange.answers or find_definition(exchange.message) is not None:
        return False
    return exchange.workflow_before is not None and find_list(exchange.message) is None


def _after_plan(exchange: Exchange, answer: ToolAnswer, tools: set[str]) -> Move:
    unmet = _unmet_words(exchange)
    is_asked = asks_to_run(exchange.message, exchange.assistant_before)
    can_run = (answer.data or {}).get("can_run") is True
    if is_asked and can_run and not unmet and "execute_workflow" in tools:
        return Move(answers.running(answer), "execute_workflow", dict(answer.arguments))
    return Move(answers.planned(answer, unmet=unmet, is_asked=is_asked))


def _after_run(_: Exchange, answer: ToolAnswer, __: set[str]) -> Move:
    return Move(answers.run_done(answer))


def _after_command(_: Exchange, answer: ToolAnswer, __: set[str]) -> Move:
    return Move(answers.command_done(answer))


def _unmet_words(exchange: Exchange) -> list[str]:
    """What is asked for and the template does not speak of, if that is half of it or more."""
    template = exchange.answers.get("get_template")
    if template is None:
        return []
    texts = [template.text_of(key) for key in ("name", "title", "description", "workflow")]
    wanted = content_words(exchange.message)
    unmet = wanted - words_of([*texts, *template.texts("keywords")])
    return sorted(unmet) if 2 * len(unmet) >= len(wanted) and unmet else []


def _workflow_text(exchange: Exchange) -> str:
    """The workflow in its normal form, once there is one."""
    compiled = exchange.answers.get("compile_workflow")
    return compiled.text_of("workflow") if compiled else ""


def _compile(text: str, workflow: JsonValue) -> Move:
    return Move(f"{text}\n\n" if text else "", "compile_workflow", {"workflow": workflow})


def _command(message: str, tools: set[str]) -> Move | None:
    words = re.sub(r"\s+", " ", message[:300]).strip().rstrip(".!?")
    for pattern, tool in _COMMANDS.items():
        match = re.fullmatch(pattern, words, re.IGNORECASE)
        if match and tool in tools:
            return Move("", tool, dict(match.groupdict()))
    return None


_SHOW = (
    r"(?:(?:please )?(?:list|show|what are|which are|tell me)(?: me)? )?"
    r"(?:all |the |my |available )*"
)
_RUN_ID = r"(?:run )?(?P<run_id>[0-9a-zA-Z_-]{8,64})"
_COMMANDS: Mapping[str, str] = {
    rf"{_SHOW}(?:workflow |last |latest |recent )*runs": "list_runs",
    rf"{_SHOW}(?:open )?approvals": "list_approvals",
    rf"(?:show |get |what is |status of |show the status of ){_RUN_ID}": "get_run",
    rf"(?:cancel|stop|abort) {_RUN_ID}": "cancel_run",
    rf"{_SHOW}(?:workflow )?templates": "list_templates",
    rf"{_SHOW}runners": "get_workflow_runners",
    rf"{_SHOW}integrations": "get_integrations",
    rf"{_SHOW}(?:workflow )?secrets": "get_workflow_secrets",
}

FollowUp = Callable[[Exchange, ToolAnswer, set[str]], Move]
# The latest stage that has an answer decides.
_FOLLOW_UPS: tuple[tuple[str, FollowUp], ...] = (
    ("execute_workflow", _after_run),
    ("plan_workflow", _after_plan),
    ("compile_workflow", _after_compile),
    ("get_template", _after_template),
    ("list_templates", _after_templates),
    ("list_runs", _after_command),
    ("get_run", _after_command),
    ("list_approvals", _after_command),
    ("cancel_run", _after_command),
    ("get_workflow_runners", _after_command),
    ("get_integrations", _after_command),
    ("get_workflow_secrets", _after_command),
)
