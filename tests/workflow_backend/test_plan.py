"""Plans: order, hosts, secrets, risks, what is missing; and the graph as Mermaid."""

from typing import Any

import pytest

from workflow_backend.definition import parse_workflow
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.mermaid import MAX_EDGES, MAX_NODES, to_mermaid
from workflow_backend.definition.plan import Plan, plan
from workflow_backend.definition.secret_rules import NO_LIMITS, SecretRule

DIAMOND = """
name: diamond
inputs: {host: {default: api.example.com}, who: {required: true}}
env: {SHARED: "${{ secrets.SHARED }}"}
timeout: 1m
steps:
  - {name: join, run: echo, depends: [left, right]}
  - {name: left, run: rm -rf build, depends: [start], retry: {limit: 2}}
  - {name: right, http: {url: "https://${{ inputs.host }}/x", method: POST,
     headers: {A: "${{ secrets.KEY }}"}}, depends: [start]}
  - {name: start, run: 'curl https://files.example.org/a | sh', network: true, if: inputs.who != ''}
"""


def planned(text: Any = DIAMOND, **options: Any) -> Plan:
    given = {
        "inputs": {"who": "me"},
        "secrets": dict.fromkeys(("KEY", "SHARED"), NO_LIMITS),
        **options,
    }
    return plan(parse_workflow(text), given.pop("inputs"), **given)


def test_steps_come_in_levels_whatever_their_order_in_the_document() -> None:
    assert planned().levels == [["start"], ["left", "right"], ["join"]]


def test_a_complete_plan_can_run() -> None:
    found = planned()
    assert found.can_run
    assert found.blockers == []
    assert found.network
    assert found.hosts == ["api.example.com", "files.example.org"]


def test_each_step_tells_what_it_would_do() -> None:
    steps = {step.name: step for step in planned().steps}
    assert steps["start"].action == "curl https://files.example.org/a | sh"
    assert steps["start"].condition == "inputs.who != ''"
    assert steps["right"].action == "POST https://${{ inputs.host }}/x"
    assert steps["left"].attempts == 3
    assert steps["left"].timeout == "1m"
    assert steps["left"].hosts == []


def test_secrets_name_the_steps_that_get_them() -> None:
    secrets = {secret.name: secret for secret in planned().secrets}
    assert secrets["KEY"].steps == ["right"]
    assert secrets["SHARED"].steps == ["join", "left", "start"]


def test_risks_name_their_step() -> None:
    risks = planned(isolation="none").risks
    assert "left: deletes files without asking" in risks
    assert "start: runs what it downloads" in risks
    assert "start: has secrets and the network together" in risks
    assert any(risk.startswith("right: changes something at the host") for risk in risks)
    assert any("without isolation" in risk for risk in risks)
    assert not any("without isolation" in risk for risk in planned(isolation="bwrap").risks)


@pytest.mark.parametrize(
    ("options", "blocker"),
    [
        ({"inputs": {}}, "inputs.who: this input is required."),
        ({"inputs": {"who": 5}}, "inputs.who: 5 is no string."),
        ({"secrets": {"KEY": NO_LIMITS}}, "no secret `SHARED`; it has KEY"),
        ({"runners": ("moon",)}, "no runner `local`; there is moon"),
    ],
)
def test_what_keeps_it_from_running_is_a_blocker(options: dict[str, Any], blocker: str) -> None:
    found = planned(**options)
    assert not found.can_run
    assert any(blocker in text for text in found.blockers)


ONE_HOST = {"KEY": SecretRule(hosts=("api.example.com",)), "SHARED": NO_LIMITS}
SENDS = """
name: x
inputs: {host: {default: api.example.com}}
steps:
  - {name: a, http: {url: "https://${{ inputs.host }}/", headers: {A: "${{ secrets.KEY }}"}}}
"""
RUNS = """
name: x
steps: [{name: a, run: ls, NETWORK env: {K: "${{ secrets.KEY }}"}}]
"""


@pytest.mark.parametrize(
    ("host", "is_blocked"),
    [
        ("api.example.com", False),
        ("API.example.com.:8443", False),
        ("example.com", True),
        ("api.example.com@evil.test", True),
        ("evil.test#api.example.com", True),
        ("münchen.example.com", False),  # Only the request itself knows what it becomes in ASCII.
    ],
)
def test_a_request_to_a_host_that_the_secret_may_not_go_to_is_a_blocker(
    host: str, is_blocked: bool
) -> None:
    found = planned(SENDS, inputs={"host": host}, secrets=ONE_HOST)
    assert found.can_run is not is_blocked
    if is_blocked:
        assert found.blockers == [
            "step `a` would not be given the secret `KEY`: it may go to api.example.com alone, not"
            f" to {found.hosts[0]}"
        ]


def test_a_message_to_a_host_that_its_secret_may_not_go_to_is_a_blocker() -> None:
    text = "name: x\nsteps: [{name: a, run: ls}]\nnotify: [{url: 'https://HOST/x', secret: KEY}]"
    assert planned(text.replace("HOST", "api.example.com"), inputs={}, secrets=ONE_HOST).can_run
    found = planned(text.replace("HOST", "evil.test"), inputs={}, secrets=ONE_HOST)
    assert found.blockers == [
        "no message would be signed with the secret `KEY`: it may go to api.example.com alone, not"
        " to evil.test"
    ]


def test_a_host_that_only_the_run_decides_is_no_blocker() -> None:
    text = SENDS.replace("${{ inputs.host }}", "${{ run.id }}")
    assert planned(text, inputs={}, secrets=ONE_HOST).can_run


@pytest.mark.parametrize(
    ("network", "isolation", "is_blocked"),
    [("", "bwrap", False), ("network: true,", "bwrap", True), ("", "none", True)],
)
def test_a_command_with_the_network_is_not_given_a_secret_that_lists_hosts(
    network: str, isolation: str, is_blocked: bool
) -> None:
    text = RUNS.replace("NETWORK", network)
    found = planned(text, inputs={}, secrets=ONE_HOST, isolation=isolation)
    assert found.can_run is not is_blocked
    assert any("`run` step with the network" in text for text in found.blockers) is is_blocked
    anywhere = {"KEY": SecretRule(keys=("local",))}
    assert planned(text, inputs={}, secrets=anywhere, isolation=isolation).can_run


def test_missing_inputs_are_those_that_nobody_gave() -> None:
    assert planned(inputs={}).missing_inputs == ["who"]
    assert planned(inputs={"who": 5}).missing_inputs == []


def test_a_step_in_words_is_shown_and_blocks() -> None:
    found = planned("name: x\nsteps: [{name: a, needs_command: Back up}]", inputs={})
    assert found.needs_command == ["a"]
    assert found.steps[0].action == "Back up"
    assert found.blockers == ["step `a` needs a command"]


def test_a_host_that_a_step_decides_says_so() -> None:
    text = """
name: x
steps:
  - {name: a, run: echo}
  - {name: b, depends: [a], http: {url: "${{ steps.a.outputs.stdout }}"}}
"""
    assert planned(text).hosts == ["decided at run time: ${{ steps.a.outputs.stdout }}"]


def test_what_is_shown_holds_no_control_characters() -> None:
    text = {"name": "x", "steps": [{"name": "a", "run": "echo \x1b[2Ja\x07\u202eb"}]}
    assert planned(text).steps[0].action == "echo ab"


WHOLE = """
name: whole
inputs: {hosts: {type: array, default: [a, b, c]}, env: {default: dev}}
timeout: 1h
schedule: {cron: "0 6 * * *", timezone: Europe/Berlin, overlap: queue, catch_up: 1h}
concurrency: {group: "deploy-${{ inputs.env }}", policy: refuse}
notify: [{url: "https://hooks.example.com/${{ run.id }}", on: [failed], secret: HOOK}]
env: {FOLDER: /srv/data/}
workflows:
  roll-out:
    inputs: {host: {required: true}, area: {default: eu}, other: {}}
    timeout: 5m
    steps:
      - {name: push, http: {url: "https://${{ inputs.area }}.example.com/${{ inputs.host }}"}}
      - {name: shout, depends: [push], http: {url: "https://${{ inputs.host }}.example.com/x",
         headers: {A: "${{ secrets.KEY }}"}}}
    finally:
      - {name: inner, run: "true"}
  unused: {steps: [{name: never, needs_command: x}]}
steps:
  - {name: ask, approval: {message: "Go to ${{ inputs.env }}?", timeout: 1d}}
  - {name: pause, depends: [ask], wait: {for: 5s}}
  - {name: hook, wait: {webhook: true}}
  - {name: roll, depends: [pause], foreach: "${{ inputs.hosts }}", max_parallel: 2,
     workflow: {ref: roll-out, inputs: {host: "${{ item }}"}}}
  - {name: sum, agent: {prompt: "Sum up ${{ inputs.env }}", tools: [list_runs]}}
  - {name: grid, run: ls, matrix: {a: [1, 2], b: "${{ inputs.hosts }}"}}
  - {name: open, depends: [hook], run: "df / ; a/b $X/c https://x.org/y ./z 'x' ~/q",
     foreach: "${{ steps.hook.outputs.payload }}", working_dir: "/w/${{ inputs.env }}/.."}
  - {name: poll, run: ls, repeat: {until: "true", limit: 7}, artefacts: [out/*]}
on_failure: [{name: tell, run: ls}]
finally: [{name: tidy, run: ls}]
"""


def whole(**options: Any) -> Plan:
    return planned(WHOLE, inputs={}, secrets=dict.fromkeys(("KEY", "HOOK"), NO_LIMITS), **options)


def test_steps_of_workflows_inside_and_of_handlers_are_told_as_well() -> None:
    found = whole()
    assert found.can_run, found.blockers
    steps = {step.name: step for step in found.steps}
    assert list(steps)[8:] == ["tell", "tidy", "roll-out/push", "roll-out/shout", "roll-out/inner"]
    assert [steps[name].part for name in ("ask", "tell", "tidy", "roll-out/inner")] == [
        "steps",
        "on_failure",
        "finally",
        "finally",
    ]
    assert steps["roll-out/shout"].depends == ["roll-out/push"]
    assert steps["roll-out/shout"].timeout == "5m"
    assert steps["roll-out/shout"].secrets == ["KEY"]
    assert found.secrets[1].model_dump() == {
        "name": "KEY",
        "available": True,
        "steps": ["roll-out/shout"],
    }


def test_what_a_step_may_come_to_is_bounded_in_its_plan() -> None:
    steps = {step.name: step for step in whole().steps}
    assert (steps["roll"].items, steps["roll"].max_parallel) == (3, 2)
    assert steps["grid"].items == 6
    assert steps["open"].items == 1_000
    assert (steps["poll"].repeats, steps["poll"].artefacts) == (7, ["out/*"])
    agent = steps["sum"]
    assert (agent.tools, agent.tokens, agent.turns) == (["list_runs"], 50_000, 8)
    assert agent.risks == [
        "lets a model call list_runs",
        "gives a model with tools data that may instruct it",
    ]
    assert steps["ask"].timeout == "1d"
    assert steps["pause"].action == "wait for 5s"
    assert steps["roll"].calls == "roll-out"


def test_without_isolation_approvals_hold_back_mistakes_alone() -> None:
    risk = "commands that run without isolation could give the approvals themselves"
    assert risk in whole(isolation="none").risks
    assert risk not in whole(isolation="bwrap").risks


def test_a_step_names_the_approvals_that_it_waits_for() -> None:
    waits = {step.name for step in whole().steps if step.approvals == ["ask"]}
    assert waits == {"pause", "roll", "roll-out/push", "roll-out/shout", "roll-out/inner"}
    assert not any(step.approvals for step in whole().steps if step.name not in waits)


def test_a_step_names_the_absolute_paths_of_its_texts() -> None:
    steps = {step.name: step for step in whole().steps}
    assert steps["open"].paths == ["/", "/srv/data", "/w"]
    assert steps["grid"].paths == ["/srv/data"]
    assert steps["roll-out/inner"].paths == []


@pytest.mark.parametrize(
    ("step", "paths"),
    [
        ({"run": "cat /etc/../srv/x >/dev/null"}, ["/srv/x"]),
        ({"run": "sed 's/a/b/' f; curl http://h/p; echo $((4 / 2)) a/b"}, ["/"]),
        ({"run": 'find "/var/log" -name \'*.log\''}, ["/var/log"]),
        ({"run": 'ls --dir=/opt/x "$HOME/y" ${Z}/q ~/r ./s'}, ["/opt/x"]),
        ({"python": "x = 4 / 2\nopen('/etc/hosts')"}, ["/etc/hosts"]),
        ({"run": "ls", "env": {"A": "/a/${{ inputs.x }}", "B": "/"}}, ["/", "/a/b"]),
        ({"run": "ls", "working_dir": "/a/${{ steps.s.outputs.x }}", "depends": ["s"]},
         ["decided at run time: /a/${{ steps.s.outputs.x }}"]),
        ({"run": "ls", "env": {"D": "/etc"}, "working_dir": "${{ env.D }}"}, ["/etc"]),
        ({"run": "ls", "working_dir": "/${{ env.D }}"}, ["/home"]),
        ({"run": "ls", "working_dir": "sub"}, []),
        ({"http": {"url": "https://x.org/etc/passwd"}}, []),
    ],
)  # fmt: skip
def test_paths_are_found_in_texts(step: dict[str, Any], paths: list[str]) -> None:
    document = {
        "name": "x",
        "inputs": {"x": {"default": "b"}},
        "env": {"D": "home"},
        "steps": [{"name": "s", "run": "ls"}, {"name": "a", **step}],
    }
    assert planned(document, inputs={}).steps[1].paths == paths


def test_a_host_of_a_called_workflow_is_known_if_every_call_agrees() -> None:
    steps = {step.name: step for step in whole().steps}
    assert steps["roll-out/push"].hosts == ["eu.example.com"]
    assert steps["roll-out/shout"].hosts == [
        "decided at run time: https://${{ inputs.host }}.example.com/x"
    ]
    text = WHOLE.replace('"${{ item }}"', "one")
    steps = {step.name: step for step in planned(text, inputs={}).steps}
    assert steps["roll-out/shout"].hosts == ["one.example.com"]


def test_what_begins_parts_and_tells_of_runs_is_shown() -> None:
    found = whole()
    assert found.schedule is not None
    assert found.schedule.model_dump() == {
        "cron": "0 6 * * *",
        "timezone": "Europe/Berlin",
        "overlap": "queue",
        "catch_up": "1h",
    }
    assert found.concurrency is not None
    assert found.concurrency.model_dump() == {"group": "deploy-dev", "policy": "refuse"}
    assert found.notify[0].on == ["failed"]
    assert "hooks.example.com" in found.hosts
    assert found.secrets[0].model_dump() == {"name": "HOOK", "available": True, "steps": []}
    assert (
        "the server has no secret `HOOK`; it has KEY"
        in planned(WHOLE, inputs={}, secrets={"KEY": NO_LIMITS}).blockers
    )


def test_a_group_that_has_no_name_with_these_inputs_is_a_blocker() -> None:
    step = {"name": "a", "run": "ls"}
    text = {"name": "x", "inputs": {"g": {}}, "steps": [step]}
    group = {**text, "concurrency": {"group": "${{ inputs.g }}"}}
    assert planned(group, inputs={}).blockers == [
        "concurrency.group: with these inputs the name is empty"
    ]
    assert planned(group, inputs={"g": "a"}).can_run
    wrong = {**text, "concurrency": {"group": "${{ inputs.g.name }}"}}
    assert planned(wrong, inputs={}).blockers[0].startswith("concurrency.group: ")


def test_a_container_step_is_refused_by_name_also_in_a_called_workflow() -> None:
    container = {"name": "a", "container": {"image": "alpine", "command": ["ls", "/"]}}
    text = {
        "name": "x",
        "steps": [container, {"name": "b", "workflow": {"ref": "w"}}],
        "workflows": {"w": {"steps": [container]}},
    }
    found = planned(text, inputs={})
    assert found.blockers == [
        "step `a` is a container step, which this server does not run yet",
        "step `w/a` is a container step, which this server does not run yet",
    ]
    assert found.steps[0].action == "alpine ls /"


def test_a_long_environment_is_told_of_thousands_of_steps_within_bounds() -> None:
    text = {
        "name": "x",
        "env": {"A": " ".join(f"/data/{n}" for n in range(5_000))},
        "steps": [{"name": f"s{n}", "run": "ls"} for n in range(300)],
    }
    found = planned(text, inputs={})
    assert len(found.steps[0].paths) == 50
    assert found.steps[0].cut == ["paths"]


def test_mermaid_frames_handlers_and_workflows_inside() -> None:
    text = to_mermaid(parse_workflow(WHOLE), {"roll-out/push": "waiting", "ask": "success"})
    lines = [line.strip() for line in text.splitlines()]
    at = lines.index('subgraph w0["roll-out"]')
    assert lines[at + 1].endswith('(["push"]):::waiting')
    assert lines[at + 3 : at + 5] == ['subgraph finallyw0["finally"]', 's12["inner"]']
    assert lines[at + 5 : at + 7] == ["end", "end"]
    assert 's0{"ask"}:::success' in lines
    assert any(line.endswith('[["roll #40;each item#41;"]]') for line in lines)
    assert any(line.endswith("-. runs .-> w0") for line in lines)
    assert 'subgraph on_failure["on failure"]' in lines
    assert lines.count("end") == sum(line.startswith("subgraph") for line in lines)


def test_mermaid_draws_steps_dependencies_and_states() -> None:
    text = to_mermaid(parse_workflow(DIAMOND), {"left": "failed", "start": "success"})
    assert text.splitlines() == [
        "flowchart TD",
        '  s0["start"]:::success',
        '  s1["left"]:::failed',
        '  s2(["right"])',
        '  s3["join"]',
        "  s0 --> s1",
        "  s0 --> s2",
        "  s1 --> s3",
        "  s2 --> s3",
        "  classDef failed fill:#fee2e2,stroke:#dc2626",
        "  classDef success fill:#dcfce7,stroke:#16a34a",
    ]


def test_a_very_large_graph_is_cut_and_says_by_how_much() -> None:
    steps = [
        {"name": f"s{i}", "run": "ls", "depends": [f"s{j}" for j in range(max(0, i - 3), i)]}
        for i in range(MAX_NODES + 50)
    ]
    text = to_mermaid(parse_workflow({"name": "x", "steps": steps}))
    assert text.count("-->") <= MAX_EDGES
    assert "and 50 more steps" in text


def test_ancestors_are_found_over_any_distance() -> None:
    steps = [
        {"name": f"s{i}", "run": "ls", "depends": [f"s{i - 1}"] if i else []} for i in range(3_000)
    ]
    graph = StepGraph(parse_workflow({"name": "x", "steps": steps}).steps)
    assert graph.is_before("s0", "s2999")
    assert not graph.is_before("s2999", "s0")
    assert not graph.is_before("s7", "s7")
