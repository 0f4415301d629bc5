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
