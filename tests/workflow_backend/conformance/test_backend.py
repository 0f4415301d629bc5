"""The backend as a process on Temporal: its tools, its runners, and a change of the engine."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow_backend.backends import ROOT, Caller, backend
from tests.workflow_backend.conformance.places import Place


def text_of(name: str, **fields: Any) -> str:
    step = {"name": "a", "run": "echo hello", "timeout": "1m"}
    return yaml.safe_dump({"name": name, "steps": [step], **fields})


def environment_of(place: Place, engine: str) -> dict[str, str]:
    assert place.cluster is not None
    return {
        "AGENT_SERVER_ENGINE": engine,
        "AGENT_SERVER_TEMPORAL_TASK_QUEUE": place.name,
        "AGENT_SERVER_RUNNERS": "gpu",
        "AGENT_SERVER_ISOLATION": "none",
        "TEMPORAL_HOST": place.cluster.host,
    }


@pytest.mark.timeout(60)
async def test_a_run_stays_on_its_engine_when_the_default_changes(temporal: Place) -> None:
    old, new = temporal.id("old"), temporal.id("new")
    async with backend(temporal.data_dir, environment_of(temporal, "temporal")) as client:
        caller = Caller(client, temporal.owner)
        result = await caller.answer("execute_workflow", {"workflow": text_of("one")}, run_id=old)
        assert (result["run_id"], result["status"]) == (old, "success")
        assert result["steps"][0]["output"] == "hello\n"
        runners = await caller.answer("get_workflow_runners")
        told = [(runner["name"], runner["engine"]) for runner in runners["runners"]]
        assert told[:2] == [("local", "temporal"), ("gpu", "temporal")]
        nobody = {"workflow": text_of("two", runner="nobody")}
        refused = await caller.refusal("execute_workflow", nobody)
        assert "nobody" in refused
        assert "gpu" in refused
        assert (await caller.answer("plan_workflow", nobody))["can_run"] is False
        there = {"workflow": text_of("two", runner="gpu")}
        assert (await caller.answer("plan_workflow", there))["can_run"] is True
    async with backend(temporal.data_dir, environment_of(temporal, "journal")) as client:
        caller = Caller(client, temporal.owner)
        await caller.answer("execute_workflow", {"workflow": text_of("two")}, run_id=new)
        page = await caller.answer("list_runs")
        assert [(run["run_id"], run["engine"]) for run in page["runs"]] == [
            (new, "journal"),
            (old, "temporal"),
        ]
        assert (await caller.answer("get_run", {"run_id": old}))["status"] == "success"
        runners = await caller.answer("get_workflow_runners")
        assert [runner["engine"] for runner in runners["runners"]] == ["journal"]
        again = await caller.answer("execute_workflow", {"workflow": text_of("one")}, run_id=old)
        assert (again["run_id"], again["status"]) == (old, "success")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AGENT_SERVER_ENGINE": "temporal"}, "needs TEMPORAL_HOST"),
        ({"AGENT_SERVER_ENGINE": "cobalt"}, "AGENT_SERVER_ENGINE: Input should be"),
        ({"TEMPORAL_TLS": "perhaps"}, "TEMPORAL_TLS: Input should be"),
    ],
)
def test_a_backend_without_a_cluster_says_what_is_missing(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "workflow_backend"],
        env={"AGENT_SERVER_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", **environment},
        cwd=ROOT,
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
