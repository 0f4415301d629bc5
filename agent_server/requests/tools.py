"""The tools of a request: what the model is told of them, and how it may use them.

Source: OpenAI API reference, "Chat", "Create chat completion", `tools` and `tool_choice`, 2026-10.
"""

import re
from collections.abc import Mapping
from typing import Any

from agent_server.requests.fields import (
    FieldError,
    FieldTable,
    boolean,
    json_object,
    kind,
    name,
    read_fields,
    read_items,
    read_member,
    require,
    string,
)
from providers.chat_request import ToolChoice, ToolSpec
from streaming.events import JsonObject, JsonValue

MAX_TOOLS = 512
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MODES: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
}


def read_tools(value: JsonValue) -> tuple[ToolSpec, ...]:
    """The tools of OpenAI's list, each by a name of its own."""
    tools = read_items(value, _read_tool, MAX_TOOLS)
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            error = FieldError(f"is {tool.name!r}, which another tool is called; rename one")
            raise error.under("name").under("function").under(index)
        seen.add(tool.name)
    return tuple(tools)


def read_function(value: JsonValue) -> ToolSpec:
    """One function that the model may call."""
    values, _ = read_fields(json_object(value), _FUNCTION_FIELDS)
    require(values, "name", "name", "it is what the model calls the tool")
    return ToolSpec(**values)


def read_tool_name(value: JsonValue) -> str:
    """A name that every provider takes."""
    if _TOOL_NAME.fullmatch(name(value)):
        return str(value)
    raise FieldError(f"must be 1 to 64 letters, digits, `_` or `-`, not {str(value)[:80]!r}")


def read_tool_choice(value: JsonValue) -> ToolChoice:
    """How the model may use the tools: a mode, or the one function that it must call."""
    if isinstance(value, str):
        choice = _MODES.get(value)
        if choice is None:
            modes = ", ".join(_MODES)
            raise FieldError(f"must be one of {modes} or an object, not {value[:80]!r}")
        return choice
    if not isinstance(value, dict):
        raise FieldError(f"must be a string or an object, not {kind(value)}")
    _check_type(value)
    return ToolChoice("function", read_member(value, "function", _chosen_name))


def _chosen_name(value: JsonValue) -> str:
    return read_member(json_object(value), "name", name)


def check_tool_choice(values: dict[str, Any]) -> None:
    """A choice may name none but the tools that came with it."""
    choice: ToolChoice | None = values.get("tool_choice")
    if choice is None or choice.name is None:
        return
    names = [tool.name for tool in values.get("tools", ())]
    if choice.name not in names:
        error = FieldError(f"is {choice.name!r}, but `tools` has no function of that name")
        raise error.under("name").under("function").under("tool_choice")


def _read_tool(value: JsonValue) -> ToolSpec:
    tool = json_object(value)
    _check_type(tool)
    return read_member(tool, "function", read_function)


def _check_type(data: JsonObject) -> None:
    given = data.get("type", "function")
    if given != "function":
        raise FieldError(f"must be 'function', not {str(given)[:80]!r}", "type")


_FUNCTION_FIELDS: FieldTable = {
    "name": ("name", read_tool_name),
    "description": ("description", string),
    "parameters": ("parameters", json_object),
    "strict": ("strict", boolean),
}
