"""Schedules of the real backend: by their owner alone, through a kill, under rules that change."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mcp.client import Client

from tests.workflow_backend.backends import Caller, backend
from tests.workflow_backend.conformance.conftest import require_program

pytestmark = pytest.mark.asyncio(loop_scope="module")

NIGHTLY = """
name: nightly build
inputs: {what: {type: string, default: all}}
steps: [{name: build, run: 'echo "$WHAT"', env: {WHAT: "${{ inputs.what }}"}}]
schedule: {cron: "30 2 * * *", timezone: Europe/Berlin, overlap: queue}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with backend(tmp_path_factory.mktemp("schedules")) as opened:
        yield opened


@pytest.fixture
def alice(client: Client) -> Caller:
    return Caller(client, "alice")


async def test_a_schedule_is_registered_listed_paused_and_deleted(alice: Caller) -> None:
    made = await alice.answer("create_schedule", {"workflow": NIGHTLY, "inputs": {"what": "x"}})
    assert (made["name"], made["is_new"], made["inputs"]) == ("nightly-build", True, {"what": "x"})
    assert made["schedule"] == {
        "cron": "30 2 * * *", "timezone": "Europe/Berlin", "overlap": "queue", "catch_up": None
    }  # fmt: skip
    assert made["next_at"] == made["upcoming"][0]
    assert len(made["upcoming"]) == 5
    assert not (await alice.answer("create_schedule", {"workflow": NIGHTLY}))["is_new"]
    await alice.answer("create_schedule", {"workflow": NIGHTLY, "name": "another"})
    listed = (await alice.answer("list_schedules"))["schedules"]
    assert [item["name"] for item in listed] == ["another", "nightly-build"]
    paused = await alice.answer("pause_schedule", {"name": "another"})
    assert (paused["is_paused"], paused["next_at"], paused["upcoming"]) == (True, None, [])
    resumed = await alice.answer("resume_schedule", {"name": "another"})
    assert resumed["next_at"]
    shown = await alice.answer("get_schedule", {"name": "another"})
    assert "30 2 * * *" in shown["definition"]
    assert shown["firings"] == []
    for name in ("another", "nightly-build"):
        assert (await alice.answer("delete_schedule", {"name": name}))["deleted"]
    assert (await alice.answer("list_schedules"))["schedules"] == []


async def test_a_trigger_begins_a_run_of_the_schedule(alice: Caller) -> None:
    await alice.answer("create_schedule", {"workflow": NIGHTLY, "name": "t"})
    fired = await alice.answer("trigger_schedule", {"name": "t"})
    assert (fired["state"], fired["is_manual"]) == ("started", True)
    run = await alice.answer("watch_run", {"run_id": fired["run_id"]})
    assert (run["status"], run["scheduled_by"]) == ("success", "t")
    assert run["steps"][0]["output"] == "all\n"
    (shown,) = (await alice.answer("get_schedule", {"name": "t"}))["firings"]
    assert shown == fired
    await alice.answer("delete_schedule", {"name": "t"})


async def test_a_trigger_is_refused_where_the_policy_leaves_it_out(alice: Caller) -> None:
    slow = NIGHTLY.replace("""'echo "$WHAT"'""", "sleep 600").replace("queue", "skip")
    await alice.answer("create_schedule", {"workflow": slow, "name": "slow"})
    fired = await alice.answer("trigger_schedule", {"name": "slow"})
    said = await alice.refusal("trigger_schedule", {"name": "slow"})
    assert f"run {fired['run_id']} was under way" in said
    await alice.answer("cancel_run", {"run_id": fired["run_id"]})
    await alice.answer("delete_schedule", {"name": "slow"})


@pytest.mark.parametrize(
    ("workflow", "name", "said"),
    [
        ("name: x\nsteps: [{name: a, run: 'true'}]", None, "says nothing of when it runs"),
        (NIGHTLY, "a b", "1 to 64 letters"),
        (NIGHTLY, "../x", "1 to 64 letters"),
        (NIGHTLY.replace("30 2", "99 2"), None, "cron"),
        (NIGHTLY.replace("Berlin", "Bonn"), None, "time zone"),
        (NIGHTLY.replace("default: all", "required: true"), None, "what"),
        (NIGHTLY.replace("name: nightly build", "name: n\nrunner: nowhere"), None, "nowhere"),
    ],
)
async def test_what_could_never_run_is_not_registered(
    alice: Caller, workflow: str, name: str | None, said: str
) -> None:
    arguments = {"workflow": workflow, **({"name": name} if name else {})}
    assert said in await alice.refusal("create_schedule", arguments)
    assert (await alice.answer("list_schedules"))["schedules"] == []


async def test_a_server_on_temporal_begins_the_runs_of_its_schedules(tmp_path: Path) -> None:
    require_program()
    environment = {
        "AGENT_SERVER_ENGINE": "temporal",
        "AGENT_SERVER_TEMPORAL_DEV_SERVER": "true",
        "AGENT_SERVER_ISOLATION": "none",
    }
    async with backend(tmp_path, environment) as client:
        alice = Caller(client, "alice")
        await alice.answer("create_schedule", {"workflow": NIGHTLY, "inputs": {"what": "x"}})
        fired = await alice.answer("trigger_schedule", {"name": "nightly-build"})
        run = await alice.answer("watch_run", {"run_id": fired["run_id"]})
        assert (run["engine"], run["status"], run["scheduled_by"]) == (
            "temporal",
            "success",
            "nightly-build",
        )
        assert run["steps"][0]["output"] == "x\n"
        last = NIGHTLY.replace("30 2 * * *", "30 2 L * *")
        said = await alice.refusal("create_schedule", {"workflow": last, "name": "last"})
        assert "which Temporal cannot" in said


async def test_schedules_are_their_owners_alone_and_no_models(client: Client) -> None:
    alice, bob, host = Caller(client, "alice"), Caller(client, "bob"), Caller(client)
    await alice.answer("create_schedule", {"workflow": NIGHTLY, "name": "mine"})
    for tool in (
        "get_schedule", "pause_schedule", "resume_schedule", "trigger_schedule", "delete_schedule"
    ):  # fmt: skip
        assert "There is no schedule 'mine'" in await bob.refusal(tool, {"name": "mine"})
        if tool != "get_schedule":
            assert "People decide this" in await host.refusal(tool, {"name": "mine"})
    assert "People decide this" in await host.refusal("create_schedule", {"workflow": NIGHTLY})
    assert (await bob.answer("list_schedules"))["schedules"] == []
    await alice.answer("delete_schedule", {"name": "mine"})
