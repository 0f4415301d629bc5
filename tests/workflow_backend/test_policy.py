"""Policies: what a rule can speak of, what it denies, and that doubt denies."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.attempts import needs_bwrap
from tests.workflow_backend.backends import Caller, backend
from workflow_backend.definition import parse_workflow
from workflow_backend.definition.plan import Plan, plan
from workflow_backend.definition.policy import (
    MAX_FILE_BYTES,
    MAX_RULES,
    PLAN_FIELDS,
    STEP_FIELDS,
    PolicyError,
    parse_policy,
    read_policy,
)

DEPLOY = """
name: deploy
runner: local
inputs: {env: {default: dev}, host: {default: api.example.com}}
workflows:
  roll-out:
    inputs: {host: {required: true}}
    steps:
      - {name: push, http: {url: "https://${{ inputs.host }}/x", method: POST,
         headers: {A: "${{ secrets.KEY }}"}}}
      - {name: note, run: echo done, working_dir: /srv/notes}
steps:
  - {name: ask, approval: {message: "Go?", timeout: 1h}}
  - {name: build, run: "cat /etc/hosts ${DIR}/x > out/y", env: {IN: /var/../opt/key}}
  - {name: roll, depends: [ask, build], workflow: {ref: roll-out,
     inputs: {host: "${{ inputs.host }}"}}}
  - {name: sum, agent: {prompt: Sum it up, tools: [list_runs], budget: {tokens: 900}}}
finally:
  - {name: clean, run: rm -rf out}
"""


def held(rule: str, document: Any = DEPLOY, **options: Any) -> Plan:
    """The plan of the document, held to one rule in flow style."""
    return plan(parse_workflow(document), {}, policy=parse_policy(f"rules: [{rule}]"), **options)


def broken_by(rule: str, document: Any = DEPLOY, **options: Any) -> list[str] | None:
    """The steps that break the rule; None if nothing does."""
    found = held(rule, document, **options).policy
    return found[0].steps if found else None


@pytest.mark.parametrize(
    ("condition", "steps"),
    [
        ("step.kind == 'agent'", ["sum"]),
        ("step.kind in ['run', 'python']", ["build", "clean", "roll-out/note"]),
        ("step.hosts.exists(host, !host.endsWith('.org'))", ["roll-out/push"]),
        ("step.paths.exists(path, path.startsWith('/etc'))", ["build"]),
        ("'/opt/key' in step.paths", ["build"]),
        ("'/srv/notes' in step.paths", ["roll-out/note"]),
        ("'KEY' in step.secrets && step.network", ["roll-out/push"]),
        ("step.risks.exists(risk, risk.contains('deletes'))", ["clean"]),
        ("step.tokens > 500 || 'x' in step.tools", ["sum"]),
        ("step.part == 'finally'", ["clean"]),
        ("step.calls == 'roll-out'", ["roll"]),
        ("step.kind == 'run' && step.isolation == 'none'", None),
        ("step.kind == 'approval' && step.runner != 'local'", None),
        ("step.action.contains('cat ')", ["build"]),
        ("owner != 'local'", None),
    ],
)
def test_a_rule_about_steps_names_those_that_break_it(
    condition: str, steps: list[str] | None
) -> None:
    assert broken_by(f'{{name: r, deny_step: "{condition}"}}') == steps


@pytest.mark.parametrize(
    ("condition", "is_broken"),
    [
        ("plan.kinds.agent > 0", True),
        ("plan.kinds.container > 0", False),
        ("plan.inputs.env == 'dev' && owner == 'local'", True),
        ("plan.hosts.exists(host, host == 'api.example.com')", True),
        ("plan.isolation == 'none' || plan.runner != 'local'", False),
        ("'/etc/hosts' in plan.paths", True),
        ("plan.steps > 100 || plan.is_scheduled", False),
        ("'list_runs' in plan.tools && 'KEY' in plan.secrets", True),
        ("plan.group != '' || size(plan.notify) > 0", False),
        ("plan.network && plan.workflow == 'deploy'", True),
    ],
)
def test_a_rule_about_the_plan_is_broken_where_it_is_true(condition: str, is_broken: bool) -> None:
    assert (broken_by(f'{{name: r, deny: "{condition}"}}') is not None) == is_broken


def test_a_violation_keeps_the_workflow_from_running_and_says_why() -> None:
    rule = "{name: no-agents, deny_step: \"step.kind == 'agent'\", message: Ask us first.}"
    found = held(rule, secrets={})
    assert not found.can_run
    assert "policy `no-agents`: Ask us first. (sum)" in found.blockers
    assert found.policy[0].model_dump() == {
        "rule": "no-agents",
        "message": "Ask us first.",
        "steps": ["sum"],
    }


def test_without_a_broken_rule_the_plan_is_as_without_a_policy() -> None:
    workflow = parse_workflow("name: x\nsteps: [{name: a, run: ls, timeout: 1s}]")
    policy = parse_policy("rules: [{name: r, deny_step: \"step.kind == 'agent'\"}]")
    assert plan(workflow, {}, policy=policy) == plan(workflow, {})


def test_an_approval_counts_for_what_waits_for_it_also_inside_a_workflow_that_is_called() -> None:
    rule = "{name: r, require_approval: \"step.kind in ['run', 'http']\"}"
    assert broken_by(rule) == ["build", "clean"]
    assert broken_by(rule, DEPLOY.replace("depends: [ask, build]", "depends: [build]")) == [
        "build",
        "clean",
        "roll-out/push",
        "roll-out/note",
    ]


ASKED = """
name: x
inputs: {names: {type: array, default: [a]}}
steps:
  - {name: ask, approval: {message: Go?, timeout: 1h}}
  - {name: pause, depends: [ask], wait: {for: 1s}, if: "inputs.names.size() > 0"}
  - {name: act, depends: [pause], run: ls}
"""
# What is changed in it, so that `act` may run though nobody has agreed.
UNASKED = {
    "no dependency": ("depends: [pause], run", "run"),
    "always": ("depends: [pause], run", "depends: [pause], if: always(), run"),
    "failure": ("depends: [pause], run", "depends: [pause], if: '!success() || failure()', run"),
    "always in between": ("inputs.names.size() > 0", "always()"),
    "approves itself": ("timeout: 1h", "timeout: 1h, on_timeout: approve"),
    "refusal is forgiven": ("Go?, timeout: 1h}", "Go?, timeout: 1h}, continue_on_error: true"),
    "asked for each of no items": ("name: ask,", 'name: ask, foreach: "${{ inputs.names }}",'),
}


def test_an_approval_before_a_step_before_is_enough() -> None:
    assert broken_by("{name: r, require_approval: \"step.kind == 'run'\"}", ASKED) is None


@pytest.mark.parametrize("change", UNASKED.values(), ids=UNASKED.keys())
def test_an_approval_without_which_the_step_runs_all_the_same_does_not_count(
    change: tuple[str, str],
) -> None:
    assert change[0] in ASKED
    text = ASKED.replace(*change)
    assert broken_by("{name: r, require_approval: \"step.kind == 'run'\"}", text) == ["act"]


def test_an_approval_before_only_one_of_two_calls_does_not_count() -> None:
    text = """
name: x
workflows: {w: {steps: [{name: act, run: ls}]}}
steps:
  - {name: ask, approval: {message: Go?, timeout: 1h}}
  - {name: one, depends: [ask], workflow: {ref: w}}
"""
    rule = "{name: r, require_approval: \"step.kind == 'run'\"}"
    assert broken_by(rule, text) is None
    assert broken_by(rule, f"{text}  - {{name: two, workflow: {{ref: w}}}}\n") == ["w/act"]


def test_a_rule_that_cannot_be_computed_denies_and_says_so() -> None:
    found = held('{name: r, deny: "plan.inputs.nobody == 1", message: No.}').policy
    assert found[0].message.startswith("No. (the rule cannot be computed: `plan.inputs.nobody`")
    found = held('{name: r, deny_step: "step.hosts[0] == step.name"}').policy
    assert "ask" in found[0].steps
    assert "cannot be computed" in found[0].message


def test_a_rule_whose_value_is_no_boolean_denies() -> None:
    found = held('{name: r, deny: "plan.steps"}').policy
    assert "neither true nor false" in found[0].message


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"run": "true\n" * 1_000 + "cat x" + "\ntrue" * 1_000}, "action"),
        ({"run": " ".join(f"/data/{n}" for n in range(60))}, "paths"),
        ({"run": " ".join(f"http://h{n}.org" for n in range(60)), "network": True}, "hosts"),
    ],
)
def test_what_is_not_told_whole_is_denied_by_a_rule_that_reads_it(
    step: dict[str, Any], field: str
) -> None:
    document = {"name": "x", "steps": [{"name": "a", **step}]}
    reads = {"action": "step.action == ''", "paths": "'/x' in step.paths"}
    rule = reads.get(field, "'x.org' in step.hosts")
    found = held(f'{{name: r, deny_step: "{rule}"}}', document).policy
    assert found[0].steps == ["a"]
    assert "longer than what is looked at" in found[0].message
    if field != "action":
        assert broken_by(f"{{name: r, deny: \"'/x' in plan.{field}\"}}", document) == []
    assert broken_by("{name: r, deny_step: \"step.kind == 'agent'\"}", document) is None


def undecided(**step: Any) -> dict[str, Any]:
    """A workflow with a step `b` about which the output of another decides."""
    steps = [{"name": "a", "run": "echo"}, {"name": "b", "depends": ["a"], **step}]
    return {"name": "x", "steps": steps}


OUTPUT = "${{ steps.a.outputs.stdout }}"
# What the run decides about `b`, the field that says so, and the one that is not whole.
UNDECIDED = {
    "host": (undecided(http={"url": f"https://{OUTPUT}/?.x.org"}), "has_unknown_hosts", "hosts"),
    "whole URL": (undecided(http={"url": OUTPUT}), "has_unknown_hosts", "hosts"),
    "redirect": (
        undecided(http={"url": "https://x.org", "follow_redirects": True}),
        "follows_redirects",
        "hosts",
    ),
    "folder": (undecided(run="ls", working_dir=f"/x.org/{OUTPUT}"), "has_unknown_paths", "paths"),
}


@pytest.mark.parametrize(("document", "flag", "field"), UNDECIDED.values(), ids=UNDECIDED.keys())
def test_what_the_run_decides_is_denied_by_a_rule_that_reads_it(
    document: dict[str, Any], flag: str, field: str
) -> None:
    for read in (f"step.{field}", f"step['{field}']"):
        for condition in ("!t.contains('x.org')", "t.contains('evil')", "!t.endsWith('.x.org')"):
            rule = f'{{name: r, deny_step: "{read}.exists(t, {condition})"}}'
            assert broken_by(rule, document) == ["b"], rule
    assert broken_by(f"{{name: r, deny: \"'evil' in plan.{field}\"}}", document) == []
    assert broken_by('{name: r, deny: "size(plan) == 0"}', document) == []
    assert broken_by(f"{{name: r, require_approval: \"'evil' in step.{field}\"}}", document) == [
        "b"
    ]
    assert broken_by("{name: r, deny_step: \"step.kind == 'agent'\"}", document) is None


@pytest.mark.parametrize(("document", "flag", "field"), UNDECIDED.values(), ids=UNDECIDED.keys())
def test_a_rule_that_names_what_is_unknown_may_allow_it_and_sees_no_text_in_its_place(
    document: dict[str, Any], flag: str, field: str
) -> None:
    text = "decided at run time"
    for root, effect in (("step", "deny_step"), ("plan", "deny")):
        seen = f"{root}.{field}.exists(t, t.contains('{text}'))"
        assert broken_by(f'{{name: r, {effect}: "{seen} && {root}.{flag}"}}', document) is None
        found = broken_by(f'{{name: r, {effect}: "{seen} || {root}.{flag}"}}', document)
        assert found is not None
    others = {"has_unknown_hosts", "follows_redirects", "has_unknown_paths"} - {flag}
    for other in others:
        rule = f"{{name: r, deny_step: \"'evil' in step.{field} || step.{other}\"}}"
        assert broken_by(rule, document) == ["b"]


def test_redirects_alone_are_allowed_by_the_rule_of_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text()
    rules = page.split("<!-- file: redirects.yaml -->")[1].split("```yaml\n")[1].split("```")[0]
    policy = parse_policy(rules)
    for request, is_allowed in (
        ({"url": "https://api.example.com/", "follow_redirects": True}, True),
        ({"url": "https://x.org/", "follow_redirects": True}, False),
        ({"url": f"https://{OUTPUT}/?.example.com", "follow_redirects": True}, False),
    ):
        found = plan(parse_workflow(undecided(http=request)), {}, policy=policy)
        assert (not found.policy) is is_allowed, request


def test_a_host_of_a_message_that_the_run_decides_is_unknown_to_rules_about_the_plan() -> None:
    document = {
        "name": "x",
        "steps": [{"name": "a", "run": "ls"}],
        "notify": [{"url": "https://${{ run.id }}/?.x.org"}],
    }
    assert broken_by("{name: r, deny: \"plan.hosts.exists(h, h == 'evil')\"}", document) == []
    rule = "{name: r, deny: \"plan.hosts.exists(h, !plan.has_unknown_hosts || h != '')\"}"
    assert broken_by(rule, document) is None
    assert held(rule, document).hosts == ["decided at run time: https://${{ run.id }}/?.x.org"]


def test_a_long_url_of_a_message_is_held_to_its_whole_host() -> None:
    long = f"https://{'a' * 600}@evil.org/"
    document = {
        "name": "x",
        "inputs": {"url": {"default": long}},
        "steps": [{"name": "a", "run": "ls"}],
        "notify": [{"url": "${{ inputs.url }}"}],
    }
    assert broken_by("{name: r, deny: \"'evil.org' in plan.hosts\"}", document) == []
    assert held('{name: r, deny: "false"}', document).hosts == ["evil.org"]


@pytest.mark.parametrize(
    "step",
    [
        {"run": "curl HTTPS://Evil.ORG/x", "network": True},
        {"run": "curl https://x.org:80@evil.org/", "network": True},
        {"http": {"url": "HTTPS://Evil.org/${{ run.id }}"}},
    ],
)
def test_a_host_is_found_however_its_url_is_written(step: dict[str, Any]) -> None:
    document = {"name": "x", "steps": [{"name": "a", **step}]}
    assert broken_by("{name: r, deny_step: \"step.hosts == ['evil.org']\"}", document) == ["a"]


def test_many_steps_that_break_a_rule_are_named_up_to_ten() -> None:
    steps = [{"name": f"s{n}", "run": "ls"} for n in range(5_000)]
    found = broken_by("{name: r, deny_step: \"step.kind == 'run'\"}", {"name": "x", "steps": steps})
    assert found == [f"s{n}" for n in range(10)]


@pytest.mark.parametrize("fields", [PLAN_FIELDS, STEP_FIELDS], ids=["plan", "step"])
def test_every_field_that_a_rule_may_read_is_there(fields: tuple[str, ...]) -> None:
    root, effect = ("plan", "deny") if fields is PLAN_FIELDS else ("step", "deny_step")
    for name in fields:
        found = held(f'{{name: r, {effect}: "type({root}.{name}) == null_type"}}').policy
        assert not found, (name, found)


FAULTS = {
    "no list": ("rules: x", "the one key `rules`"),
    "no rule": ("rules: [x]", "rule 1: a rule is a mapping"),
    "no name": ("rules: [{deny: 'true'}]", "rule 1: `name`"),
    "unknown key": (
        "rules: [{name: a, denny: 'true'}]",
        "rule `a`: there is no key `denny`; did you mean `deny`?",
    ),
    "no effect": ("rules: [{name: a}]", "rule `a`: it has exactly one of"),
    "two effects": ("rules: [{name: a, deny: 'true', deny_step: 'true'}]", "exactly one of"),
    "twice": ("rules: [{name: a, deny: 'true'}, {name: a, deny: 'true'}]", "another of this name"),
    "syntax": ("rules: [{name: a, deny: '1 =='}]", "rule `a`: "),
    "unknown field": ("rules: [{name: a, deny: plan.hots == 1}]", "did you mean `plan.hosts`?"),
    "step in a rule of the plan": ("rules: [{name: a, deny: step.kind == ''}]", "`step` is not"),
    "unknown function": ("rules: [{name: a, deny: trim('a') == ''}]", "no function `trim()`"),
    "status function": ("rules: [{name: a, deny: always()}]", "rule `a`: "),
    "no YAML": ("rules: [", "not YAML"),
    "an anchor": ("rules: &x []", "anchors"),
    "too many": (
        f"rules: [{', '.join(f'{{name: r{n}, deny: owner}}' for n in range(MAX_RULES + 1))}]",
        "the limit is 50",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_in_the_file_names_the_rule_and_the_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError) as raised:
        read_policy(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert reason in str(raised.value)


def test_a_file_that_cannot_be_read_or_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        read_policy(tmp_path / "none.yaml")
    (tmp_path / "large.yaml").write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(PolicyError, match="over 64 KiB"):
        read_policy(tmp_path / "large.yaml")


async def test_a_backend_refuses_to_run_what_its_policy_forbids(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("rules: [{name: no-http, deny_step: step.kind == 'http', message: Not here.}]")
    document = '{"name": "x", "steps": [{"name": "a", "http": {"url": "https://x.org"}}]}'
    async with backend(tmp_path / "data", {"AGENT_SERVER_POLICY_FILE": str(file)}) as client:
        caller = Caller(client)
        planned = await caller.answer("plan_workflow", {"workflow": document})
        refusal = await caller.refusal("execute_workflow", {"workflow": document}, run_id="r")
    assert planned["policy"] == [{"rule": "no-http", "message": "Not here.", "steps": ["a"]}]
    assert "policy `no-http`: Not here. (a)" in planned["blockers"]
    assert "policy `no-http`: Not here. (a)" in refusal


@needs_bwrap
async def test_an_isolated_step_does_not_see_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("rules: [{name: no-http, deny_step: step.kind == 'http'}]")
    document = {"name": "y", "steps": [{"name": "a", "run": f"cat {file} || echo hidden"}]}
    async with backend(tmp_path / "data", {"AGENT_SERVER_POLICY_FILE": str(file)}) as client:
        arguments = {"workflow": json.dumps(document)}
        run = await Caller(client).answer("execute_workflow", arguments, run_id="s")
    assert run["status"] == "success"
    assert "no-http" not in run["steps"][0]["output"]
