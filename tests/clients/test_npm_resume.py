"""useChat of the AI SDK resumes detached streams: its hooks and its transport, by version."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.npm_clients import found_by
from tests.running_server import running_server
from tests.scripted_model import Turn, scripted_model

pytestmark = [
    pytest.mark.npm,
    # The first test may have to install the packages.
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

OLD_HOOK = "4.3.19"
NEW_HOOKS = ("5.0.0", "5.0.277", "6.0.0", "6.0.326", "7.0.0", "7.0.173")
WHOLE = ["", "Hello, world"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(
    npm_clients: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, str]]:
    """A server, and its model, which waits in the middle of an answer until it is told to go on."""
    gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def turn(body: dict[str, Any]) -> Turn:
        words = str(body["messages"][-1]["content"]).split()
        if words[0] == "go":
            gates[words[-1]].set()
            return Turn(text=("yes",))
        return Turn(text=("Hello, ", "world"), may_go_on=gates[words[-1]])

    async with scripted_model(turn) as model:
        options = ("--no-agent", "--provider", "openai", "--base-url", model.url)
        environment = {"OPENAI_API_KEY": "sk-upstream-key-0123456789"}
        folder = tmp_path_factory.mktemp("resume")
        with running_server(folder, *options, environment=environment) as server:
            yield server.url, model.url
            gates.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=NEW_HOOKS)
async def use_chat(request: pytest.FixtureRequest, urls: tuple[str, str]) -> Any:
    return {**await found_by("resume.mjs", request.param, *urls), "version": request.param}


def asked(*gets: int) -> list[list[str | int]]:
    """The answer that a page began, and the statuses of those by which others resumed it."""
    return [["POST", 200], *(["GET", status] for status in gets)]


async def test_a_page_that_is_loaded_in_the_middle_of_an_answer_shows_all_of_it(
    use_chat: Any,
) -> None:
    whole, _ = use_chat["broken"]
    assert (whole["texts"], whole["status"], whole["error"]) == (WHOLE, "ready", None)


async def test_a_page_that_is_loaded_after_the_answer_shows_it_once(use_chat: Any) -> None:
    _, again = use_chat["broken"]
    assert again["asked"] == asked(200, 204)
    assert (again["texts"], again["error"]) == (WHOLE, None)
    assert again["status"] == idle(use_chat)


async def test_a_page_that_comes_back_late_gets_the_answer_that_nobody_has_read(
    use_chat: Any,
) -> None:
    found = use_chat["unread"]
    assert found["asked"] == asked(200)
    assert (found["texts"], found["status"], found["error"]) == (WHOLE, "ready", None)


async def test_there_is_nothing_to_resume_of_an_inline_answer(use_chat: Any) -> None:
    found = use_chat["inline"]
    assert found["asked"] == asked(204)
    assert (found["texts"], found["status"], found["error"]) == ([""], idle(use_chat), None)


async def test_the_default_transport_reconnects(use_chat: Any) -> None:
    found = use_chat["transport"]
    assert found["types"] == [
        *("start", "start-step", "text-start", "text-delta", "text-delta", "text-end"),
        *("finish-step", "finish"),
    ]
    assert found["nothing"] is None


async def test_the_hook_of_version_4_resumes_and_takes_an_empty_stream_for_nothing(
    urls: tuple[str, str],
) -> None:
    found = await found_by("resume.mjs", OLD_HOOK, *urls)
    for page in found["broken"]:
        assert page["asked"] == asked(200, 200)
        assert (page["texts"], page["status"], page["error"]) == (WHOLE, "ready", None)


def idle(use_chat: Any) -> str:
    """The status of a hook that was answered 204: the first version never came back from it."""
    return "submitted" if use_chat["version"] == "5.0.0" else "ready"
