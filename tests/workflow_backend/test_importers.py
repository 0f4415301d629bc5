"""Workflows of Kubiya and Dagu as ours: what each field becomes, and that the rest is named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_backend.definition.documents import read_document
from workflow_backend.definition.importers import Imported, import_definition
from workflow_backend.definition.parse import parse_workflow
from workflow_backend.definition.problems import InvalidWorkflowError

DATA = Path(__file__).parents[1] / "data" / "imports"


def imported(source: object, format: str = "auto") -> Imported:
    text = source if isinstance(source, str) else yaml.safe_dump(source)
    found = import_definition(text, format)  # type: ignore[arg-type]
    assert parse_workflow(found.yaml) == found.workflow
    return found


def document(found: Imported) -> dict[str, Any]:
    return read_document(found.yaml)


def notes(found: Imported) -> list[str]:
    return [note.path for note in found.notes if note.path != "steps"]


def one_step(step: Mapping[str, object], format: str = "dagu", **rest: object) -> dict[str, Any]:
    """The last of the steps that a file with this step comes to."""
    found = imported({"steps": [step], **rest}, format)
    steps: list[dict[str, Any]] = document(found)["steps"]
    return steps[-1]


def test_a_workflow_of_the_vendor_is_taken_over() -> None:
    found = imported((DATA / "incident.json").read_text())
    assert found.format == "kubiya"
    result = document(found)
    assert result["name"] == "incident-response"
    assert result["runner"] == "kubiya-hosted"
    assert result["timeout"] == "3600s"
    assert result["inputs"]["severity"] == {"default": "low"}
    assert result["inputs"]["ticket"] == {"required": True, "description": "Id of the ticket"}
    assert result["inputs"]["region"] == {"default": "eu"}
    assert result["env"]["API_KEY"] == "${{ secrets.TEAM_API_KEY }}"
    steps = {step["name"]: step for step in result["steps"]}
    assert list(steps) == ["parse-event", "analyse", "tell", "dashboard"]
    parse = steps["parse-event"]
    assert "{{" not in parse["run"]
    assert "'\"${severity}\"'" in parse["run"]
    assert parse["retry"] == {"limit": 3, "interval": "30s", "max_interval": "1h"}
    assert parse["parse"] == "json"
    assert steps["analyse"]["agent"] == {
        "prompt": "What is behind ${{ steps.parse-event.outputs.stdout }}?",
        "system": "You are an SRE.",
        "model": "openai/gpt-5.4-mini",
    }
    tell = steps["tell"]
    assert tell["http"]["headers"] == {"Authorization": "Bearer ${{ secrets.SLACK_TOKEN }}"}
    assert tell["http"]["json"] == {
        "text": "${{ steps.analyse.outputs.text }} (${{ steps.parse-event.outputs.json.title }})"
    }
    assert tell["continue_on_error"] is True
    assert steps["dashboard"]["needs_command"] == "By kubiya: api/v1/dashboards"
    assert "matches" in steps["dashboard"]["if"]


def test_what_the_vendor_has_alone_is_named_with_its_path() -> None:
    found = imported((DATA / "incident.json").read_text())
    named = notes(found)
    for path in (
        "runner",
        "steps[0]",
        "steps[1].name",
        "steps[1].retryPolicy.retryOn",
        "steps[2].executor.config.agent.runners",
        "steps[4].executor",
        "env.API_KEY",
        "params.region",
    ):
        assert path in named, path


def test_a_file_of_dagu_is_taken_over() -> None:
    found = imported((DATA / "etl.yaml").read_text())
    assert found.format == "dagu"
    result = document(found)
    assert result["schedule"] == {
        "cron": "0 2 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "catch_up": "6h",
    }
    assert result["concurrency"] == {"group": "imported"}
    assert result["max_parallel"] == 4
    assert result["inputs"]["DATE"] == {"required": True}
    assert result["env"]["LOG"] == "/data/${{ inputs.ENVIRONMENT }}/log"
    steps = {step["name"]: step for step in result["steps"]}
    assert steps["check-workflow"]["run"] == "date +%u"
    assert steps["step-1"]["depends"] == ["check-workflow"]
    assert "steps.check-workflow.outputs.stdout.matches" in steps["step-1"]["if"]
    assert steps["step-2"]["depends"] == steps["step-3"]["depends"] == ["step-1"]
    assert steps["read-config"]["depends"] == ["step-2", "step-3"]
    load = steps["load"]
    assert load["env"]["CONFIG_SERVER_PORT"] == (
        "${{ steps.read-config.outputs.json.server.port }}"
    )
    assert '"${CONFIG_SERVER_PORT}"' in load["run"]
    assert load["retry"]["on_exit_codes"] == [75]
    assert load["retry"]["backoff"] == 1.0
    assert steps["poll"]["repeat"]["until"].startswith("steps.poll.outputs.stdout.matches(")
    assert steps["regions"]["foreach"] == ["eu", "us"]
    assert steps["regions"]["max_parallel"] == 2
    assert steps["regions"]["workflow"] == {
        "ref": "region",
        "inputs": {"NAME": "${{ item }}", "WHERE": "/data/${{ inputs.ENVIRONMENT }}"},
    }
    assert steps["vacuum"]["container"]["image"] == "postgres:18"
    assert steps["remote"]["needs_command"] == "By ssh: db.example.com: uptime"
    assert steps["sign-off"]["approval"] == {
        "message": "Is ${{ inputs.ENVIRONMENT }} fine?",
        "form": {"WHO": {"required": True}},
    }
    assert [step["name"] for step in result["on_failure"]] == ["on-failure"]
    assert [step.get("if") for step in result["finally"]] == ["run.status == 'success'", None]
    assert set(result["workflows"]) == {"region"}


def test_what_dagu_has_alone_is_named_with_its_path() -> None:
    found = imported((DATA / "etl.yaml").read_text())
    named = notes(found)
    for path in (
        "tags",
        "dotenv",
        "env.PATH",
        "params[1].DATE",
        "steps[3].mailOnError",
        "steps[3].signalOnStop",
        "steps[6].executor.config.volumes",
        "steps[7].executor",
    ):
        assert path in named, path
    assert all(note.reason and note.instead for note in found.notes)


def test_a_field_that_nobody_knows_is_named() -> None:
    found = imported({"steps": [{"command": "ls", "frobnicate": 1}], "hue": "red"})
    assert {"hue", "steps[0].frobnicate"} <= set(notes(found))


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ({"timeoutSec": 30}, {"timeout": "30s"}),
        ({"timeout_sec": 30}, {"timeout": "30s"}),
        ({"timeout": "10m"}, {"timeout": "10m"}),
        ({"timeout": 0}, {}),
        ({"dir": "/srv/${A}"}, {"working_dir": "/srv/${{ inputs.A }}"}),
        ({"shell": "/bin/bash"}, {"shell": "bash"}),
        ({"continueOn": {"failure": True}}, {"continue_on_error": True}),
        ({"continue_on": "failed"}, {"continue_on_error": True}),
        ({"continueOn": {"exitCode": [1]}}, {}),
        ({"env": ["B=1", {"C": 2}]}, {"env": {"B": "1", "C": "2"}}),
        (
            {"retry_policy": {"limit": 2, "interval_sec": 3, "backoff": True,
                              "max_interval_sec": 60}},
            {"retry": {"limit": 2, "interval": "3s", "max_interval": "60s"}},
        ),
        ({"preconditions": [{"condition": "${A}", "expected": "x"}]}, {"if": "inputs.A == 'x'"}),
        (
            {"preconditions": {"condition": "${A}", "expected": "x", "negate": True}},
            {"if": "!(inputs.A == 'x')"},
        ),
        (
            {"preconditions": "test -f x"},
            {"if": "steps.check-s.exit_code == 0", "depends": ["check-s"]},
        ),
        ({"parallel": ["a", 1]}, {"foreach": ["a", 1]}),
    ],
)  # fmt: skip
def test_each_field_of_a_step_becomes_ours(
    given: dict[str, object], ours: dict[str, object]
) -> None:
    step = one_step({"name": "s", "command": "ls", **given}, params={"A": "1"})
    assert step.pop("name") == "s"
    assert step.pop("run") == "ls"
    assert step == ours


@pytest.mark.parametrize(
    ("params", "inputs"),
    [
        ("A=1 B='x y'", {"A": {"default": "1"}, "B": {"default": "x y"}}),
        (["A=1", {"B": 2}], {"A": {"default": "1"}, "B": {"default": "2"}}),
        ("first", {"PARAM_1": {"default": "first"}}),
        (
            [{"name": "n", "type": "integer", "default": 3, "minimum": 1, "enum": [1, 3]}],
            {"n": {"type": "integer", "default": 3, "minimum": 1, "enum": [1, 3]}},
        ),
        (
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "boolean"}}},
            {"a": {"type": "boolean", "required": True}},
        ),
        ({"v": "${VERSION}"}, {"v": {"required": True}}),
    ],
)
def test_parameters_in_every_form_become_inputs(
    params: object, inputs: dict[str, dict[str, object]]
) -> None:
    result = document(imported({"params": params, "steps": ["ls"]}))
    assert result["inputs"] == {
        name: {key: value for key, value in spec.items() if (key, value) != ("type", "string")}
        for name, spec in inputs.items()
    }
    assert set(result["env"]) == set(inputs)


def test_steps_of_a_chain_wait_for_the_one_before_and_those_of_a_graph_for_depends() -> None:
    steps = [{"name": "a", "command": "ls"}, {"name": "b", "command": "ls"},
             {"name": "c", "command": "ls", "depends": "a"}]  # fmt: skip

    def depends(found: Imported) -> list[object]:
        return [step.get("depends") for step in document(found)["steps"]]

    assert depends(imported({"steps": steps[:2]})) == [None, ["a"]]
    assert depends(imported({"steps": steps, "type": "graph"})) == [None, None, ["a"]]
    both = imported({"steps": steps})
    assert depends(both) == [None, ["a"], ["b", "a"]]
    assert "type" in notes(both)
    backwards = [{"name": "a", "command": "ls", "depends": "b"}, {"name": "b", "command": "ls"}]
    assert depends(imported({"steps": backwards})) == [["b"], None]


def test_dagus_empty_depends_takes_a_step_out_of_the_chain() -> None:
    steps = [{"name": "a", "command": "ls"}, {"name": "b", "command": "ls", "depends": []}]
    assert "depends" not in document(imported({"steps": steps}))["steps"][1]


def test_an_output_makes_its_readers_wait_for_it_also_in_a_graph() -> None:
    steps = [{"name": "a", "command": "ls", "output": "X"}, {"name": "b", "command": "echo $X"}]
    step = document(imported({"steps": steps, "type": "graph"}))["steps"][1]
    assert step["depends"] == ["a"]
    assert step["env"] == {"X": "${{ steps.a.outputs.stdout }}"}
    assert step["run"].startswith("X=$(printf '%s' \"$X\")\n")


def test_an_approval_of_dagu_comes_after_its_step_and_one_of_kubiya_before() -> None:
    after = document(
        imported(
            {
                "steps": [
                    {"name": "a", "command": "ls", "approval": {"input": ["WHO"]}},
                    {"name": "b", "command": "echo $WHO"},
                ]
            }
        )
    )["steps"]
    assert [step["name"] for step in after] == ["a", "approve-a", "b"]
    assert after[1]["depends"] == ["a"]
    assert after[2]["depends"] == ["approve-a"]
    assert after[2]["env"] == {"WHO": "${{ steps.approve-a.outputs.values.WHO }}"}
    before = document(
        imported({"steps": [{"name": "a", "command": "ls", "approval_required": True}]})
    )["steps"]
    assert before[1]["depends"] == ["approve-a"]


def test_a_run_is_a_workflow_in_old_files_and_a_command_in_new_ones() -> None:
    old = one_step({"run": "child", "params": "A=1"})
    assert "needs_command" in old
    new = one_step({"run": "ls"})
    assert new["run"] == "ls"


@pytest.mark.parametrize(
    ("step", "action"),
    [
        ({"command": "python", "script": "print(1)"}, {"python": "print(1)"}),
        ({"script": "#!/usr/bin/env bash\nls"}, {"run": "#!/usr/bin/env bash\nls",
                                                "shell": "bash"}),
        ({"command": ["echo a", "echo b"]}, {"run": "set -e\necho a\necho b"}),
        ({"command": ["echo", "b;c"]}, {"run": "echo 'b;c'"}),
        ({"type": "jq", "command": ".a", "script": '{"a": 1}'},
         {"run": "printf '%s' \"$JQ_INPUT\" | jq \"$JQ_QUERY\"\n",
          "env": {"JQ_QUERY": ".a", "JQ_INPUT": '{"a": 1}'}}),
        ({"action": "http.request", "with": {"url": "https://x.example.com", "method": "post"}},
         {"http": {"url": "https://x.example.com", "method": "POST"}}),
        ({"type": "http", "command": "GET https://x.example.com/?a=1",
          "config": {"query": {"b": "c d"}, "timeout": 5}},
         {"http": {"url": "https://x.example.com/?a=1&b=c%20d"}, "timeout": "5s"}),
        ({"type": "chat", "llm": {"provider": "openai", "model": "gpt-5.4", "system": "Hi"},
          "messages": [{"role": "user", "content": "2+2?"}]},
         {"agent": {"prompt": "2+2?", "system": "Hi", "model": "openai/gpt-5.4"}}),
        ({"executor": {"type": "tool", "config": {
            "tool_def": {"name": "t", "type": "docker", "image": "alpine", "content": "echo $a"},
            "args": {"a": "b"}}}},
         {"container": {"image": "alpine", "command": ["sh", "-c", "echo $a"]},
          "env": {"a": "b"}}),
    ],
)  # fmt: skip
def test_each_executor_becomes_an_action(
    step: dict[str, object], action: dict[str, object]
) -> None:
    result = one_step({"name": "s", **step})
    del result["name"]
    assert result == action


def test_another_programs_script_is_given_to_it_as_a_file() -> None:
    step = one_step({"command": "node", "script": "console.log(1)"})
    assert step["run"].endswith('END_OF_SCRIPT\nnode "$script"\n')


def test_a_file_without_counterpart_for_a_step_is_still_valid() -> None:
    found = imported({"steps": [{"name": "a", "type": "http", "command": "GET ::no url::"},
                                {"name": "b", "command": "ls"}]})  # fmt: skip
    first, second = document(found)["steps"]
    assert "needs_command" in first
    assert second == {"name": "b", "run": "ls", "depends": ["a"]}
    assert "steps[0].http.url" in notes(found)


@pytest.mark.parametrize(
    "text", ["", "hello", "steps: []", "a: &x 1\nb: *x", "{", "name: x", "- a", "steps: {"]
)
def test_what_is_no_workflow_is_refused_with_a_fix(text: str) -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        import_definition(text)
    assert all(problem.reason and problem.fix for problem in caught.value.problems)


def test_what_is_too_much_to_name_is_counted() -> None:
    found = imported({"steps": [{"command": "ls", "frobnicate": 1} for _ in range(400)]})
    assert len(found.notes) == 301
    assert "more fields" in str(found.notes[-1])


def test_thousands_of_steps_that_are_not_valid_are_all_put_in_words() -> None:
    found = imported({"steps": [{"type": "http", "command": "GET ::no"} for _ in range(500)]})
    assert {step.kind for step in found.workflow.steps} == {"needs_command"}


def test_json_and_yaml_of_the_same_workflow_are_the_same() -> None:
    text = (DATA / "incident.json").read_text()
    assert imported(yaml.safe_dump(json.loads(text))).workflow == imported(text).workflow
