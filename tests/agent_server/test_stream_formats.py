"""Choosing the stream format: every row of the table, and the clients that it is for."""

import pytest
from starlette.datastructures import Headers

from agent_server.stream_formats import StreamChoice, choose_format
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue
from streaming.formats import FORMATS

CHAT = "/v1/chat/completions"
USE_CHAT = "/api/chat"
PLAIN: JsonValue = [{"role": "user", "content": "hi"}]
PARTS: JsonValue = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]
BOTH: JsonValue = [
    {"role": "user", "content": "hi", "parts": [{"type": "text", "text": "hi"}]},
]
OPENAI: JsonObject = {"model": "m", "messages": PLAIN}
STREAMED: JsonObject = {**OPENAI, "stream": True}
STAINLESS = {"x-stainless-lang": "python", "accept": "application/json"}


def choose(path: str, headers: dict[str, str], body: JsonObject) -> str | None:
    return choose_format(path, Headers(headers), body).format


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("sse", "openai-sse"),
        ("sse-inline", "sse-inline"),
        ("vercel-data", "data-v1"),
        ("vercel-ui", "ui-v1"),
        ("openai-sse", "openai-sse"),
        ("data-v1", "data-v1"),
        ("ui-v1", "ui-v1"),
        (" SSE ", "openai-sse"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, USE_CHAT])
@pytest.mark.parametrize(
    "body", [STREAMED, {"messages": PARTS, "trigger": "submit-message", "stream": True}]
)
def test_row_1_a_format_that_is_named_is_taken(
    path: str, value: str, name: str, body: JsonObject
) -> None:
    assert choose(path, {"X-Streaming-Format": value, **STAINLESS}, body) == name


VERCEL = [
    pytest.param(CHAT, STAINLESS, STREAMED, "sse-inline", id="2: an OpenAI SDK"),
    pytest.param(
        CHAT,
        STAINLESS,
        {"messages": PARTS, "trigger": "x", "stream": True},
        "sse-inline",
        id="2: an OpenAI SDK, before all rules on the body",
    ),
    pytest.param(CHAT, {}, {**OPENAI, "trigger": "submit-message"}, "ui-v1", id="3: trigger"),
    pytest.param(CHAT, {}, {"model": "m", "messages": PARTS}, "ui-v1", id="3: parts, no content"),
    pytest.param(USE_CHAT, {}, {"messages": PARTS}, "ui-v1", id="3: on the other route"),
    pytest.param(CHAT, {}, {**STREAMED, "messages": BOTH}, "data-v1", id="4: parts and content"),
    pytest.param(CHAT, {}, {"messages": PLAIN}, "data-v1", id="4: neither model nor stream"),
    pytest.param(
        CHAT,
        {},
        {"messages": PLAIN, "model": None, "stream": None},
        "data-v1",
        id="4: null is not there",
    ),
    pytest.param(
        CHAT,
        {"user-agent": "ai-sdk/openai/2.0.131 ai-sdk/provider"},
        STREAMED,
        "openai-sse",
        id="5: AI SDK 5 and 6",
    ),
    pytest.param(CHAT, {"user-agent": "ai-sdk-openai/4.0"}, STREAMED, "openai-sse", id="5: 7"),
    pytest.param(CHAT, {"user-agent": "ai/5.0.277"}, STREAMED, "openai-sse", id="5: generate"),
    pytest.param(CHAT, {"user-agent": "curl/8.5"}, STREAMED, "vercel", id="6: curl"),
    pytest.param(CHAT, {"user-agent": "my-ai/1"}, STREAMED, "vercel", id="6: a name with ai"),
    pytest.param(CHAT, {"user-agent": "airflow/2"}, STREAMED, "vercel", id="6: a name like ai"),
    pytest.param(CHAT, {}, OPENAI, "vercel", id="6: a model and no word about streaming"),
    pytest.param(CHAT, {}, {"messages": PLAIN, "stream": True}, "vercel", id="6: stream alone"),
    pytest.param(CHAT, {"accept": "*/*"}, OPENAI, "vercel", id="6: curl's own Accept"),
    pytest.param(CHAT, {}, {"model": "m"}, "vercel", id="6: no messages at all"),
    pytest.param(CHAT, {}, {"model": "m", "messages": "x"}, "vercel", id="6: wrong messages"),
]


@pytest.mark.parametrize(("path", "headers", "body", "name"), VERCEL)
def test_rows_2_to_6_what_vercel_means_depends_on_the_client(
    path: str, headers: dict[str, str], body: JsonObject, name: str
) -> None:
    assert choose(path, {**headers, "X-Streaming-Format": "vercel"}, body) == name


@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param({"messages": PLAIN}, "data-v1", id="3.4"),
        pytest.param({"id": "chat-1", "messages": BOTH}, "data-v1", id="4"),
        pytest.param(
            {"id": "chat-1", "messages": PARTS, "trigger": "submit-message"}, "ui-v1", id="5 to 7"
        ),
        pytest.param({"messages": PARTS}, "ui-v1", id="parts without content"),
        pytest.param(STREAMED, "data-v1", id="an OpenAI body"),
    ],
)
def test_row_7_use_chat_is_answered_in_the_protocol_of_its_version(
    body: JsonObject, name: str
) -> None:
    assert choose(USE_CHAT, {}, body) == name


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({}, STREAMED, "openai-sse"),
        (STAINLESS, STREAMED, "openai-sse"),
        ({}, OPENAI, None),
        (STAINLESS, OPENAI, None),
        ({}, {**OPENAI, "stream": False}, None),
        ({}, {"messages": PARTS, "trigger": "x"}, None),
    ],
)
def test_row_8_without_the_header_only_the_body_asks_for_a_stream(
    headers: dict[str, str], body: JsonObject, name: str | None
) -> None:
    assert choose(CHAT, headers, body) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("sse", None),
        ("sse-inline", None),
        ("openai-sse", None),
        ("vercel-data", "data-v1"),
        ("vercel-ui", "ui-v1"),
        ("vercel", "vercel"),
    ],
)
def test_openai_formats_wait_for_stream_true_and_the_others_for_no_stream_false(
    value: str, name: str | None
) -> None:
    headers = {"X-Streaming-Format": value}
    assert choose(CHAT, headers, OPENAI) == name
    assert choose(CHAT, headers, {**OPENAI, "stream": None}) == name
    assert choose(CHAT, headers, {**OPENAI, "stream": False}) is None
    assert choose(CHAT, headers, STREAMED) is not None


@pytest.mark.parametrize(
    ("headers", "streams"),
    [({**STAINLESS}, False), ({"user-agent": "ai-sdk/openai/2.0"}, False), ({}, True)],
)
def test_the_guessed_openai_formats_wait_for_stream_true_too(
    headers: dict[str, str], streams: bool
) -> None:
    name = choose(CHAT, {**headers, "X-Streaming-Format": "vercel"}, OPENAI)
    assert (name is not None) is streams


def test_use_chat_that_refuses_a_stream_gets_json() -> None:
    assert choose(USE_CHAT, {}, {"messages": PLAIN, "stream": False}) is None


@pytest.mark.parametrize(
    ("accept", "body", "name"),
    [
        ("text/event-stream", OPENAI, "openai-sse"),
        ("text/html, Text/Event-Stream;q=0.9", OPENAI, "openai-sse"),
        ("text/event-stream, application/json", OPENAI, None),
        ("text/event-stream, */*;q=0.1", OPENAI, None),
        ("application/json", OPENAI, None),
        ("application/json", STREAMED, "openai-sse"),
        ("text/event-stream", {**OPENAI, "stream": False}, None),
    ],
)
def test_accept_counts_only_where_it_takes_nothing_but_event_streams(
    accept: str, body: JsonObject, name: str | None
) -> None:
    assert choose(CHAT, {"Accept": accept}, body) == name


@pytest.mark.parametrize("value", ["", "ndjson", "vercel, sse", "ui"])
def test_an_unknown_format_is_refused_with_the_known_ones(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="sse, vercel, sse-inline, vercel-data") as caught:
        choose(CHAT, {"X-Streaming-Format": value}, STREAMED)
    assert caught.value.param == "X-Streaming-Format"


@pytest.mark.parametrize(("value", "progress"), [("none", False), ("Text", True), (None, None)])
def test_progress_text_can_be_chosen(value: str | None, progress: bool | None) -> None:
    headers = {} if value is None else {"x-workflow-progress": value}
    assert choose_format(CHAT, headers, STREAMED) == StreamChoice("openai-sse", progress)


@pytest.mark.parametrize(("value", "detached"), [("true", True), ("false", False), (None, False)])
def test_a_run_can_outlive_its_client(value: str | None, detached: bool) -> None:
    headers = {} if value is None else {"x-workflow-detached": value}
    assert choose_format(CHAT, headers, OPENAI) == StreamChoice(None, detached=detached)


@pytest.mark.parametrize("header", ["X-Workflow-Progress", "X-Workflow-Detached"])
def test_an_unknown_word_in_our_other_headers_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{header} must be one of") as caught:
        choose(CHAT, {header: "maybe"}, OPENAI)
    assert caught.value.param == header


@pytest.mark.parametrize(
    ("options", "include_usage"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": False}, False),
        ({}, False),
        (None, False),
    ],
)
def test_the_usage_chunk_comes_if_it_was_asked_for(options: JsonValue, include_usage: bool) -> None:
    choice = choose_format(CHAT, {}, {**STREAMED, "stream_options": options})
    assert choice.include_usage is include_usage


@pytest.mark.parametrize(
    ("roles", "continues"),
    [
        ((), False),
        (("user",), False),
        (("user", "assistant"), True),
        (("assistant", "user"), False),
    ],
)
def test_an_answer_continues_the_message_of_the_assistant_that_is_the_newest(
    roles: tuple[str, ...], *, continues: bool
) -> None:
    messages: list[JsonValue] = [{"role": role, "parts": []} for role in roles]
    choice = choose_format(USE_CHAT, {}, {"messages": messages})
    assert choice.continues_message is continues


def test_every_chosen_name_is_a_format() -> None:
    for headers in ({}, {"X-Streaming-Format": "vercel"}):
        for path in (CHAT, USE_CHAT):
            for messages in (PLAIN, PARTS, BOTH):
                assert choose(path, headers, {"messages": messages, "stream": True}) in FORMATS
