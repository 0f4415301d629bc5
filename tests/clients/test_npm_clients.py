"""The real npm clients against the running server: OpenAI's, and the AI SDK from 3.4 to 7.

One node process for each version runs all its cases (`js/*.mjs`); the tests look at what it found.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.npm_clients import JS, found_by, node
from tests.running_server import RunningServer, running_server
from tests.scripted_model import Call, Turn, scripted_model

pytestmark = [
    pytest.mark.npm,
    # The first test may have to install the packages.
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

MODEL = "kubiya-workflow-agent"
AI_SDK_MAJORS = ("3", "4", "5", "6", "7")
PROVIDERS = [("3", "chat"), *((m, f) for m in "4567" for f in ("chat", "compatible"))]
OLD_HOOKS = ("3.4.33", "4.0.0", "4.3.19")
# The first of each major has a strict schema, the last is what people install.
NEW_HOOKS = ("5.0.0", "5.0.277", "6.0.0", "6.0.326", "7.0.0", "7.0.173")

ANSWER = "Hello, world"
HALF = "Half an answer"
WEATHER = {"city": "Oslo", "sky": "clear"}
WEATHER_ANSWER = f"It is {json.dumps(WEATHER, separators=(',', ':'))}"
LOST = "the connection was lost in the middle of the answer"
BAD_FORMAT = "The header X-Streaming-Format must be one of sse, vercel, "
RUN_TOOLS = ["compile_workflow", "plan_workflow", "execute_workflow"]
SUCCESS = [
    ("workflow_started", None),
    ("step_running", "echo-one"),
    ("step_complete", "echo-one"),
    ("step_running", "echo-two"),
    ("step_complete", "echo-two"),
    ("workflow_complete", None),
]
FAILURE = [
    ("workflow_started", None),
    ("step_running", "echo-one"),
    ("step_complete", "echo-one"),
    ("step_running", "exit-3"),
    ("step_failed", "exit-3"),
    ("workflow_complete", None),
]


def scripted_turn(body: dict[str, Any]) -> Turn:
    """What the model says to the questions of `js/cases.mjs`."""
    messages = body["messages"]
    question = str([message["content"] for message in messages if message["role"] == "user"][-1])
    if "break off" in question:
        return Turn(text=("Half an ", "answer", "never said"), breaks_after=2)
    if "call the tool" not in question:
        return Turn(text=("Hello, ", "world"))
    if messages[-1]["role"] == "tool":
        return Turn(text=("It is ", messages[-1]["content"]))
    return Turn(text=("Let me look. ",), calls=(Call("weather", {"city": "Oslo"}),))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(
    npm_clients: Path, agent: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, str]]:
    """A server with the offline planner, and one whose model follows `scripted_turn`."""
    async with scripted_model(scripted_turn) as model:
        options = ("--provider", "openai", "--base-url", model.url)
        environment = {"OPENAI_API_KEY": "sk-upstream-key-0123456789"}
        folder = tmp_path_factory.mktemp("scripted")
        with running_server(folder, *options, environment=environment) as scripted:
            yield agent.url, scripted.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def openai_client(urls: tuple[str, str]) -> Any:
    return await found_by("openai-client.mjs", *urls)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PROVIDERS, ids="-".join)
async def provider(request: pytest.FixtureRequest, urls: tuple[str, str]) -> Any:
    major, factory = request.param
    return {
        **await found_by("provider.mjs", major, factory, *urls),
        "major": major,
        "factory": factory,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=OLD_HOOKS + NEW_HOOKS)
async def use_chat(request: pytest.FixtureRequest, urls: tuple[str, str]) -> Any:
    return {**await found_by("use-chat.mjs", request.param, *urls), "version": request.param}


def assert_events(events: list[dict[str, Any]], expected: list[tuple[str, str | None]]) -> None:
    """Every event came once, in order; how output is cut into pieces is left open."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    told = [(event["type"], event.get("step")) for event in events]
    assert [item for item in told if item[0] != "step_output"] == expected
    assert len({event["run_id"] for event in events}) == 1


# --- openai ---------------------------------------------------------------------------------------


async def test_the_openai_client_reads_a_json_answer(openai_client: Any) -> None:
    found = openai_client["plain"]
    assert found["model"] == MODEL
    assert "directory-backup" in found["content"]
    assert found["finishReason"] == "stop"
    assert found["usage"]["total_tokens"] == 0


async def test_the_guides_loop_gets_text_events_and_one_end(openai_client: Any) -> None:
    found = openai_client["guideLoop"]
    assert "Step 2: echo-two done" in found["text"]
    assert_events(found["events"], SUCCESS)
    assert found["finishReasons"] == ["stop"]
    assert len(found["usages"]) == 1
    assert found["emptyChoices"] == 0
    assert len(found["ids"]) == 1


async def test_a_failed_step_is_an_event_and_no_error_of_the_stream(openai_client: Any) -> None:
    found = openai_client["failedStep"]
    assert_events(found["events"], FAILURE)
    [failed] = [event for event in found["events"] if event["type"] == "step_failed"]
    assert "exit code 3" in failed["error"]
    assert failed["will_retry"] is False
    assert found["finishReasons"] == ["stop"]


async def test_with_the_vercel_header_each_event_is_the_whole_content_of_a_chunk(
    openai_client: Any,
) -> None:
    found = openai_client["inline"]
    inline = [json.loads(text[2:]) for text in found["contents"] if text.startswith("2:")]
    assert_events(inline, SUCCESS)
    assert inline == found["events"]


async def test_usage_comes_once_in_a_chunk_without_choices_if_asked(openai_client: Any) -> None:
    found = openai_client["usageAsked"]
    assert found["text"] == ANSWER
    [usage] = found["usages"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 5)
    assert found["emptyChoices"]


async def test_the_frames_of_a_detached_stream_have_ids_that_nobody_minds(
    openai_client: Any,
) -> None:
    found = openai_client["detached"]
    assert (found["text"], found["finishReasons"], len(found["ids"])) == (ANSWER, ["stop"], 1)


async def test_a_relayed_stream_tells_no_usage_to_who_did_not_ask(openai_client: Any) -> None:
    found = openai_client["relayed"]
    assert (found["text"], found["usages"], found["emptyChoices"]) == (ANSWER, [], False)


async def test_the_stream_helper_puts_the_chunks_together(openai_client: Any) -> None:
    found = openai_client["helper"]
    assert "Step 2: echo-two done" in found["text"]
    assert found["content"] == found["text"]
    assert found["finishReason"] == "stop"
    assert found["usage"]["total_tokens"] == 0


async def test_the_tool_runner_calls_the_clients_tool(openai_client: Any) -> None:
    found = openai_client["runTools"]
    assert found["roles"] == ["user", "assistant", "tool", "assistant"]
    assert found["text"] == WEATHER_ANSWER


async def test_a_model_that_breaks_off_raises_after_its_text(openai_client: Any) -> None:
    found = openai_client["brokenStream"]
    assert found["text"] == HALF
    assert found["error"]["name"] == "APIError"
    assert LOST in found["error"]["message"]
    assert LOST in openai_client["brokenHelper"]["thrown"]["message"]


@pytest.mark.parametrize(
    ("case", "param", "message"),
    [
        ("badRole", "messages[0].role", "not 'king'"),
        ("noMessages", "messages", "at least one message"),
        ("badFormat", "X-Streaming-Format", BAD_FORMAT),
    ],
)
async def test_a_refused_request_is_an_api_error_that_names_the_field(
    openai_client: Any, case: str, param: str, message: str
) -> None:
    found = openai_client[case]
    assert found["isAPIError"] is True
    assert found["kind"] == "BadRequestError"
    assert (found["status"], found["type"]) == (400, "invalid_request_error")
    assert found["param"] == param
    assert message in found["message"]
    assert found["requestID"]


async def test_the_models_are_listed(openai_client: Any) -> None:
    assert MODEL in openai_client["models"]


# --- streamText, generateText ---------------------------------------------------------------------


async def test_stream_text_reads_the_agents_answer(provider: Any) -> None:
    found = provider["run"]
    assert "Step 2: echo-two done" in found["text"]
    assert found["finalText"] == found["text"]
    assert found["finishReason"] == "stop"
    assert found["usage"] == {"input": 0, "output": 0}
    assert found["errors"] == []


async def test_stream_text_takes_a_failed_step_as_news(provider: Any) -> None:
    found = provider["failedStep"]
    assert "Step 2: exit-3 failed: exit code 3" in found["text"]
    assert found["finishReason"] == "stop"
    assert found["errors"] == []


async def test_the_vercel_header_is_for_providers_that_say_who_they_are(provider: Any) -> None:
    found = provider["runWithVercelHeader"]
    if provider["major"] in "34":
        # They send no User-Agent of their own, so they get the lines for curl, and read none.
        assert (found["text"], found["finishReason"]) == ("", "unknown")
    else:
        assert "Step 2: echo-two done" in found["text"]
        assert found["finishReason"] == "stop"


@pytest.mark.parametrize("case", ["answer", "detached", "generated"])
async def test_the_text_the_end_and_the_usage_of_a_model_arrive(provider: Any, case: str) -> None:
    found = provider[case]
    assert found["text"] == ANSWER
    assert found["finishReason"] == "stop"
    assert found["usage"] == {"input": 10, "output": 5}


async def test_a_relayed_stream_tells_its_usage_to_who_asks(provider: Any) -> None:
    found = provider["relayed"]
    assert (found["text"], found["finishReason"]) == (ANSWER, "stop")
    told = {name: count for name, count in found["usage"].items() if count is not None}
    # The provider for OpenAI asks from version 5 on, the one for what imitates it never does.
    asks = provider["factory"] == "chat" and provider["major"] not in "34"
    assert told == ({"input": 10, "output": 5} if asks else {})


async def test_generate_text_reads_a_plan(provider: Any) -> None:
    assert "directory-backup" in provider["planned"]["text"]
    assert provider["planned"]["finishReason"] == "stop"


async def test_stream_text_calls_the_clients_tool_and_goes_on(provider: Any) -> None:
    found = provider["tool"]
    assert found["text"] == f"Let me look. {WEATHER_ANSWER}"
    assert found["steps"] == 2
    assert found["finishReason"] == "stop"


async def test_stream_text_finds_the_error_after_the_text(provider: Any) -> None:
    found = provider["broken"]
    assert found["text"] == HALF
    [error] = found["errors"]
    assert LOST in error["message"]


async def test_generate_text_says_why_a_request_was_refused(provider: Any) -> None:
    thrown = provider["refused"]["thrown"]
    assert thrown["name"] == "AI_APICallError"
    assert thrown["statusCode"] == 400
    assert thrown["message"].startswith(BAD_FORMAT)


# --- useChat --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["run", "runWithVercelHeader", "progressText"])
async def test_use_chat_shows_the_answer_and_every_event(use_chat: Any, case: str) -> None:
    found = use_chat[case]
    assert (found["status"], found["error"]) == ("ready", None)
    assert "ended with **success**" in found["text"]
    assert ("Step 2: echo-two done" in found["text"]) is (case == "progressText")
    assert_events(found["events"], SUCCESS)
    assert found["agentTools"] == RUN_TOOLS
    assert found["roles"] == ["user", "assistant"]


async def test_use_chat_takes_a_failed_step_as_news(use_chat: Any) -> None:
    found = use_chat["failedStep"]
    assert (found["status"], found["error"]) == ("ready", None)
    assert_events(found["events"], FAILURE)


async def test_use_chat_5_and_later_shows_the_newest_event_of_each_step(use_chat: Any) -> None:
    if use_chat["version"] in OLD_HOOKS:
        # The hook keeps all of them in its data.
        assert "shownEvents" not in use_chat["run"]
        return
    shown = [(event["type"], event.get("step")) for event in use_chat["run"]["shownEvents"]]
    assert shown == [
        ("workflow_complete", None),
        ("step_complete", "echo-one"),
        ("step_complete", "echo-two"),
    ]
    usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    assert use_chat["answer"]["metadata"] == {"finishReason": "stop", "usage": usage}


async def test_use_chat_posts_its_history_back_and_the_agent_runs_what_it_had_shown(
    use_chat: Any,
) -> None:
    first, second = use_chat["twoTurns"]["first"], use_chat["twoTurns"]["second"]
    assert "Nothing was run" in first["text"]
    assert first["events"] == []
    assert (second["status"], second["error"]) == ("ready", None)
    assert_events(second["events"], SUCCESS)
    assert second["roles"] == ["user", "assistant"] * 2


@pytest.mark.parametrize("case", ["answer", "detached"])
async def test_use_chat_shows_a_models_answer(use_chat: Any, case: str) -> None:
    found = use_chat[case]
    assert (found["text"], found["status"], found["error"]) == (ANSWER, "ready", None)


async def test_use_chat_runs_the_pages_tool_and_sends_its_result(use_chat: Any) -> None:
    found = use_chat["clientTool"]
    assert (found["status"], found["error"]) == ("ready", None)
    assert found["text"].endswith(WEATHER_ANSWER)
    if use_chat["version"] in ("3.4.33", "4.0.0"):
        # They begin a message of its own for each step.
        assert found["roles"] == ["user", "assistant", "assistant"]
        return
    assert found["roles"] == ["user", "assistant"]
    assert found["text"] == f"Let me look. {WEATHER_ANSWER}"
    [call] = found["clientTools"]
    assert call == {
        "name": "weather",
        "input": {"city": "Oslo"},
        "isDone": True,
        "output": WEATHER,
    }


async def test_use_chat_keeps_the_text_of_an_answer_that_breaks_off(use_chat: Any) -> None:
    found = use_chat["broken"]
    assert (found["text"], found["status"]) == (HALF, "error")
    assert LOST in found["error"]


async def test_use_chat_shows_why_a_request_was_refused(use_chat: Any) -> None:
    found = use_chat["refused"]
    assert found["status"] == "error"
    assert json.loads(found["error"])["error"]["message"].startswith(BAD_FORMAT)
    assert found["roles"] == ["user"]


async def test_use_chat_asks_its_own_default_path_and_gets_its_own_protocol(use_chat: Any) -> None:
    is_old = use_chat["version"] in OLD_HOOKS
    seen = {tuple(request.values()) for request in use_chat["requests"]}
    streamed = (
        ("text/plain; charset=utf-8", "v1", None)
        if is_old
        else ("text/event-stream; charset=utf-8", None, "v1")
    )
    assert seen == {
        ("/api/chat", 200, *streamed),
        ("/api/chat", 400, "application/json", None, None),
    }


# --- the guide's examples -------------------------------------------------------------------------


async def example(name: str, url: str, aliases: dict[str, str]) -> str:
    """What an example prints; only its port, and what its packages are called here, is another."""
    source = (JS / "examples" / name).read_text()
    source = source.replace(":8000/", f":{url.rpartition(':')[2]}/")
    for package, alias in aliases.items():
        source = source.replace(f"from '{package}'", f"from '{alias}'")
    return await node("--input-type=module", "-", source=source)


async def test_the_guides_javascript_example_prints_the_workflow(urls: tuple[str, str]) -> None:
    assert "python-ci" in await example("guide-openai.mjs", urls[0], {})


@pytest.mark.parametrize("major", AI_SDK_MAJORS)
async def test_the_ai_sdk_example_prints_the_answer(urls: tuple[str, str], major: str) -> None:
    aliases = {"ai": f"ai-v{major}", "@ai-sdk/openai": f"openai-v{major}"}
    printed = await example("guide-ai-sdk.mjs", urls[0], aliases)
    assert 'No template fits these words: "Create a workflow to deploy my app".' in printed


async def test_the_lock_file_names_no_address() -> None:
    text = (JS / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "://" not in text
    assert all("integrity" in entry for path, entry in json.loads(text)["packages"].items() if path)
