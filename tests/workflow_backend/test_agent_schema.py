"""Schemas of agents' answers: how they are asked for, and what is made of an answer."""

import json
import socket
from typing import Any

import pytest

from workflow_backend.steps.agent_schema import (
    MAX_FAULTS,
    AnswerFaultsError,
    check_schema,
    instruction,
    read_answer,
    repair_request,
    response_format,
)
from workflow_backend.steps.run_folder import StepSetupError

SUMMARY: dict[str, Any] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "level": {"enum": ["low", "high"]}},
    "required": ["summary", "level"],
    "additionalProperties": False,
}
NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "other": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    },
    "required": ["items", "other"],
    "additionalProperties": False,
    "$defs": {"item": SUMMARY},
}


def changed(schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**schema, **fields}.items() if value is not None}


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        (SUMMARY, True),
        (NESTED, True),
        ({"type": "object", "additionalProperties": False}, True),
        (changed(SUMMARY, additionalProperties=None), False),
        (changed(SUMMARY, additionalProperties=True), False),
        (changed(SUMMARY, required=["summary"]), False),
        (changed(SUMMARY, required=None), False),
        (changed(SUMMARY, minProperties=1), False),
        (changed(SUMMARY, properties={"summary": {"type": "string", "minLength": 1}}), False),
        (changed(NESTED, **{"$defs": {"item": changed(SUMMARY, required=[])}}), False),
        (changed(NESTED, properties={"items": {"items": {"type": "object"}}}), False),
        ({"type": "array", "items": SUMMARY}, False),
        ({"anyOf": [SUMMARY]}, False),
        ({}, False),
    ],
)
def test_a_schema_is_asked_for_strictly_where_every_model_can_be_held_to_it(
    schema: dict[str, Any], is_strict: bool
) -> None:
    wanted = response_format("sum-up", schema)
    assert wanted == {
        "type": "json_schema",
        "json_schema": {"name": "sum-up", "schema": schema, "strict": is_strict},
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"summary": "all is well", "level": "low"}',
        ' \n{"summary": "all is well", "level": "low"}\n',
        '```json\n{"summary": "all is well", "level": "low"}\n```',
        '```\n{"summary": "all is well", "level": "low"}\n```\n',
    ],
    ids=["plain", "blanks", "fence-json", "fence"],
)
def test_an_answer_that_fits_is_its_value(text: str) -> None:
    assert read_answer(text, SUMMARY) == {"summary": "all is well", "level": "low"}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("All is well.", ["the answer is no JSON (line 1, column 1"]),
        ("", ["the answer is no JSON"]),
        ('Here: {"summary": "a", "level": "low"}', ["the answer is no JSON"]),
        ("[]", ["at the top: [] is not of type 'object'"]),
        ('{"summary": "a"}', ["at the top: 'level' is a required property"]),
        ('{"summary": 5, "level": "low"}', ["at summary: 5 is not of type 'string'"]),
        (
            '{"summary": "a", "level": "x", "more": 1}',
            ["'more' was unexpected", "at level: 'x' is not one of"],
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_told_by_its_faults(text: str, faults: list[str]) -> None:
    with pytest.raises(AnswerFaultsError) as raised:
        read_answer(text, SUMMARY)
    for fault in faults:
        assert fault in str(raised.value)
    assert all(line.startswith("- ") for line in str(raised.value).splitlines())


def test_a_fault_is_found_by_its_place() -> None:
    text = '{"items": [{"summary": "a", "level": "low"}, {"summary": 1}], "other": null}'
    with pytest.raises(AnswerFaultsError, match=r"at items\[1\]\.summary: 1 is not of type"):
        read_answer(text, NESTED)


def test_many_and_long_faults_are_told_in_few_words() -> None:
    text = json.dumps([{"x": "y" * 10_000}] * 1_000)
    with pytest.raises(AnswerFaultsError) as raised:
        read_answer(text, {"type": "array", "items": {"type": "integer"}})
    assert len(str(raised.value).splitlines()) == MAX_FAULTS
    assert len(str(raised.value)) < 5_000


def test_a_reference_that_leads_out_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []

    def refuse(*name: object) -> None:
        looked_up.append(name)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(StepSetupError, match=r"schemas\.example/any\.json"):
        check_schema({"$ref": "https://schemas.example/any.json"})
    assert looked_up == []


@pytest.mark.parametrize("schema", [SUMMARY, NESTED, {}])
def test_a_schema_that_is_one_is_taken(schema: dict[str, Any]) -> None:
    check_schema(schema)


@pytest.mark.parametrize("schema", [{"type": "text"}, {"properties": []}, {"pattern": "(a+)+$"}])
def test_a_schema_that_is_none_is_told_as_such(schema: dict[str, Any]) -> None:
    with pytest.raises(StepSetupError, match="`output_schema`: "):
        check_schema(schema)


def test_a_repair_names_the_faults_and_the_schema() -> None:
    said = repair_request("- at level: 'x' is not one of ['low', 'high']", SUMMARY)
    assert "- at level" in said
    assert json.dumps(SUMMARY) in said
    assert said.endswith(instruction(SUMMARY))
