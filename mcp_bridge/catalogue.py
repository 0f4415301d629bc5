"""The tools of all servers under names that every provider takes."""

import fnmatch
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from mcp_bridge.listing import ListedTool
from mcp_bridge.plain_text import clean_text, shorten
from mcp_bridge.schemas import SchemaRefusedError, clean_schema
from mcp_bridge.server_spec import ServerSpec
from streaming.events import JsonObject

MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 1024

_LOGGER: Final = logging.getLogger(__name__)
_NOT_ALLOWED: Final = re.compile("[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a model is told about it.

    `name` matches `^[A-Za-z0-9_-]{1,64}$` and is the name to call it by; `server_tool` is the name
    that `server` knows. `annotations` are the server's own claims: hints, no grounds for trust.
    """

    name: str
    server: str
    server_tool: str
    description: str
    input_schema: JsonObject
    annotations: Mapping[str, object]
    is_own: bool


class Catalogue:
    """The tools of all servers, built anew whenever a listing changes.

    Own tools keep bare names and win every collision; others are `server__tool`. A name that had to
    be changed, or that two tools would share, ends in `_` and 8 hex digits of
    sha256(server NUL tool), so that it is the same in every process.
    """

    def __init__(self, listings: Sequence[tuple[ServerSpec, Sequence[ListedTool]]]) -> None:
        offered = [
            (spec, tool)
            for spec, tools in listings
            for tool in tools
            if is_offered(spec, tool.name) and tool.name not in spec.hidden_tools
        ]
        plain = [_plain_name(spec, tool.name) for spec, tool in offered]
        own = {name for name, (spec, _) in zip(plain, offered, strict=True) if spec.is_own}
        counts = Counter(plain)
        self._tools: dict[str, Tool] = {}
        for name, (spec, listed) in zip(plain, offered, strict=True):
            is_taken = counts[name] > 1 and not (spec.is_own and name not in self._tools)
            if is_taken or (name in own and not spec.is_own):
                name = _with_hash(name, spec.name, listed.name)  # noqa: PLW2901 - the other name
            tool = _describe(name, spec, listed)
            if tool is not None:
                self._tools[name] = tool

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools, in the order of the servers and their listings."""
        return tuple(self._tools.values())

    def find(self, name: str) -> Tool | None:
        """The tool of this exposed name."""
        return self._tools.get(name)


def is_offered(spec: ServerSpec, tool: str) -> bool:
    """Whether the server's filters let the tool through."""
    return any(fnmatch.fnmatchcase(tool, pattern) for pattern in spec.include_tools) and not any(
        fnmatch.fnmatchcase(tool, pattern) for pattern in spec.exclude_tools
    )


def name_prefix(server: str) -> str:
    """What the names of a foreign server's tools begin with."""
    return _NOT_ALLOWED.sub("_", server)


def listing_digest(tools: Sequence[ListedTool]) -> str:
    """The sha256 that pins a listing: names, descriptions and schemas, in any order."""
    rows = sorted((tool.name, tool.description, _canonical(tool.input_schema)) for tool in tools)
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()


def log_changes(server: str, before: Sequence[ListedTool], after: Sequence[ListedTool]) -> None:
    """Tell the log which tools came, went, or mean something else under the same name."""
    old, new = ({tool.name: listing_digest([tool]) for tool in tools} for tools in (before, after))
    rows = {
        "new": sorted(set(new) - set(old)),
        "gone": sorted(set(old) - set(new)),
        "changed": sorted(name for name in set(old) & set(new) if old[name] != new[name]),
    }
    for what, names in rows.items():
        if names:
            level = logging.WARNING if what == "changed" else logging.INFO
            listed = ", ".join(shorten(clean_text(name), MAX_NAME) for name in names)
            _LOGGER.log(level, "MCP server %s: tools %s: %s", server, what, listed)


def _plain_name(spec: ServerSpec, tool: str) -> str:
    name = tool if spec.is_own else f"{name_prefix(spec.name)}__{tool}"
    if len(name) > MAX_NAME or _NOT_ALLOWED.search(name):
        return _with_hash(_NOT_ALLOWED.sub("_", name), spec.name, tool)
    return name


def _with_hash(name: str, server: str, tool: str) -> str:
    suffix = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9]}_{suffix}"


def _describe(name: str, spec: ServerSpec, listed: ListedTool) -> Tool | None:
    try:
        schema = clean_schema(listed.input_schema)
    except SchemaRefusedError as exc:
        _LOGGER.warning("MCP server %s: tool %s is left out: %s", spec.name, name, exc)
        return None
    return Tool(
        name=name,
        server=spec.name,
        server_tool=listed.name,
        description=shorten(clean_text(listed.description).strip(), MAX_DESCRIPTION),
        input_schema=schema,
        annotations=listed.annotations,
        is_own=spec.is_own,
    )


def _canonical(value: JsonObject) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
