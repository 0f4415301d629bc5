"""Results of tools, short enough for a model."""

import json

from agent_server.tool_results import result_text
from streaming.events import JsonObject


def test_a_short_text_stays() -> None:
    assert result_text("hello", {"a": 1}, 100) == "hello"


def test_without_a_text_the_object_is_it() -> None:
    assert result_text("", {"a": "ä"}, 100) == '{"a": "ä"}'


def test_a_long_text_says_how_long_it_was() -> None:
    text = result_text("x" * 500, None, 100)
    assert text == "x" * 100 + "\n[truncated, 500 characters in all]"


def test_a_long_object_loses_the_middle_of_its_longest_strings() -> None:
    value: JsonObject = {"status": "failed", "steps": [{"output": "a" * 5000 + "the end"}, "b" * 9]}
    text = result_text(json.dumps(value), value, 1000)
    assert len(text) <= 1000
    read = json.loads(text)
    assert read["status"] == "failed"
    assert read["steps"][0]["output"].startswith("aaa")
    assert read["steps"][0]["output"].endswith("the end")
    assert "[truncated, 5007 characters in all]" in read["steps"][0]["output"]
    assert read["steps"][1] == "b" * 9


def test_an_object_of_many_small_values_is_cut_like_a_text() -> None:
    value: JsonObject = {str(number): number for number in range(1000)}
    text = result_text("", value, 100)
    assert text.endswith("characters in all]")
    assert len(text) < 200
