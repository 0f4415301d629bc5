"""The values of inputs: defaults, conversion of text, and why a value does not fit."""

from typing import Any

import pytest

from workflow_backend.definition import InvalidWorkflowError, parse_workflow, validate_inputs

WORKFLOW = parse_workflow(
    {
        "name": "x",
        "inputs": {
            "text": {"default": "a", "pattern": "^[a-z]*$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "ratio": {"type": "number"},
            "flag": {"type": "boolean", "default": False},
            "items": {"type": "array"},
            "options": {"type": "object"},
            "stage": {"enum": ["dev", "prod"]},
            "who": {"required": True},
        },
        "steps": [{"name": "a", "run": "ls"}],
    }
)


def test_defaults_and_absent_values_are_filled_in() -> None:
    assert validate_inputs(WORKFLOW, {"who": "me"}) == {
        "text": "a", "count": None, "ratio": None, "flag": False, "items": None,
        "options": None, "stage": None, "who": "me",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("count", "3", 3),
        ("count", 3.0, 3),
        ("ratio", "0.5", 0.5),
        ("ratio", 2, 2),
        ("flag", "true", True),
        ("items", '["a", 1]', ["a", 1]),
        ("options", '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("text", "true", "true"),
        ("text", None, "a"),
    ],
)
def test_a_value_is_taken_or_read_from_text(name: str, given: object, value: object) -> None:
    resolved = validate_inputs(WORKFLOW, {"who": "me", name: given})[name]
    assert resolved == value
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    ("given", "path", "reason"),
    [
        ({"text": "A1"}, "inputs.text", "does not match"),
        ({"text": 1}, "inputs.text", "is no string"),
        ({"count": 0}, "inputs.count", "under the minimum"),
        ({"count": 10}, "inputs.count", "over the maximum"),
        ({"count": 1.5}, "inputs.count", "is no integer"),
        ({"count": True}, "inputs.count", "is no integer"),
        ({"count": "many"}, "inputs.count", "is no integer"),
        ({"ratio": "NaN"}, "inputs.ratio", "is no number"),
        ({"ratio": float("inf")}, "inputs.ratio", "not finite"),
        ({"flag": "yes"}, "inputs.flag", "is no boolean"),
        ({"items": "a,b"}, "inputs.items", "is no array"),
        ({"stage": "test"}, "inputs.stage", "not allowed"),
        ({"who": None}, "inputs.who", "is required"),
        ({"whoo": "x"}, "inputs.whoo", "no such input"),
        ({"text": "x" * 300_000}, "inputs", "over 256 KiB"),
    ],
)
def test_a_value_that_does_not_fit_is_named(given: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        validate_inputs(WORKFLOW, {"who": "me", **given})
    problems = caught.value.problems
    assert [problem.path for problem in problems] == [path]
    assert reason in problems[0].reason
    assert problems[0].fix


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        validate_inputs(WORKFLOW, {"count": 0, "flag": 7, "zz": 1})
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"inputs.count", "inputs.flag", "inputs.zz", "inputs.who"}


def test_a_hostile_pattern_takes_no_more_time_than_any_other() -> None:
    workflow = parse_workflow(
        {
            "name": "x",
            "inputs": {"a": {"pattern": "^(a+)+$"}},
            "steps": [{"name": "a", "run": "ls"}],
        }
    )
    with pytest.raises(InvalidWorkflowError):
        validate_inputs(workflow, {"a": "a" * 5_000 + "!"})
