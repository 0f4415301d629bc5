"""Requests recorded at Anthropic: read at the door and said again, they mean the same."""

from copy import deepcopy
from typing import Any

import pytest

from agent_server.requests.messages import read_messages
from providers.anthropic.request import chat_to_messages
from streaming.errors import InvalidRequestError
from tests.providers.test_anthropic_recorded_requests import NAMES, normal, recorded_body
from tests.recordings import needs_recordings


def has_own_tool(body: dict[str, Any]) -> bool:
    """Whether a tool is one of Anthropic's own, which is relayed and never read."""
    return any(tool.get("type", "custom") != "custom" for tool in body.get("tools", ()))


def is_well_formed(body: dict[str, Any]) -> bool:
    """Whether it is a request: some ask for an error, and an SDK's own fixtures ask nothing."""
    messages = body["messages"]
    return bool(messages) and all(isinstance(message, dict) for message in messages)


BODIES = {name: recorded_body(name) for name in NAMES}
WELL_FORMED = {name: body for name, body in BODIES.items() if is_well_formed(body)}
READ = [name for name, body in WELL_FORMED.items() if not has_own_tool(body)]
WITH_OWN_TOOLS = [name for name, body in WELL_FORMED.items() if has_own_tool(body)]


def expected(body: dict[str, Any]) -> dict[str, Any]:
    """The recorded request, with what may be written in two ways written in one."""
    body = normal(deepcopy(body))
    if "output_format" in body:
        # The field of the first beta, which `output_config.format` has replaced.
        body["output_config"] = {"format": body.pop("output_format")["type"]}
    return body


@needs_recordings
@pytest.mark.parametrize("name", READ)
def test_a_recorded_request_reaches_the_upstream_as_it_came(name: str) -> None:
    body = BODIES[name]
    said = chat_to_messages(read_messages(body))
    recorded = expected(body)
    for field in said.dropped:
        # Sampling fields go where the model refuses them, by the documentation of its family.
        assert field in ("temperature", "top_p", "top_k")
        del recorded[field]
    assert normal(said.body) == recorded


@needs_recordings
@pytest.mark.parametrize("name", WITH_OWN_TOOLS)
def test_a_tool_that_anthropic_runs_is_refused_by_its_type(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="Anthropic's own") as refused:
        read_messages(BODIES[name])
    assert refused.value.param is not None
    assert refused.value.param.startswith("tools.")
    assert refused.value.param.endswith(".type")


@needs_recordings
@pytest.mark.parametrize("name", sorted(BODIES.keys() - WELL_FORMED.keys()))
def test_a_recorded_request_without_messages_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_messages(BODIES[name])
    assert refused.value.param in ("messages", "messages.0")


@needs_recordings
def test_most_recorded_requests_are_read() -> None:
    assert len(READ) >= 120
    assert len(WELL_FORMED) >= 150
