"""JSON that is nested too deep to be written down is refused where it is read."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from workflow_backend.json_depth import MAX_DEPTH, is_too_deep
from workflow_backend.steps.agent_schema import AnswerFaultsError, read_answer
from workflow_backend.steps.json_output import JsonOutputError, parse_json_output
from workflow_backend.tools.calls import RefusalError
from workflow_backend.tools.decision_tools import _payload


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value, "l": 1}
    return value


@pytest.mark.parametrize("kind", ["list", "object"])
def test_a_value_is_too_deep_from_one_level_over_the_limit(kind: str) -> None:
    assert not is_too_deep(nested(MAX_DEPTH, kind))
    assert is_too_deep(nested(MAX_DEPTH + 1, kind))
    assert is_too_deep({"a": 1, "b": [1, nested(MAX_DEPTH - 1, kind)]})


@pytest.mark.parametrize("value", [1, "x" * 1_000, None, [], {}, [[]] * 1_000, {"a": [1, {}]}])
def test_what_is_wide_is_not_deep(value: object) -> None:
    assert not is_too_deep(value)


def test_the_deepest_value_can_be_recorded_within_others() -> None:
    assert orjson.dumps([{"outputs": {"items": [{"json": nested(MAX_DEPTH)}]}}])


Reader = Callable[[str], object]
READERS: dict[str, tuple[Reader, type[Exception]]] = {
    "output": (lambda text: parse_json_output(text, is_truncated=False), JsonOutputError),
    "answer": (lambda text: read_answer(text, {}), AnswerFaultsError),
    "payload": (_payload, RefusalError),
}


@pytest.mark.parametrize(("reader", "error"), READERS.values(), ids=READERS)
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 900, 5_000])
def test_deep_json_is_refused_where_it_is_read(
    reader: Reader, error: type[Exception], depth: int
) -> None:
    with pytest.raises(error):
        reader("[" * depth + "1" + "]" * depth)
    deepest = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert reader(deepest) == orjson.loads(deepest)
