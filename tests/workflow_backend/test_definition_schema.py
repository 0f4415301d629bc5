"""The published schema says what the reader does, and the reference page is made of it."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.workflow_backend.faulty_definitions import CASES, GOOD
from tests.workflow_backend.faulty_features import FEATURE_CASES, FEATURES
from workflow_backend.definition import check_definition
from workflow_backend.definition.documents import read_document
from workflow_backend.definition.level_names import LEVELS
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.problems import InvalidWorkflowError
from workflow_backend.definition.reference import EXAMPLE, reference_markdown
from workflow_backend.definition.schema import workflow_schema
from workflow_backend.definition.structure import model_keys

PAGE = Path(__file__).resolve().parents[2] / "docs" / "workflow-reference.md"
SCHEMA: Any = workflow_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# Faults that a JSON Schema can tell; the others need the graph, expressions or other fields.
TOLD_BY_SCHEMA = [
    "misspelt key", "key of another format", "unknown key", "retry key on the step",
    "step key at the top", "no name", "no steps", "empty steps", "step is text", "run is a list",
    "depends is text", "number in env", "number as timeout", "retry is a number", "http is text",
    "yes is no boolean", "unknown choice", "unknown type", "out of range", "wrong version",
    "bad workflow name", "bad step name", "no action", "two actions", "bad duration",
    "bad variable name", "reserved variable", "bad input name", "bad header",
    "no message", "approval is text", "bad field name", "unknown key of a field",
    "key of an approval on the step", "two waits", "no wait", "wait is text", "bad signal",
    "webhook is false", "other name of a key of a wait", "agent is text", "model with a space",
    "bad tool", "budget of nothing", "key of a budget on the agent", "workflow is text",
    "bad name of a workflow", "unknown key inside a workflow", "schedule inside a workflow",
    "items are a text", "items are a mapping", "no items", "too many items", "row is a number",
    "matrix without rows", "no limit of repeats", "interval of repeats", "concurrency is a number",
    "schedule is text", "catch-up", "unknown end", "no end", "secret of a message",
    "no action of a handler", "top key of a trigger",
]  # fmt: skip


def test_it_is_a_schema_of_draft_2020_12() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_object_refuses_unknown_keys() -> None:
    for owner in (SCHEMA, *SCHEMA["$defs"].values()):
        assert owner["additionalProperties"] is False


@pytest.mark.parametrize("model", LEVELS.values(), ids=LEVELS.keys())
def test_every_key_has_a_description(model: Any) -> None:
    owner = SCHEMA if model is Workflow else SCHEMA["$defs"][model.__name__]
    assert tuple(owner["properties"]) == model_keys(model)
    assert all(spec.get("description") for spec in owner["properties"].values())


def test_every_model_of_it_has_a_name_in_problems() -> None:
    assert {model.__name__ for model in LEVELS.values()} == {"Workflow", *SCHEMA["$defs"]}


@pytest.mark.parametrize("text", [GOOD, EXAMPLE, FEATURES], ids=["good", "example", "features"])
def test_it_accepts_what_the_reader_accepts(text: Any) -> None:
    assert check_definition(text).workflow is not None
    VALIDATOR.validate(read_document(text))


@pytest.mark.parametrize("case", TOLD_BY_SCHEMA)
def test_it_refuses_what_the_reader_refuses(case: str) -> None:
    document = read_document({**CASES, **FEATURE_CASES}[case][0])
    assert not VALIDATOR.is_valid(document)


def test_every_example_in_it_is_valid_where_it_stands() -> None:
    for owner in (SCHEMA, *SCHEMA["$defs"].values()):
        for name, spec in owner["properties"].items():
            for example in spec.get("examples", []):
                validator = VALIDATOR.evolve(schema={**spec, "$defs": SCHEMA["$defs"]})
                assert validator.is_valid(example), (name, example)


def test_the_reference_page_is_up_to_date() -> None:
    """Else run: python -m workflow_backend.definition.reference > docs/workflow-reference.md."""
    assert PAGE.read_text() == reference_markdown()


def test_every_yaml_block_of_the_page_compiles() -> None:
    blocks = PAGE.read_text().split("```yaml\n")[1:]
    assert blocks
    for block in blocks:
        text = block.split("```")[0]
        try:
            assert check_definition(text).workflow is not None
        except InvalidWorkflowError as error:
            pytest.fail(str(error))
