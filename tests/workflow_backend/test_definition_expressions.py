"""Expressions: their values, their bounds, and that data never becomes an expression."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_backend.definition.expressions import (
    ExpressionError,
    evaluate,
    evaluate_condition,
    references,
    render,
    resolve_secrets,
)

CONTEXT: dict[str, Any] = {
    "inputs": {"n": 3, "text": "a", "items": [1, 2, 3], "nothing": None, "ratio": 0.5},
    "steps": {
        "check-disk": {"status": "success", "outputs": {"stdout": "42", "json": {"free": [7]}}},
        "b": {"status": "failed", "outputs": {}},
    },
    "env": {"HOME": "/x"},
    "run": {"id": "r1"},
}

VALUES = [
    ("inputs.n + 1", 4),
    ("inputs.n > 2 && inputs.text == 'a'", True),
    ("steps['check-disk'].outputs.stdout", "42"),
    ("steps.check-disk.outputs.stdout", "42"),
    ("steps.check-disk.outputs.json.free[0] - 1", 6),
    ("'steps.check-disk' + inputs.text", "steps.check-diska"),
    ("inputs.items.map(x, x * 2)", [2, 4, 6]),
    ("inputs.items.filter(x, x > 1).size()", 2),
    ("has(steps.b.outputs.stdout) ? 'yes' : 'no'", "no"),
    ("inputs.nothing == null", True),
    ("{'a': [1, 2.5, null, true]}", {"a": [1, 2.5, None, True]}),
    ("timestamp('2026-11-22T10:00:00Z')", "2026-11-22T10:00:00Z"),
    ("duration('90s')", 90.0),
    ("run.id + env.HOME", "r1/x"),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
def test_an_expression_has_a_value(expression: str, value: object) -> None:
    assert evaluate(expression, CONTEXT) == value


ERRORS = [
    ("inputs.zz", "inputs holds items, n, nothing, ratio, text"),
    ("steps.nope.outputs.stdout", "steps holds b, check-disk"),
    ("1 +", "Syntax error"),
    ("inputs.n + 'a'", "Convert explicitly"),
    ("inputs.items[9]", "out of bounds"),
    ("1 / 0", "division by zero"),
    ("foo", "Undefined variable"),
    ("double('NaN')", "not a finite number"),
    ("", "is empty"),
    ("'" + "x" * 1000 + "'", "the limit is 1000"),
    ("(" * 40 + "1" + ")" * 40, "nested over 32"),
    ("[1].map(a, [1].map(b, [1].map(c, 1)))", "3 deep"),
]


@pytest.mark.parametrize(("expression", "reason"), ERRORS)
def test_a_faulty_expression_says_why(expression: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, CONTEXT)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "inputs.big.map(a, inputs.big.map(b, a + b))",
        "inputs.big.map(a, inputs.big + inputs.big)",
        "inputs.items.map(a, inputs.text" + " + inputs.text" * 60 + ")",
    ],
)
def test_work_over_large_data_is_refused_before_it_begins(expression: str) -> None:
    context = {"inputs": {"big": list(range(20_000)), "items": [1] * 1000, "text": "x" * 60_000}}
    with pytest.raises(ExpressionError, match="in a `python` step"):
        evaluate(expression, context)


def test_ordinary_work_over_a_list_is_allowed() -> None:
    context = {"inputs": {"lines": ["some line of a log"] * 1000}}
    assert evaluate("inputs.lines.filter(x, x.contains('log')).size()", context) == 1000


@pytest.mark.parametrize(
    "pattern", [r"'\\w{100}'", r"r'\pL'", "inputs.pattern", "'[^a]{0,900}'", "'(a{0,9}){0,9}'"]
)
def test_many_costly_patterns_are_refused_before_they_begin(pattern: str) -> None:
    context = {"inputs": {"hosts": ["a"] * 100, "pattern": "a"}}
    with pytest.raises(ExpressionError, match="operations over data of 100 items"):
        evaluate(f"inputs.hosts.all(h, h.matches({pattern}))", context)
    assert evaluate(f"inputs.hosts[0].matches({pattern}) || true", context) is True


def test_an_ordinary_pattern_is_matched_against_many() -> None:
    hosts = [f"web-{number}.example" for number in range(500)]
    context = {"inputs": {"hosts": hosts}}
    pattern = r"^[a-z0-9-]{1,63}\\.example$"
    assert evaluate(f"inputs.hosts.all(h, h.matches('{pattern}'))", context) is True


def test_a_long_row_of_dollars_is_read_once() -> None:
    text = "$" * 200_000
    assert render(text, {}) == text
    assert resolve_secrets(render(text + " {{", {}, keep_secrets=True), {}) == text + " {{"


def test_no_expression_of_the_longest_length_can_overflow_the_stack() -> None:
    """Chains of operators recurse in the library; a crash would end the whole backend."""
    script = (
        "from workflow_backend.definition.expressions import evaluate, ExpressionError\n"
        "for text in ('1+' * 499 + '1', '!' * 999 + 'true', '-' * 999 + '1',"
        " 'true?1:' * 140 + '1', 'true&&' * 160 + 'true', 'a' + '.a' * 499, 'a' + '[0]' * 332,"
        " 'size(' * 160 + 'a' + ')' * 160):\n"
        "    try: evaluate(text, {})\n"
        "    except ExpressionError: pass\n"
        "print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "alive\n"


TEMPLATES: list[tuple[str, object]] = [
    ("${{ inputs.n }}", 3),
    ("  ${{ inputs.items }}\n", [1, 2, 3]),
    ("n=${{ inputs.n }}", "n=3"),
    ("${{ inputs.n }}${{ inputs.text }}", "3a"),
    ("${{ inputs.nothing }}|${{ inputs.items }}|${{ inputs.n > 1 }}", "|[1,2,3]|true"),
    ("plain", "plain"),
    ("", ""),
    ("$${{ inputs.n }}", "${{ inputs.n }}"),
    ("$$${{ inputs.n }} $5 {{ x }}", "$3 $5 {{ x }}"),
    ("${{ '}}' }}", "}}"),
    ("${{ {'a': {'b': 1}}.a.b }}", 1),
]


@pytest.mark.parametrize(("template", "value"), TEMPLATES)
def test_a_template_is_rendered(template: str, value: object) -> None:
    assert render(template, CONTEXT) == value


@pytest.mark.parametrize("template", ["${{ inputs.n", "${{ 'a }}", "a ${{ }} b"])
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(ExpressionError):
        render(template, CONTEXT)


def test_secrets_stay_references_until_they_are_resolved() -> None:
    template = render("Bearer ${{ secrets.T }} ${{ inputs.n }}", CONTEXT, keep_secrets=True)
    assert template == "Bearer ${{ secrets.T }} 3"
    assert resolve_secrets(template, {"T": "s3"}) == "Bearer s3 3"


def test_an_unknown_secret_is_named() -> None:
    with pytest.raises(ExpressionError, match="'T'"):
        resolve_secrets("${{ secrets.T }}", {})


PIECES = st.lists(
    st.sampled_from(
        ["${{ secrets.T }}", "{{ secrets.T }}", "$", "$$", "{{", "{", "}}", " secrets.T ", "a"]
    ),
    max_size=8,
).map("".join)


@settings(deadline=None)
@given(first=PIECES, second=PIECES)
def test_data_can_never_forge_a_reference_to_a_secret(first: str, second: str) -> None:
    context = {"inputs": {"a": first, "b": second}}
    template = render("${{ inputs.a }}${{ secrets.T }}${{ inputs.b }}", context, keep_secrets=True)
    assert resolve_secrets(str(template), {"T": "SECRET"}) == f"{first}SECRET{second}"
    alone = render("${{ inputs.a }}{{ ${{ inputs.b }}", context, keep_secrets=True)
    assert resolve_secrets(str(alone), {"T": "SECRET"}) == f"{first}{{{{ {second}"


CONDITIONS = [
    ("inputs.n == 3", True, False, True),
    ("${{ inputs.n == 3 }}", True, False, True),
    ("inputs.n == 3", False, True, False),
    ("failure()", False, True, True),
    ("failure()", True, False, False),
    ("always()", False, True, True),
    ("always() && inputs.n == 4", False, True, False),
    ("success() || failure()", False, False, False),
]


@pytest.mark.parametrize(("text", "succeeded", "failed", "runs"), CONDITIONS)
def test_a_condition_decides(text: str, succeeded: bool, failed: bool, runs: bool) -> None:
    assert evaluate_condition(text, CONTEXT, succeeded=succeeded, failed=failed) is runs


def test_a_condition_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(ExpressionError, match="true or false"):
        evaluate_condition("inputs.text", CONTEXT, succeeded=True, failed=False)


def test_references_are_found_in_every_spelling() -> None:
    found = references(
        "steps.check-disk.outputs.a > 1 && steps['b'].status == env['X'] &&"
        " inputs.list.exists(x, x.steps == 'steps.c') || run.id == secrets.T"
    )
    assert [str(reference) for reference in found] == [
        "steps.check-disk.outputs.a",
        "steps.b.status",
        "env.X",
        "inputs.list",
        "run.id",
        "secrets.T",
    ]


@settings(deadline=None)
@given(st.text(alphabet="inputs.ae[]()'\"$+-{}1,?:!&|<>= \n", max_size=40))
def test_any_text_is_a_value_or_an_expression_error(text: str) -> None:
    try:
        evaluate(text, CONTEXT)
        render(text, CONTEXT)
    except ExpressionError:
        pass
