"""Servers out of a configuration document in the usual `mcpServers` shape.

Source: the "mcpServers" object that Claude Desktop, Cursor and other MCP hosts read, 2026-10. Our
own keys beside it are in camel case like the rest.
"""

import difflib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from mcp_bridge.server_spec import ServerSpec, ServerSpecError, inherited_environment

_LOGGER: Final = logging.getLogger(__name__)
_REFERENCE: Final = re.compile(r"\$\{([^}]*)\}?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPES: Final = {"stdio": "command", "http": "url", "streamable-http": "url"}
_FETCHERS: Final = frozenset({"npx", "bunx", "uvx", "pipx"})
_PINNED: Final = re.compile(r".(?:@|==)v?[0-9]")


def read_mcp_servers(
    document: Mapping[str, Any], *, environment: Mapping[str, str]
) -> list[ServerSpec]:
    """The servers of a document `{"mcpServers": {name: {...}}}`, without the disabled ones.

    `${NAME}` in `args`, `env`, `url`, `headers` and `cwd` stands for a variable of `environment`. A
    child inherits of `environment` only what `inherited_environment` lists.

    Raises:
        ServerSpecError: an unknown key, a wrong type, an unset variable, two servers of one name.
    """
    _refuse_unknown("the document", document, ["mcpServers"])
    servers = document.get("mcpServers", {})
    if not isinstance(servers, Mapping):
        raise ServerSpecError("mcpServers must be an object of servers by name")
    specs = []
    for name, entry in servers.items():
        place = f"mcpServers.{name}"
        if not isinstance(entry, Mapping):
            raise ServerSpecError(f"{place} must be an object with `command` or `url`")
        _refuse_unknown(place, entry, ["type", "disabled", *_FIELDS])
        if not _of_shape(f"{place}.disabled", entry.get("disabled", False), _BOOLEAN):
            specs.append(_read_server(str(name), place, entry, environment))
    return specs


def _read_server(
    name: str, place: str, entry: Mapping[str, Any], environment: Mapping[str, str]
) -> ServerSpec:
    _check_type(place, entry)
    fields: dict[str, Any] = {}
    for key, (field, shape) in _FIELDS.items():
        if key in entry:
            value = _of_shape(f"{place}.{key}", entry[key], shape)
            if key in _EXPANDED:
                value = _expand(f"{place}.{key}", value, environment)
            fields[field] = tuple(value) if isinstance(value, list) else value
    if "command" in fields:
        fields["command"] = (fields["command"], *fields.pop("args", ()))
        fields["env"] = inherited_environment(environment) | fields.get("env", {})
        _warn_if_unpinned(name, fields["command"])
    return ServerSpec(name=name, **fields)


def _check_type(place: str, entry: Mapping[str, Any]) -> None:
    kind = entry.get("type", "http" if "url" in entry else "stdio")
    if kind not in _TYPES:
        hint = (
            " (SSE is retired: ask the server for its streamable HTTP URL)" if kind == "sse" else ""
        )
        raise ServerSpecError(
            f"{place}.type must be one of {', '.join(_TYPES)}, not {kind!r}{hint}"
        )
    if _TYPES[kind] not in entry:
        raise ServerSpecError(f"{place} is of type {kind} and lacks `{_TYPES[kind]}`")
    foreign = {"url", "headers"} if _TYPES[kind] == "command" else {"command", "args", "env", "cwd"}
    for key in foreign & set(entry):
        raise ServerSpecError(f"{place}.{key} has no meaning for a server of type {kind}")


def _refuse_unknown(place: str, entry: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in entry:
        if key not in known:
            close = difflib.get_close_matches(str(key), list(known), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ServerSpecError(f"{place} has an unknown key {key!r}: {hint}")


def _of_shape(place: str, value: Any, shape: "_Shape") -> Any:
    if not shape.holds(value):
        raise ServerSpecError(f"{place} must be {shape.words}")
    return value


def _expand(place: str, value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_expand(f"{place}[{n}]", item, environment) for n, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _expand(f"{place}.{key}", item, environment) for key, item in value.items()}

    def variable(found: re.Match[str]) -> str:
        name = found.group(1)
        if not _VARIABLE.fullmatch(name) or not found.group(0).endswith("}"):
            raise ServerSpecError(f"{place}: {found.group(0)!r} is no reference like ${{NAME}}")
        if name not in environment:
            raise ServerSpecError(
                f"{place}: the variable {name} is not set; set it where the server is started"
            )
        return environment[name]

    return _REFERENCE.sub(variable, value)


def _warn_if_unpinned(name: str, command: tuple[str, ...]) -> None:
    if PurePath(command[0]).name in _FETCHERS and not any(map(_PINNED.search, command[1:])):
        _LOGGER.warning(
            "MCP server %s runs whatever version its package has today: pin it (package@1.2.3)",
            name,
        )


class _Shape(NamedTuple):
    """What a value must be: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TEXT: Final = _Shape("text", _is_text)
_BOOLEAN: Final = _Shape("true or false", lambda value: isinstance(value, bool))
_NUMBER: Final = _Shape("a number", _is_number)
_INTEGER: Final = _Shape(
    "a whole number", lambda value: _is_number(value) and isinstance(value, int)
)
_TEXTS: Final = _Shape(
    "a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value))
)
_TEXT_MAP: Final = _Shape(
    "an object of texts",
    lambda value: isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()])),
)

_FIELDS: Final[Mapping[str, tuple[str, _Shape]]] = {
    "command": ("command", _TEXT),
    "args": ("args", _TEXTS),
    "env": ("env", _TEXT_MAP),
    "cwd": ("cwd", _TEXT),
    "url": ("url", _TEXT),
    "headers": ("headers", _TEXT_MAP),
    "required": ("required", _BOOLEAN),
    "mode": ("mode", _TEXT),
    "includeTools": ("include_tools", _TEXTS),
    "excludeTools": ("exclude_tools", _TEXTS),
    "connectTimeoutSeconds": ("connect_timeout_seconds", _NUMBER),
    "callTimeoutSeconds": ("call_timeout_seconds", _NUMBER),
    "readyWaitSeconds": ("ready_wait_seconds", _NUMBER),
    "heartbeatSeconds": ("heartbeat_seconds", _NUMBER),
    "heartbeatTimeoutSeconds": ("heartbeat_timeout_seconds", _NUMBER),
    "maxInFlight": ("max_in_flight", _INTEGER),
    "maxLineBytes": ("max_line_bytes", _INTEGER),
    "toolsSha256": ("tools_sha256", _TEXT),
    "allowNewPrivileges": ("allow_new_privileges", _BOOLEAN),
}
_EXPANDED: Final = frozenset({"args", "env", "cwd", "url", "headers"})
