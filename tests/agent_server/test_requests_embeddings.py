"""Bodies of `POST /v1/embeddings`: what is relayed, and which field is wrong."""

import json

import pytest

from agent_server.requests.embeddings import MAX_INPUTS, check_embeddings
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue
from tests.recordings import WIRE, needs_recordings

ASKED: JsonObject = {"model": "openai/text-embedding-3-small", "input": "hi"}
RECORDED = sorted(str(path.parent.relative_to(WIRE)) for path in WIRE.glob("*/emb*/request.json"))


@pytest.mark.parametrize(
    "given", ["hi", "", ["a", ""], [1, 0, 99], [[1], [2, 3]], ["a"] * MAX_INPUTS, [1] * 5000]
)
def test_texts_and_tokens_pass(given: JsonValue) -> None:
    others: JsonObject = {"encoding_format": "base64", "dimensions": 256, "user": "u"}
    check_embeddings({**ASKED, "input": given, **others, "truncate": True})


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"model": None}, "model", "is missing"),
        ({"model": 5}, "model", "must be a string"),
        ({"input": None}, "input", "is missing"),
        ({"input": {}}, "input", "a string or a list"),
        ({"input": []}, "input", "at least one"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input", f"at most {MAX_INPUTS}"),
        ({"input": ["a", 1]}, "input[1]", "not a number"),
        ({"input": [1, "a"]}, "input[1]", "a token"),
        ({"input": [1, True]}, "input[1]", "a token"),
        ({"input": [-1]}, "input[0]", "must be a string"),
        ({"input": [[1], []]}, "input[1]", "an empty one"),
        ({"input": [[1], ["a"]]}, "input[1]", "a list of tokens"),
        ({"encoding_format": "int8"}, "encoding_format", "float or base64"),
        ({"dimensions": 0}, "dimensions", "at least 1"),
        ({"dimensions": "256"}, "dimensions", "must be an integer"),
        ({"user": 5}, "user", "must be a string"),
    ],
)
def test_the_field_that_is_wrong_is_named(fields: JsonObject, param: str, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_embeddings({**ASKED, **fields})
    assert refused.value.param == param
    assert said in refused.value.message


@needs_recordings
@pytest.mark.parametrize("folder", RECORDED)
def test_recorded_requests_that_were_answered_are_read(folder: str) -> None:
    request = json.loads((WIRE / folder / "request.json").read_text("utf-8"))
    meta = json.loads((WIRE / folder / "response.meta.json").read_text("utf-8"))
    body = {"model": "named in the path", **request["body"]}
    if meta["status"] == 200 and not request["path"].startswith("/api/"):
        check_embeddings(body)


@needs_recordings
def test_there_are_recorded_requests() -> None:
    assert len(RECORDED) >= 10
