"""The models that may be named, in the lists of both APIs."""

from collections.abc import Iterator

import httpx2
import orjson
import pytest
from anthropic import Anthropic
from openai.types import Model

from agent_server.model_lists import (
    OUR_CREATED,
    anthropic_model,
    anthropic_page,
    listed_models,
    openai_list,
)
from providers.base import ModelInfo
from streaming.errors import InvalidRequestError

LISTINGS = {
    "openai": [ModelInfo("gpt-5.4-mini", "openai", 1_700_000_000), ModelInfo("o3", "openai")],
    "groq": [ModelInfo("qwen/qwen3-32b", "qwen")],
}
SIX = [ModelInfo(letter, "x") for letter in "abcdef"]


def ids(query: dict[str, str]) -> tuple[str, bool]:
    page = anthropic_page(SIX, query)
    data = page["data"]
    assert isinstance(data, list)
    found = "".join(str(model["id"]) for model in data if isinstance(model, dict))
    assert (page["first_id"], page["last_id"]) == ((found[0], found[-1]) if found else (None, None))
    return found, page["has_more"] is True


def test_the_list_holds_the_agent_configured_names_and_what_providers_list() -> None:
    models = listed_models(LISTINGS, configured=["fast", "openai/o3"], agent=True)
    assert [model.model_id for model in models] == [
        "kubiya-workflow-agent",
        "fast",
        "openai/o3",
        "openai/gpt-5.4-mini",
        "groq/qwen/qwen3-32b",
    ]
    assert models[2] == ModelInfo("openai/o3", "agent-server", OUR_CREATED)
    assert listed_models({}, configured=[], agent=False) == []


def test_openais_list_is_what_its_sdk_reads() -> None:
    listed = openai_list(listed_models(LISTINGS, configured=[], agent=True))
    assert listed["object"] == "list"
    assert isinstance(listed["data"], list)
    models = [Model.model_validate(entry) for entry in listed["data"]]
    assert models[1].to_dict() == {
        "id": "openai/gpt-5.4-mini",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "openai",
    }


def test_an_entry_of_anthropics_list() -> None:
    assert anthropic_model(ModelInfo("fast", "agent-server", OUR_CREATED)) == {
        "type": "model",
        "id": "fast",
        "display_name": "fast",
        "created_at": "2025-01-01T00:00:00Z",
        "lifecycle": "active",
    }
    for unknown in (0, -1, 1_700_000_000_000):
        entry = anthropic_model(ModelInfo("x", "y", unknown))
        assert entry["created_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ("abcdef", False)),
        ({"limit": "4"}, ("abcd", True)),
        ({"limit": "4", "after_id": "d"}, ("ef", False)),
        ({"limit": "2", "after_id": "d"}, ("ef", False)),
        ({"after_id": "f"}, ("", False)),
        ({"limit": "2", "before_id": "d"}, ("bc", True)),
        ({"limit": "3", "before_id": "d"}, ("abc", False)),
        ({"before_id": "a"}, ("", False)),
    ],
)
def test_pages_of_anthropics_list(query: dict[str, str], expected: tuple[str, bool]) -> None:
    assert ids(query) == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"after_id": "z"}, "after_id"),
        ({"before_id": "z"}, "before_id"),
    ],
)
def test_a_wrong_query_is_named(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        anthropic_page(SIX, query)
    assert refused.value.param == param


@pytest.fixture
def sdk() -> Iterator[Anthropic]:
    """Anthropic's SDK, answered by our pages."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert "anthropic-version" in request.headers
        page = anthropic_page(SIX, dict(request.url.params))
        return httpx2.Response(200, content=orjson.dumps(page))

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        yield Anthropic(api_key="x", http_client=http, max_retries=0)


def test_anthropics_sdk_walks_through_all_pages(sdk: Anthropic) -> None:
    assert [model.id for model in sdk.models.list(limit=2)] == list("abcdef")
    assert [model.id for model in sdk.models.list(limit=2, before_id="e")] == ["c", "d", "a", "b"]
