"""The tools of a Responses request, as functions that every model can call.

A custom tool takes free text: for the model it is a function with the one argument `input`. A tool
of a namespace is a function whose name begins with the namespace's. `CalledTool` tells the encoder
how to give a call its first form back.

Source: OpenAI API reference, "Responses", "Create a model response", `tools`, 2026-11.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from agent_server.requests.fields import (
    FieldError,
    json_object,
    kind,
    name,
    read_items,
    read_member,
    string,
)
from agent_server.requests.tools import MAX_TOOLS, read_function, read_tool_name
from providers.chat_request import ToolChoice, ToolSpec
from streaming.events import JsonObject, JsonValue
from streaming.responses_objects import CalledTool

_MODES: Final = ("auto", "none", "required")
_FREE_TEXT: Final[JsonObject] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input of the tool."}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(slots=True)
class Tools:
    """The tools as models take them; `called` holds those that the client knows otherwise.

    `dropped` names the provider's own tools that were left out.
    """

    specs: list[ToolSpec] = field(default_factory=list)
    called: dict[str, CalledTool] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def has(self, tool_name: str) -> bool:
        """Whether there is a tool of this name of the model's."""
        return any(spec.name == tool_name for spec in self.specs)


def function_name(tool_name: str, namespace: str) -> str:
    """What the model calls a tool of a namespace."""
    return f"{namespace}{tool_name}" if namespace.endswith("_") else f"{namespace}__{tool_name}"


def read_response_tools(value: JsonValue, droppable: frozenset[str]) -> Tools:
    """The tools of a request; types of `droppable` are left out instead of refused.

    Raises:
        FieldError: a tool is malformed, is called as another one, or is one of a provider's own.
    """
    tools = Tools()

    def read_tool(item: JsonValue) -> None:
        tool = json_object(item)
        given = read_member(tool, "type", string)
        if given == "namespace":
            read_member(tool, "tools", lambda inner: _read_namespace(tools, tool, inner))
        elif given in {"function", "custom"}:
            _add(tools, tool, None)
        elif given in droppable:
            tools.dropped.append(given)
        else:
            raise FieldError(
                f"is {given[:80]!r}, a tool that the provider itself runs, and this model's "
                "provider has none; send function, custom or namespace tools, or choose a model "
                "of a provider that has it",
                "type",
            )

    read_items(value, read_tool, MAX_TOOLS)
    return tools


def read_response_tool_choice(value: JsonValue, tools: Tools) -> ToolChoice:
    """How the model may use the tools; a choice of some of them takes the others away."""
    if isinstance(value, str):
        return _mode(value)
    if not isinstance(value, dict):
        raise FieldError(f"must be a string or an object, not {kind(value)}")
    given = read_member(value, "type", string)
    if given == "allowed_tools":
        mode = read_member(value, "mode", lambda mode: _mode(string(mode)))
        allowed = read_member(value, "tools", lambda items: _read_allowed(items, tools))
        tools.specs = [spec for spec in tools.specs if spec.name in allowed]
        return mode
    return ToolChoice("function", _chosen(value, given, tools))


def _mode(value: str) -> ToolChoice:
    for mode in ("auto", "none", "required"):
        if value == mode:
            return ToolChoice(mode)
    raise FieldError(f"must be one of {', '.join(_MODES)} or an object, not {value[:80]!r}")


def _read_allowed(value: JsonValue, tools: Tools) -> set[str]:
    def read(item: JsonValue) -> str | None:
        choice = json_object(item)
        given = read_member(choice, "type", string)
        return None if given in tools.dropped else _chosen(choice, given, tools)

    return {chosen for chosen in read_items(value, read, MAX_TOOLS) if chosen is not None}


def _chosen(choice: JsonObject, given: str, tools: Tools) -> str:
    if given not in {"function", "custom"}:
        raise FieldError(
            f"is {given[:80]!r}, a tool that the provider itself runs, and this model's provider "
            "has none",
            "type",
        )
    chosen = read_member(choice, "name", name)
    if choice.get("namespace") is not None:
        chosen = function_name(chosen, read_member(choice, "namespace", name))
    if not tools.has(chosen):
        raise FieldError(f"is {chosen[:80]!r}, but `tools` has none of that name", "name")
    return chosen


def _read_namespace(tools: Tools, namespace: JsonObject, value: JsonValue) -> None:
    space = _named(namespace)

    def read_tool(item: JsonValue) -> None:
        tool = json_object(item)
        given = tool.get("type", "function")
        if given not in {"function", "custom"}:
            raise FieldError(f"must be function or custom, not {str(given)[:80]!r}", "type")
        _add(tools, tool, space)

    read_items(value, read_tool, MAX_TOOLS)


def _named(tool: JsonObject) -> str:
    return read_member(tool, "name", name)


def _add(tools: Tools, tool: JsonObject, namespace: str | None) -> None:
    is_custom = tool.get("type") == "custom"
    spec = _custom(tool) if is_custom else read_function(tool)
    if namespace is not None or is_custom:
        known = CalledTool(spec.name, namespace, is_custom)
        if namespace is not None:
            whole = function_name(spec.name, namespace)
            spec = replace(spec, name=_checked(whole))
        tools.called[spec.name] = known
    if tools.has(spec.name):
        raise FieldError(f"is {spec.name!r}, which another tool is called; rename one", "name")
    tools.specs.append(spec)


def _checked(whole: str) -> str:
    try:
        return read_tool_name(whole)
    except FieldError as exc:
        raise FieldError(f"together with its namespace {exc.message}", "name") from None


def _custom(tool: JsonObject) -> ToolSpec:
    given = tool.get("description")
    description = "" if given is None else read_member(tool, "description", string)
    grammar = tool.get("format")
    if grammar is not None:
        description = f"{description}\n\n{read_member(tool, 'format', _format)}".strip()
    tool_name = read_member(tool, "name", read_tool_name)
    return ToolSpec(tool_name, description, dict(_FREE_TEXT))


def _format(value: JsonValue) -> str:
    """What the model is told of a tool's format; a grammar binds only OpenAI's own models."""
    form = json_object(value)
    given = read_member(form, "type", string)
    if given == "text":
        return ""
    if given != "grammar":
        raise FieldError(f"must be text or grammar, not {given[:80]!r}", "type")
    syntax = read_member(form, "syntax", string)
    definition = read_member(form, "definition", string)
    return f"The input must match this {syntax} grammar:\n{definition}"
