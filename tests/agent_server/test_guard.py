"""What the server refuses before any route, seen from outside."""

import http.client
from collections.abc import Iterator

import pytest

from tests.conftest import ALICE, CAROL, KEY_ENTRIES
from tests.running_server import RunningServer, ask, running_server

CHAT = "/v1/chat/completions"
HELLO = {"model": "offline/offline", "messages": [{"role": "user", "content": "hello"}]}
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without the agent, without keys, with one allowed host and one origin."""
    with running_server(
        tmp_path_factory.mktemp("open"),
        *("--no-agent", "--allowed-host", "agent.example"),
        environment={
            "AGENT_SERVER_CORS_ORIGINS": PAGE,
            "AGENT_SERVER_MAX_BODY_BYTES": "2000",
            "LOG_LEVEL": "DEBUG",
        },
    ) as server:
        yield server


@pytest.fixture(scope="module")
def keyed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without the agent that knows ALICE, BOB and CAROL."""
    environment = {"AGENT_SERVER_API_KEYS": KEY_ENTRIES}
    with running_server(
        tmp_path_factory.mktemp("keyed"), "--no-agent", environment=environment
    ) as server:
        yield server


def test_a_chat_without_a_key_is_401_and_says_how_to_send_one(keyed_server: RunningServer) -> None:
    answer = ask(keyed_server.url, "POST", CHAT, HELLO)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "missing_api_key"
    assert "x-api-key" in answer.error["message"]


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {ALICE}"}, {"x-api-key": CAROL}], ids=["bearer", "x"]
)
def test_a_known_key_may_chat(keyed_server: RunningServer, headers: dict[str, str]) -> None:
    answer = ask(keyed_server.url, "POST", CHAT, HELLO, headers)
    assert answer.status == 200
    assert answer.json["object"] == "chat.completion"


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/discover"])
def test_what_tells_nothing_is_open(keyed_server: RunningServer, path: str) -> None:
    assert ask(keyed_server.url, "GET", path).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/workflows/runs", "/v1/workflows/runs/x"])
def test_everything_else_needs_a_key(keyed_server: RunningServer, path: str) -> None:
    assert ask(keyed_server.url, "GET", path).status == 401


def test_a_key_that_lacks_the_scope_is_403(keyed_server: RunningServer) -> None:
    answer = ask(keyed_server.url, "POST", "/v1/workflows/runs/x/cancel", {}, {"x-api-key": CAROL})
    assert answer.status == 403
    assert "'run'" in answer.error["message"]


def test_no_key_is_in_the_log(keyed_server: RunningServer) -> None:
    ask(keyed_server.url, "POST", CHAT, HELLO, {"Authorization": f"Bearer {ALICE}"})
    ask(keyed_server.url, "POST", CHAT, HELLO, {"Authorization": "Bearer as-unknown-secret-key"})
    assert ALICE not in keyed_server.log
    assert "as-unknown-secret-key" not in keyed_server.log


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_post_that_is_not_json_is_415(open_server: RunningServer, media_type: str) -> None:
    answer = ask(open_server.url, "POST", CHAT, HELLO, {"content-type": media_type})
    assert answer.status == 415
    assert answer.error["param"] == "Content-Type"


def test_a_foreign_host_is_421_and_names_the_option(open_server: RunningServer) -> None:
    answer = ask(open_server.url, "POST", CHAT, HELLO, {"host": "evil.example"})
    assert answer.status == 421
    assert "--allowed-host" in answer.error["message"]


def test_an_allowed_host_is_served(open_server: RunningServer) -> None:
    assert ask(open_server.url, "POST", CHAT, HELLO, {"host": "agent.example"}).status == 200


def test_a_probe_may_come_by_any_host(open_server: RunningServer) -> None:
    assert ask(open_server.url, "GET", "/health", headers={"host": "10.1.2.3:8000"}).status == 200


def test_a_page_of_a_foreign_origin_is_403(open_server: RunningServer) -> None:
    answer = ask(open_server.url, "POST", CHAT, HELLO, {"origin": "https://evil.example"})
    assert answer.status == 403
    assert answer.error["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in answer.headers


def test_a_foreign_preflight_is_403(open_server: RunningServer) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = ask(open_server.url, "OPTIONS", CHAT, headers=headers)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_a_configured_page_may_send_and_read_what_the_ai_sdk_needs(
    open_server: RunningServer,
) -> None:
    asked = "content-type,x-streaming-format,authorization,x-request-id"
    preflight = ask(
        open_server.url,
        "OPTIONS",
        CHAT,
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in preflight.headers
    answer = ask(open_server.url, "POST", CHAT, HELLO, {"origin": PAGE})
    assert answer.status == 200
    exposed = answer.headers["access-control-expose-headers"]
    assert "x-vercel-ai-data-stream" in exposed
    assert "x-vercel-ai-ui-message-stream" in exposed
    assert "access-control-allow-credentials" not in answer.headers


def test_a_configured_page_can_read_an_error(open_server: RunningServer) -> None:
    answer = ask(open_server.url, "POST", CHAT, {"messages": []}, {"origin": PAGE})
    assert answer.status == 400
    assert answer.headers["access-control-allow-origin"] == PAGE
    refused = ask(open_server.url, "POST", CHAT, b"x", {"origin": PAGE, "content-type": "a/b"})
    assert refused.status == 415
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_a_body_over_the_limit_is_413_before_it_is_sent(open_server: RunningServer) -> None:
    headers = {"content-length": str(10**9), "content-type": "application/json"}
    answer = ask(open_server.url, "POST", CHAT, b"", headers)
    assert answer.status == 413
    assert "AGENT_SERVER_MAX_BODY_BYTES" in answer.error["message"]


def test_a_chunked_body_over_the_limit_is_413(open_server: RunningServer) -> None:
    connection = http.client.HTTPConnection(open_server.url.removeprefix("http://"), timeout=20)
    headers = {"content-type": "application/json"}
    connection.request("POST", CHAT, iter([b"x" * 1500, b"x" * 1500]), headers, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    connection.close()


def test_a_body_at_the_limit_is_read(open_server: RunningServer) -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "' + b"x" * 1900 + b'"}]}'
    assert ask(open_server.url, "POST", CHAT, body).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/nowhere", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_unknown_routes_and_methods_answer_the_error_object(
    open_server: RunningServer, method: str, path: str, status: int, code: str
) -> None:
    answer = ask(open_server.url, method, path, {} if method == "POST" else None)
    assert answer.status == status
    assert answer.error["code"] == code
    if status == 405:
        assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{not json", None),
        (b"[]", None),
        (b"", None),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": "hi"}, "messages"),
        ({"model": "m"}, "messages"),
        ({"messages": HELLO["messages"]}, "model"),
        ({"model": "m", "messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user"}]}, "messages[0].content"),
        ({**HELLO, "temperature": "hot"}, "temperature"),
        ({**HELLO, "stream": "yes"}, "stream"),
        (b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}", None),
    ],
)
def test_bad_bodies_are_400_and_name_the_field(
    open_server: RunningServer, body: object, param: str | None
) -> None:
    answer = ask(open_server.url, "POST", CHAT, body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    if param is not None:
        assert answer.error["param"] == param


def test_a_request_id_is_taken_over_and_logged(open_server: RunningServer) -> None:
    answer = ask(open_server.url, "POST", CHAT, HELLO, {"x-request-id": "trace-4711"})
    assert answer.headers["x-request-id"] == "trace-4711"
    # The log is written once a turn of the loop, which may come after the answer.
    while "request_id=trace-4711" not in open_server.log:
        ask(open_server.url, "GET", "/health")


@pytest.mark.parametrize("given", [None, "has space", "x" * 200, "semi;colon", "-lead"])
def test_an_unusable_request_id_is_replaced(open_server: RunningServer, given: str | None) -> None:
    headers = {} if given is None else {"x-request-id": given}
    made = ask(open_server.url, "GET", "/health", headers=headers).headers["x-request-id"]
    assert made.startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/nowhere", {}),
        ("POST", CHAT, {"content-type": "text/plain"}),
        ("GET", "/v1/models", {"host": "evil.example"}),
    ],
)
def test_errors_carry_a_request_id_too(
    open_server: RunningServer, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = ask(open_server.url, method, path, {} if method == "POST" else None, headers)
    assert answer.headers["x-request-id"].startswith("req_")


def test_unknown_fields_are_tolerated(open_server: RunningServer) -> None:
    body = {**HELLO, "store": True, "metadata": {"a": "b"}, "some_new_field": [1, 2]}
    assert ask(open_server.url, "POST", CHAT, body).status == 200


def test_the_agent_is_not_found_where_it_is_off(open_server: RunningServer) -> None:
    answer = ask(open_server.url, "POST", CHAT, {**HELLO, "model": "kubiya-workflow-agent"})
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"


def test_a_provider_without_a_key_is_400_and_names_its_variable(open_server: RunningServer) -> None:
    answer = ask(open_server.url, "POST", CHAT, {**HELLO, "model": "openai/gpt-5.4-mini"})
    assert answer.status == 400
    assert "OPENAI_API_KEY" in answer.error["message"]
    assert answer.error["param"] == "model"
