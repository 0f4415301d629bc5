import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from agent_server.log_config import (
    bind_request,
    configure_logging,
    get_logger,
    log_request,
    mask_in_log,
)

SECRET = 'pass"word\\1234'
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - (INFO|WARNING|ERROR|DEBUG) - (.*)")


class Broken(io.BytesIO):
    """A stream whose reader has gone."""

    def write(self, _: object) -> int:  # type: ignore[override]
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root, mcp = logging.getLogger(), logging.getLogger("mcp")
    before = root.handlers[:], root.level, mcp.level
    yield
    root.handlers[:], root.level = before[:2]
    mcp.setLevel(before[2])
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def fail(text: str) -> None:
    raise ValueError(text)


def lines(stream: io.BytesIO) -> list[str]:
    return stream.getvalue().decode().splitlines()


def records(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(stream)]


def test_a_console_line_has_the_format_of_the_guide() -> None:
    stream = io.BytesIO()
    configure_logging(stream=stream)
    get_logger().info("Processing request with sse format: 2 messages, 143 characters")
    found = LINE.fullmatch(lines(stream)[0])
    assert found
    assert found.groups() == (
        "INFO",
        "Processing request with sse format: 2 messages, 143 characters",
    )


def test_keys_follow_the_text_and_the_request_id_is_on_every_line() -> None:
    stream = io.BytesIO()
    configure_logging(stream=stream)
    bind_request("req_1")
    get_logger().info("Answered", status=200, words="a b")
    logging.getLogger("library").warning("slow %s", "query")
    first, second = lines(stream)
    assert first.endswith('INFO - Answered status=200 words="a b" request_id=req_1')
    assert second.endswith("WARNING - slow query logger=library request_id=req_1")


def test_json_is_one_object_for_each_record() -> None:
    stream = io.BytesIO()
    configure_logging(log_format="json", stream=stream)
    bind_request("req_1")
    get_logger().warning("Answered", status=200, odd={1: object}, text="\ud800")
    logging.getLogger("uvicorn.error").error("broken")
    first, second = records(stream)
    assert first["level"] == "warning"
    assert first["event"] in ("Answered", "'Answered'")
    assert str(first["time"]).endswith("+00:00")
    assert second | {"time": ""} == {
        "time": "",
        "level": "error",
        "event": "broken",
        "logger": "uvicorn.error",
        "request_id": "req_1",
    }


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_known_secret_is_masked_wherever_it_stands(log_format: str) -> None:
    stream = io.BytesIO()
    configure_logging(log_format=log_format, secrets=[SECRET], stream=stream)  # type: ignore[arg-type]
    log = get_logger()
    log.info("text %s", SECRET, value=SECRET, nested={"deep": [SECRET]})
    try:
        fail(SECRET)
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").error("said %s", SECRET)
    written = stream.getvalue().decode()
    assert written.count("***") == 5
    assert "1234" not in written


@pytest.mark.parametrize(
    "text",
    [
        "key sk-proj-abcdefghijklmnopqrstuvwx",
        "gsk_abcdefghijklmnopqrstuvwx rest",
        "Authorization: Bearer abc.def-ghi_jkl",
        "as-abcdefghijklmnopqrstuvwxyz012345",
        "asr_abcdefghijklmnopqrstuvwxyz012345",
    ],
)
def test_what_looks_like_a_key_is_masked(text: str) -> None:
    stream = io.BytesIO()
    configure_logging(stream=stream)
    get_logger().info(text)
    assert "***" in lines(stream)[0]
    assert "ghi" not in lines(stream)[0]


def test_the_value_of_a_secret_name_is_masked_and_token_counts_are_not() -> None:
    stream = io.BytesIO()
    configure_logging(log_format="json", stream=stream)
    get_logger().info(
        "x", api_key="short", headers={"Authorization": "abc", "X-Token": "t"}, prompt_tokens=7
    )
    (record,) = records(stream)
    assert record["api_key"] == "***"
    assert record["headers"] == {"Authorization": "***", "X-Token": "***"}
    assert record["prompt_tokens"] == 7


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_logged_value_forges_a_line_or_drives_a_terminal(log_format: str) -> None:
    stream = io.BytesIO()
    configure_logging(log_format=log_format, stream=stream)  # type: ignore[arg-type]
    forged = "a\n2024-01-15 10:30:45,123 - INFO - forged\r\x1b[2J\x9b1m\u2028b\x7f"
    get_logger().info(forged, value=forged)
    assert len(lines(stream)) == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", stream.getvalue().decode())


def test_the_lines_of_a_traceback_are_indented() -> None:
    stream = io.BytesIO()
    configure_logging(stream=stream)
    try:
        fail("a\n2024-01-15 10:30:45,123 - INFO - forged")
    except ValueError:
        get_logger().exception("failed")
    first, *rest = lines(stream)
    assert LINE.fullmatch(first)
    assert any("ValueError" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)


def test_a_level_below_the_threshold_is_not_written() -> None:
    stream = io.BytesIO()
    configure_logging("WARNING", stream=stream)
    get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    assert lines(stream) == []


def test_libraries_tell_more_at_debug_and_mcp_on_request() -> None:
    stream = io.BytesIO()
    configure_logging("DEBUG", stream=stream, mcp_debug=True)
    logging.getLogger("library").debug("quiet")
    logging.getLogger("library").info("told")
    logging.getLogger("mcp.client").debug("message")
    assert [line.split(" - ")[2].split()[0] for line in lines(stream)] == ["told", "message"]


def test_a_stream_that_cannot_be_written_fails_nobody() -> None:
    configure_logging(stream=Broken())
    get_logger().error("nobody hears")
    logging.getLogger("library").error("nobody hears")


def test_a_secret_that_becomes_known_later_is_masked_from_then_on() -> None:
    stream = io.BytesIO()
    configure_logging(log_format="json", secrets=[SECRET], stream=stream)
    mask_in_log(["another-provider-key"])
    get_logger().info("Keys are another-provider-key and", first=SECRET)
    log_request("Request answered", {"path": "/another-provider-key"})
    written = stream.getvalue()
    assert b"another-provider-key" not in written
    assert SECRET.encode() not in written
