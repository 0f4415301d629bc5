"""The npm clients on every door of the running server, on upstreams of every format."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.callers.gateway import WIRES, gateway
from tests.npm_clients import found_by
from tests.running_server import RunningServer

pytestmark = [
    pytest.mark.npm,
    # The first test may have to install the packages.
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

HELLO = "Turn 1, 0 images, told <>: hello"
STEPS = [
    ("workflow_started", None),
    ("step_running", "echo-one"),
    ("step_complete", "echo-one"),
    ("step_running", "echo-two"),
    ("step_complete", "echo-two"),
    ("workflow_complete", None),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(
    npm_clients: Path, agent: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, str]]:
    """The gateway, and the server with the agent."""
    del npm_clients
    with gateway(tmp_path_factory.mktemp("npm"), "--no-agent") as served:
        yield served.url, agent.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdks(urls: tuple[str, str]) -> Any:
    return await found_by("gateway-sdks.mjs", *urls)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["5", "6", "7"])
async def ai_sdk(request: pytest.FixtureRequest, urls: tuple[str, str]) -> Any:
    return await found_by("gateway-ai-sdk.mjs", request.param, *urls)


def told(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    pairs = [(event["type"], event.get("step")) for event in events]
    return [pair for pair in pairs if pair[0] != "step_output"]


@pytest.mark.parametrize("wire", WIRES)
async def test_the_openai_client_makes_continues_and_deletes_responses(
    sdks: Any, wire: str
) -> None:
    found = sdks["responses"][wire]
    assert (found["whole"], found["streamed"]) == (HELLO, HELLO)
    assert found["numbers"] == list(range(len(found["numbers"])))
    assert found["call"] == ["look", '{"city":"Oslo"}']
    assert found["second"] == found["shown"] == "The tool says clear."
    assert (found["gone"]["kind"], found["gone"]["status"]) == ("NotFoundError", 404)


@pytest.mark.parametrize("wire", WIRES)
async def test_the_anthropic_client_streams_calls_and_counts(sdks: Any, wire: str) -> None:
    found = sdks["messages"][wire]
    assert (found["whole"], found["streamed"]) == (HELLO, HELLO)
    assert found["usage"][0] == found["usage"][1] > 5
    assert found["called"] == ["tool_use", "look", {"city": "Oslo"}]
    assert found["second"] == "The tool says clear."
    assert found["counted"] > 0


async def test_both_clients_see_the_steps_of_the_agent(sdks: Any) -> None:
    response, message = sdks["responseOfAgent"], sdks["messageOfAgent"]
    assert told(response["steps"]) == told(message["steps"]) == STEPS
    assert response["last"] == "response.completed"
    assert (message["blocks"], message["stopReason"]) == (["text"], "end_turn")


async def test_embeddings_models_and_failures_are_read(sdks: Any) -> None:
    assert sdks["embeddings"] == [[5, 0.5, 0.25, 0], [3, 0.5, 0.25, 1]]
    for ids in sdks["models"].values():
        assert {"gpt-5-by-chat", "by-all/gpt-real"} <= set(ids)
    refused = sdks["refused"]
    assert (refused["openai"]["kind"], refused["openai"]["status"]) == ("RateLimitError", 429)
    assert (refused["anthropic"]["kind"], refused["anthropic"]["type"]) == (
        "RateLimitError",
        "rate_limit_error",
    )


@pytest.mark.parametrize("wire", [*WIRES, "fallback"])
async def test_the_ai_sdks_default_model_works_on_every_upstream(ai_sdk: Any, wire: str) -> None:
    found = ai_sdk[wire]
    assert found["generated"] == {"text": HELLO, "finishReason": "stop"}
    assert found["object"] == {"city": "Oslo", "degrees": 4}
    streamed = found["streamed"]
    assert (streamed["text"], streamed["finishReason"]) == (HELLO, "stop")
    assert streamed["outputTokens"] > 5
    assert (found["tools"]["text"], found["tools"]["steps"]) == ("The tool says clear in Oslo.", 2)
    assert (found["cut"]["text"], found["cut"]["finishReason"]) == ("Turn 1,", "length")
    [error] = found["refused"]["errors"]
    assert error["statusCode"] == 400


async def test_the_ai_sdks_default_model_reads_the_agent(ai_sdk: Any) -> None:
    found = ai_sdk["agent"]
    assert found["errors"] == []
    assert found["finishReason"] == "stop"
