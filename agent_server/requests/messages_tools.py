"""The tools of a request in Anthropic's format, and how the model may use them.

Source: Anthropic API documentation, "Create a Message", `tools` and `tool_choice`, 2026-10.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from agent_server.requests.fields import (
    FieldError,
    FieldTable,
    boolean,
    json_object,
    name,
    read_fields,
    read_items,
    read_member,
    require,
    string,
)
from agent_server.requests.tools import MAX_TOOLS
from providers.chat_request import ToolChoice, ToolSpec
from streaming.events import JsonObject, JsonValue

# A choice and whether calls may run side by side, None where nothing is said about it.
Choice: TypeAlias = tuple[ToolChoice, bool | None]
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MODES: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "any": ToolChoice("required"),
    "none": ToolChoice("none"),
}


def read_tools(value: JsonValue) -> tuple[ToolSpec, ...]:
    """The tools that the client runs itself, each by a name of its own."""
    tools = read_items(value, _read_tool, MAX_TOOLS)
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            error = FieldError(f"is {tool.name!r}, which another tool is called; rename one")
            raise error.under("name").under(index)
        seen.add(tool.name)
    return tuple(tools)


def read_choice(value: JsonValue) -> Choice:
    """How the model may use the tools."""
    choice = json_object(value)
    given = read_member(choice, "type", string)
    if given == "tool":
        wanted = ToolChoice("function", read_member(choice, "name", name))
    elif given in _MODES:
        wanted = _MODES[given]
    else:
        modes = ", ".join([*_MODES, "tool"])
        raise FieldError(f"must be one of {modes}, not {given[:80]!r}", "type")
    if choice.get("disable_parallel_tool_use") is None:
        return wanted, None
    return wanted, not read_member(choice, "disable_parallel_tool_use", boolean)


def check_choice(values: Mapping[str, Any]) -> None:
    """A choice may name none but the tools that came with it."""
    wanted: ToolChoice = values.get("tool_choice", (ToolChoice("auto"), None))[0]
    if wanted.name is None or any(tool.name == wanted.name for tool in values.get("tools", ())):
        return
    error = FieldError(f"is {wanted.name!r}, but `tools` has no tool of that name")
    raise error.under("name").under("tool_choice")


def _read_tool(value: JsonValue) -> ToolSpec:
    tool = json_object(value)
    given = tool.get("type")
    if given not in (None, "custom"):
        raise _not_custom(given)
    values, extra = read_fields(tool, _TOOL_FIELDS)
    values.pop("type", None)
    require(values, "name", "name", "it is what the model calls the tool")
    require(values, "parameters", "input_schema", "it is a JSON Schema of the tool's input")
    return ToolSpec(**values, extra=extra)


def _not_custom(given: JsonValue) -> FieldError:
    return FieldError(
        f"is {str(given)[:80]!r}, a tool of Anthropic's own, which only Anthropic's API knows: "
        "name one of its models as anthropic/<model>, or describe the tool yourself with "
        "`input_schema` (type 'custom')",
        "type",
    )


def _tool_name(value: JsonValue) -> str:
    if _TOOL_NAME.fullmatch(name(value)):
        return str(value)
    raise FieldError(f"must be 1 to 128 letters, digits, `_` or `-`, not {str(value)[:80]!r}")


def _schema(value: JsonValue) -> JsonObject:
    schema = json_object(value)
    if schema.get("type", "object") != "object":
        raise FieldError(f"must be 'object', not {str(schema['type'])[:80]!r}", "type")
    return schema


_TOOL_FIELDS: FieldTable = {
    "type": ("type", string),
    "name": ("name", _tool_name),
    "description": ("description", string),
    "input_schema": ("parameters", _schema),
    "strict": ("strict", boolean),
}
