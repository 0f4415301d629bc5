"""What the backend says of agent steps: is there a server to ask, and how deep do they stand?"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from streaming.run_tokens import KEY_BYTES, key_to_text
from tests.workflow_backend.backends import Caller, backend

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT = {"name": "think", "agent": {"prompt": "Think."}}
SHELL = {"name": "say", "run": "echo hi"}
WORKFLOWS: list[dict[str, Any]] = [
    {"name": "plain", "steps": [AGENT]},
    {"name": "last", "steps": [SHELL], "finally": [AGENT]},
    {
        "name": "inner",
        "steps": [{"name": "call", "workflow": {"ref": "other"}}],
        "workflows": {"other": {"steps": [AGENT]}},
    },
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    """A backend that another MCP host started: no server is behind it."""
    async with backend(tmp_path_factory.mktemp("alone")) as client:
        yield Caller(client, "alice")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    """A backend that was told of a server, which does not answer."""
    variables = {
        "AGENT_SERVER_URL": "http://127.0.0.1:1",
        "AGENT_SERVER_RUN_TOKEN_KEY": key_to_text(b"k" * KEY_BYTES),
    }
    async with backend(tmp_path_factory.mktemp("linked"), variables) as client:
        yield Caller(client, "alice")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow["name"])
async def test_without_a_server_the_plan_says_that_agent_steps_cannot_run(
    alone: Caller, workflow: dict[str, Any]
) -> None:
    plan = await alone.answer("plan_workflow", {"workflow": workflow})
    assert plan["can_run"] is False
    [blocker] = plan["blockers"]
    assert "`think`" in blocker
    assert "`agent-server serve`" in blocker
    refusal = await alone.refusal("execute_workflow", {"workflow": workflow})
    assert blocker in refusal


async def test_without_a_server_other_steps_run_as_ever(alone: Caller) -> None:
    workflow = {"name": "other", "steps": [SHELL]}
    assert (await alone.answer("plan_workflow", {"workflow": workflow}))["can_run"] is True
    run = await alone.answer("execute_workflow", {"workflow": workflow})
    assert run["status"] == "success"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow["name"])
async def test_with_a_server_agent_steps_may_run(linked: Caller, workflow: dict[str, Any]) -> None:
    plan = await linked.answer("plan_workflow", {"workflow": workflow})
    assert plan["can_run"] is True
    assert plan["blockers"] == []


@pytest.mark.parametrize(
    ("depth", "error"), [(None, "does not answer"), (2, "does not answer"), (3, "below 3 agents")]
)
async def test_a_run_knows_how_many_agents_stand_above_it(
    linked: Caller, depth: int | None, error: str
) -> None:
    meta = {} if depth is None else {"depth": depth}
    run = await linked.answer("execute_workflow", {"workflow": WORKFLOWS[0]}, **meta)
    assert error in run["steps"][0]["error"]


async def test_runs_inside_others_stand_as_deep_as_they(linked: Caller) -> None:
    run = await linked.answer("execute_workflow", {"workflow": WORKFLOWS[2]}, depth=3)
    assert "below 3 agents" in (run["error"] or "")


@pytest.mark.parametrize("depth", [-1, 4, "1", 1.5, True])
async def test_a_depth_that_is_none_is_refused(linked: Caller, depth: object) -> None:
    workflow = {"name": "other", "steps": [SHELL]}
    for tool in ("execute_workflow", "start_run"):
        said = await linked.refusal(tool, {"workflow": workflow}, depth=depth)
        assert "ai.kubiya/depth must be 0 to 3" in said
