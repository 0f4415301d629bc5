"""What a document may be, and what is refused because it means something else than it shows."""

import json
from typing import Any

import pytest

from workflow_backend.definition.documents import MAX_BYTES, MAX_DEPTH, read_document
from workflow_backend.definition.problems import InvalidWorkflowError, Problem

READ = {
    "YAML 1.2 has two booleans": ("a: yes\nb: no\nc: on\nd: true", ["yes", "no", "on", True]),
    "numbers of the core schema": ("a: 010\nb: 0o10\nc: 0x1F\nd: 1e3", [10, 8, 31, 1000.0]),
    "times and dates are text": ("a: 1:30\nb: 2026-11-22", ["1:30", "2026-11-22"]),
    "nulls": ("a: ~\nb: null\nc:\nd: ''", [None, None, None, ""]),
    "quoted scalars are text": ("a: 'true'\nb: \"1\"", ["true", "1"]),
    "infinity is text": ("a: 1e999\nb: .inf", ["1e999", ".inf"]),
    "JSON": ('{"a": [1, {"b": null}]}', [[1, {"b": None}]]),
    "YAML's flow style": ("{a: b, c: [d]}", ["b", ["d"]]),
    "a Markdown fence": ("```yaml\na: 1\n```\n", [1]),
}


@pytest.mark.parametrize(("text", "values"), READ.values(), ids=READ.keys())
def test_a_document_is_read(text: str, values: list[Any]) -> None:
    assert list(read_document(text).values()) == values


REFUSED = {
    "duplicate key": ("a: 1\na: 2", "line 2, column 1", "the key `a` is there twice."),
    "duplicate key, nested": ("x:\n  a: 1\n  a: 2", "line 3, column 3", "is there twice."),
    "duplicate key in JSON": ('{"a": 1, "a": 2}', "a", "is there twice."),
    "anchor": ("a: &x 1", "line 1, column 4", "anchors and aliases"),
    "alias": ("a: [b]\nc: *b", "line 2, column 4", "anchors and aliases"),
    "tag": ("a: !!python/object:os.system x", "line 1, column 4", "tags"),
    "merge key": ("<<: {a: 1}", "line 1, column 1", "a key is no plain text."),
    "a list as a key": ("? [a]\n: 1", "line 1, column 3", "a key is no plain text."),
    "two documents": ("a: 1\n---\nb: 2", "line 2, column 1", "second document"),
    "a list": ("- a", "", "the document is a list"),
    "nothing": ("", "", "the document is empty"),
    "plain text": ("run my backup", "", "the document is a plain text"),
    "broken YAML": ("a: b: c", "line 1, column 5", "mapping values are not allowed"),
    "a tab": ("a:\n\tb: 1", "line 2, column 1", "cannot start any token"),
    "broken JSON": ('{"a": 1', "line 1, column 8", "this is not JSON"),
    "NaN": ('{"a": NaN}', "", "NaN is no JSON number."),
    "a control character": ("a: \x01", "", "control characters are not allowed"),
    "a lone surrogate": ("a: \ud800", "", "surrogates not allowed"),
    "too large": (f"a: {'x' * MAX_BYTES}", "", "over 256 KiB"),
    "too deep in YAML": (f"a: {'[' * 99}{']' * 99}", "line 1, column 27", "over 24 levels"),
    "too deep in JSON": (f'{{"a": {"[" * 99}{"]" * 99}}}', "", "over 24 levels"),
    "far too deep in JSON": ('{"a":' + "[" * 50_000, "", "over 24 levels"),
}


@pytest.mark.parametrize(("text", "path", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_document_is_refused_with_its_place(text: str, path: str, reason: str) -> None:
    problem = _refusal(text)
    assert reason in problem.reason
    assert problem.path.startswith(path)
    assert problem.fix


def test_an_object_that_was_read_already_is_taken() -> None:
    assert read_document({"name": "x", "steps": [{"a": (1, 2)}]}) == {
        "name": "x",
        "steps": [{"a": [1, 2]}],
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": {1: 2}}, "is no text"),
        ({"a": object()}, "is no JSON value"),
        ({"a": float("inf")}, "is not finite"),
        ({"a": "x" * MAX_BYTES}, "over 256 KiB"),
        ({"a": ["\ud800"]}, "half of a surrogate pair"),
        ({"\udfff": 1}, "half of a surrogate pair"),
    ],
)
def test_an_object_that_is_no_json_is_refused(value: dict[str, object], reason: str) -> None:
    assert reason in _refusal(value).reason


def test_half_of_a_surrogate_pair_in_json_is_refused_and_a_whole_one_read() -> None:
    problem = _refusal('{"steps": [{"run": "echo \\ud800"}]}')
    assert (problem.path, "half of a surrogate pair" in problem.reason) == ("steps[0].run", True)
    assert read_document('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize("as_text", [True, False])
def test_depth_is_counted_alike_in_text_and_objects(as_text: bool) -> None:
    def nested(levels: int) -> Any:
        value: object = 1
        for _ in range(levels):
            value = [value]
        return json.dumps({"a": value}) if as_text else {"a": value}

    assert read_document(nested(MAX_DEPTH - 1))
    assert "levels" in _refusal(nested(MAX_DEPTH)).reason


def _refusal(source: Any) -> Problem:
    with pytest.raises(InvalidWorkflowError) as caught:
        read_document(source)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]
