"""Faulty definitions: each fault is named with its path, its reason and its fix, all at once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflow_backend.faulty_definitions import CASES, GOOD, STEP
from tests.workflow_backend.faulty_features import FEATURE_CASES, FEATURES
from workflow_backend.definition import (
    InvalidWorkflowError,
    check_definition,
    graph_checks,
    parse_workflow,
)
from workflow_backend.definition.normal_form import to_yaml


@pytest.mark.parametrize("good", [GOOD, FEATURES], ids=["steps", "features"])
def test_the_good_definition_is_valid(good: Any) -> None:
    checked = check_definition(good)
    assert checked.workflow is not None, checked.problems


ALL_CASES: dict[str, tuple[Any, str, str, str]] = {**CASES, **FEATURE_CASES}


@pytest.mark.parametrize(
    ("text", "path", "reason", "fix"), ALL_CASES.values(), ids=ALL_CASES.keys()
)
def test_a_fault_is_named(text: Any, path: str, reason: str, fix: str) -> None:
    checked = check_definition(text)
    assert checked.workflow is None
    found = [problem for problem in checked.problems if problem.path == path]
    assert found, [str(problem) for problem in checked.problems]
    assert reason in found[0].reason
    assert fix in found[0].fix
    assert len(checked.problems) <= 2, [str(problem) for problem in checked.problems]


def test_faults_of_structure_and_meaning_are_told_together() -> None:
    text = """
name: x
timeout: soon
steps:
  - {name: a, command: 'echo ${{ inputs.z }}', limit: 3}
  - {name: b, needs: c, run: ls}
  - {name: c, run: ls, depends: [b], env: {PORT: 1}}
"""
    paths = {problem.path for problem in check_definition(text).problems}
    assert paths >= {
        "timeout",
        "steps[0].command",
        "steps[0].run",
        "steps[0].limit",
        "steps[1].needs",
        "steps[1].depends",
        "steps[2].env.PORT",
    }


def test_a_cycle_among_thousands_of_steps_is_found() -> None:
    steps: list[dict[str, Any]] = [
        {"name": f"s{i}", "run": "ls", "depends": [f"s{i - 1}"] if i else ["s2999"]}
        for i in range(3_000)
    ]
    problems = check_definition({"name": "x", "steps": steps}).problems
    assert any("wait for each other" in problem.reason for problem in problems)
    assert all(len(problem.reason) < 2_000 for problem in problems)


def test_problems_are_at_most_fifty() -> None:
    steps = [{"name": f"s{i}", "rum": "ls"} for i in range(400)]
    assert len(check_definition({"name": "x", "steps": steps}).problems) == 50


def test_thousands_of_unknown_names_are_not_all_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    monkeypatch.setattr(graph_checks, "closest", lambda name, known: looked_up.append(name))
    steps = [{"name": f"step{n}", "run": "ls", "depends": [f"stop{n}"]} for n in range(4_000)]
    checked = check_definition({"name": "x", "steps": steps})
    assert len(checked.problems) == len(looked_up) == 50
    assert "no step `stop0`" in checked.problems[0].reason


def calls(depth: int) -> dict[str, Any]:
    """A document in which workflows call each other, one inside the other."""
    inner = {
        f"w{n}": {"steps": [{"name": "a", "workflow": {"ref": f"w{n + 1}"}}]}
        for n in range(1, depth)
    }
    last = {f"w{depth}": {"steps": [{"name": "a", "run": "ls", "timeout": "1s"}]}}
    first = [{"name": "a", "workflow": {"ref": "w1"}}]
    return {"name": "x", "steps": first, "workflows": {**inner, **last}}


def test_workflows_call_each_other_five_deep_at_most() -> None:
    assert check_definition(calls(5)).workflow is not None
    problems = check_definition(calls(6)).problems
    assert [problem.path for problem in problems] == ["workflows"]
    assert "6 deep, the limit is 5" in problems[0].reason


def test_a_chain_of_thousands_of_calls_is_refused_without_a_crash() -> None:
    problems = check_definition(calls(2_000)).problems
    assert "2000 deep" in problems[0].reason


def test_a_schema_whose_references_multiply_is_refused() -> None:
    defs: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(12)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**defs, "d12": {"type": "string"}}}
    step = {"name": "a", "agent": {"prompt": "x", "output_schema": schema}}
    problems = check_definition({"name": "x", "steps": [step]}).problems
    assert "over 5000 parts" in problems[0].reason
    schema["$defs"] = {"d0": {"anyOf": [{"$ref": "#/$defs/d0"}]}}
    problems = check_definition({"name": "x", "steps": [step]}).problems
    assert "leads back to itself" in problems[0].reason


def test_an_empty_value_is_as_if_the_key_were_left_out() -> None:
    empty = {"timeout": None, "foreach": None, "http": None, "repeat": None, "if": None}
    step = {"name": "a", "run": "ls", **empty}
    checked = check_definition({"name": "x", "steps": [step], "schedule": None})
    assert checked.workflow == parse_workflow({"name": "x", "steps": [{"name": "a", "run": "ls"}]})


def test_parse_raises_with_every_problem() -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        parse_workflow("name: x\nsteps: [{name: a}, {name: b}]")
    assert len(caught.value.problems) == 2


WARNINGS = {
    "unknown runner": (f"name: x\nrunner: moon\n{STEP}", "runner"),
    "no time limit": (f"name: x\n{STEP}", "steps[0]"),
    "unused input": (f"name: x\ninputs: {{a: {{}}}}\n{STEP}", "inputs.a"),
    "network command": ("name: x\nsteps: [{name: a, run: 'cd /x; curl y', timeout: 5s}]",
                        "steps[0].run"),
    "network subcommand": ("name: x\nsteps: [{name: a, run: 'git clone x', timeout: 5s}]",
                           "steps[0].run"),
    "broken python": ("name: x\nsteps: [{name: a, python: 'print(', timeout: 5s}]",
                      "steps[0].python"),
    "braces without a dollar": ("name: x\nsteps: [{name: a, run: ls, env: {A: '{{ inputs.b }}'}}]",
                                "steps[0].env.A"),
    "words instead of a command": ("name: x\nsteps: [{name: a, needs_command: do it}]", "steps[0]"),
    "container": ("name: x\nsteps: [{name: a, container: {image: a}}]", "steps[0]"),
    "endless approval": ("name: x\nsteps: [{name: a, approval: {message: Go?}}]",
                         "steps[0].approval"),
    "endless wait": ("name: x\nsteps: [{name: a, wait: {signal: b}}]", "steps[0].wait"),
    "approval that approves itself": ("name: x\nsteps: [{name: a, approval: {message: Go?, timeout:"
                                      " 1h, on_timeout: approve}}]",
                                      "steps[0].approval.on_timeout"),
    "forgiven refusal": ("name: x\nsteps: [{name: a, approval: {message: Go?, timeout: 1h},"
                         " continue_on_error: true}]", "steps[0].continue_on_error"),
    "always after a question": ("name: x\nsteps: [{name: a, approval: {message: Go?, timeout: 1h}},"
                                 " {name: b, depends: [a], if: always(), run: ls, timeout: 1s}]",
                                 "steps[1].if"),
    "items that are not used": ("name: x\nsteps: [{name: a, run: ls, timeout: 1s, foreach: [1]}]",
                                "steps[0].foreach"),
    "row that is not used": ("name: x\nsteps: [{name: a, run: ls, timeout: 1s, matrix: {a: [1]}}]",
                             "steps[0].matrix"),
    "long last step": (f"name: x\n{STEP}\nfinally: [{{name: z, run: ls, timeout: 11m}}]",
                       "finally[0]"),
    "question at the end": (f"name: x\n{STEP}\nfinally: [{{name: z, approval: {{message: Go?}}}}]",
                            "finally[0]"),
    "workflow that nobody calls": (f"name: x\n{STEP}\nworkflows: {{w: {{{STEP}}}}}",
                                   "workflows.w"),
    "unused input inside": ("name: x\nsteps: [{name: a, workflow: {ref: w}}]\n"
                            f"workflows: {{w: {{inputs: {{i: {{}}}}, {STEP}}}}}",
                            "workflows.w.inputs.i"),
    "no time limit inside": ("name: x\nsteps: [{name: a, workflow: {ref: w}}]\n"
                             f"workflows: {{w: {{{STEP}}}}}", "workflows.w.steps[0]"),
    "scheduled without an input": ("name: x\nschedule: {cron: '0 6 * * *'}\ninputs: {i: {required:"
                                   f" true}}}}\n{STEP}", "inputs.i"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "path"), WARNINGS.values(), ids=WARNINGS.keys())
def test_what_is_probably_not_meant_is_a_warning(text: str, path: str) -> None:
    checked = check_definition(text)
    assert checked.workflow is not None
    assert path in {warning.path for warning in checked.warnings}


@pytest.mark.parametrize(
    "script", ["echo curl", "# wget x", "cat curl.txt", "printf '%s' ssh", "git status"]
)
def test_a_word_that_is_no_command_is_no_warning(script: str) -> None:
    text = {"name": "x", "steps": [{"name": "a", "run": script, "timeout": "5s"}]}
    assert not check_definition(text).warnings


def test_the_normal_form_reads_back_as_the_same_workflow() -> None:
    workflow = parse_workflow(GOOD)
    again = parse_workflow(to_yaml(workflow))
    assert again == workflow
    assert to_yaml(again) == to_yaml(workflow)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_survives_the_normal_form(text: str) -> None:
    step = {"name": "a", "run": "ls", "env": {"A": text.replace("${{", "")}, "description": text}
    checked = check_definition({"name": "x", "steps": [step]})
    if checked.workflow is not None and not set(text) & set(UNWRITABLE):
        assert parse_workflow(to_yaml(checked.workflow)) == checked.workflow


UNWRITABLE = "".join(map(chr, range(0xD800, 0xE000)))

KEYS = st.sampled_from(
    ["name", "steps", "run", "if", "env", "inputs", "depends", "retry", "http", "url", "type",
     "default", "timeout", "python", "outputs", "json", "limit", "x", ""]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["a", "5s", "${{ inputs.a }}", "${{", "string", "steps.a.status", "https://x"]),
)  # fmt: skip
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(deadline=None, max_examples=300)
@given(
    st.fixed_dictionaries(
        {"name": st.just("x")},
        optional={
            "inputs": DOCUMENTS,
            "env": DOCUMENTS,
            "outputs": DOCUMENTS,
            "steps": st.lists(st.dictionaries(KEYS, DOCUMENTS, max_size=6) | DOCUMENTS, max_size=3),
        },
    )
)
def test_no_document_breaks_the_check(document: dict[str, object]) -> None:
    checked = check_definition(document)
    assert checked.workflow is not None or checked.problems


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 40), st.text(max_size=6))
def test_no_damage_to_a_good_text_breaks_the_check(at: int, length: int, instead: str) -> None:
    checked = check_definition(GOOD[:at] + instead + GOOD[at + length :])
    assert checked.workflow is not None or checked.problems


def test_a_definition_read_from_a_file_needs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "workflow.yaml"
    path.write_text(GOOD)
    assert parse_workflow(path.read_text()).name == "good"
