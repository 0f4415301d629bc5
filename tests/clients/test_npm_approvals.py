"""Approvals as parts, with the real hooks of AI SDK 6 and 7: asked, clicked, sent and closed."""

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.npm_clients import found_by
from tests.running_server import RunningServer

pytestmark = [
    pytest.mark.npm,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

# The first of each major has a strict schema, the last is what people install.
HOOKS = ("6.0.0", "6.0.326", "7.0.0", "7.0.173")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=HOOKS)
async def hook(request: pytest.FixtureRequest, npm_clients: Path, agent: RunningServer) -> Any:
    return await found_by("approvals.mjs", request.param, agent.url)


def last_status(found: Any) -> str:
    [ended] = [event for event in found["events"] if event["type"] == "workflow_complete"]
    return str(ended["status"])


async def test_an_approval_is_shown_as_a_tool_that_asks(hook: Any) -> None:
    asked = hook["approved"]["asked"]
    assert (asked["status"], asked["error"]) == ("ready", None)
    [approval] = asked["approvals"]
    assert approval["state"] == "approval-requested"
    assert approval["input"]["message"] == "Ship it?"
    assert approval["approval"]["id"] == approval["input"]["approval_id"]
    assert approval["approval"]["id"].endswith("/ask")
    assert asked["requests"] == 1


async def test_a_click_decides_and_the_same_message_shows_the_rest(hook: Any) -> None:
    found = hook["approved"]["answered"]
    assert (found["status"], found["error"]) == ("ready", None)
    assert found["roles"] == ["user", "assistant"]
    [approval] = found["approvals"]
    assert approval["state"] == "output-available"
    assert approval["output"] == {"approved": True, "by": "local", "reason": "fine"}
    assert "ended with **success**" in found["text"]
    assert last_status(found) == "success"
    # One for the question and one for the click: no finished tool is sent again by itself.
    assert found["requests"] == 2


async def test_a_rejection_is_shown_as_one(hook: Any) -> None:
    found = hook["rejected"]
    [approval] = found["approvals"]
    assert (approval["state"], approval["approval"]["approved"]) == ("output-denied", False)
    assert "is rejected: not now" in found["text"]
    assert last_status(found) == "failed"
    assert found["requests"] == 2


async def test_parallel_approvals_are_sent_once_all_are_answered(hook: Any) -> None:
    found = hook["parallel"]
    assert [one["state"] for one in found["asked"]["approvals"]] == ["approval-requested"] * 2
    assert found["half"]["requests"] == 1
    answered = found["answered"]
    assert [one["state"] for one in answered["approvals"]] == ["output-available"] * 2
    assert last_status(answered) == "success"
    assert answered["requests"] == 2


async def test_a_chat_with_answered_approvals_goes_on(hook: Any) -> None:
    found = hook["goesOn"]
    assert (found["status"], found["error"]) == ("ready", None)
    assert "list_templates" in found["text"]
    assert found["requests"] == 3


async def test_an_approval_that_nobody_decided_in_time_is_an_error_of_its_part(hook: Any) -> None:
    found = hook["late"]
    assert found["status"] == "ready"
    [approval] = found["approvals"]
    assert approval["state"] == "output-error"
    assert "nobody decided" in approval["errorText"]
    assert found["requests"] == 1


async def test_a_page_that_does_not_say_so_gets_events_alone(hook: Any) -> None:
    found = hook["withoutHeader"]
    assert (found["status"], found["error"]) == ("ready", None)
    assert found["approvals"] == []
    assert "approval_requested" in [event["type"] for event in found["events"]]
