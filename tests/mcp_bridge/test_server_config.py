"""The mcpServers document."""

import logging
from typing import Any

import pytest

from mcp_bridge import ServerSpec, ServerSpecError, inherited_environment, read_mcp_servers

ENVIRONMENT = {"PATH": "/bin", "HOME": "/home/me", "OPENAI_API_KEY": "sk-secret", "TOKEN": "t0ken!"}


def read(server: Any, environment: dict[str, str] = ENVIRONMENT) -> list[ServerSpec]:
    return read_mcp_servers({"mcpServers": {"files": server}}, environment=environment)


def test_a_child_gets_its_command_and_a_listed_environment() -> None:
    (spec,) = read(
        {"command": "npx", "args": ["x@1.2", "${HOME}"], "env": {"T": "${TOKEN}"}, "cwd": "/srv"}
    )
    assert spec == ServerSpec(
        name="files",
        command=("npx", "x@1.2", "/home/me"),
        env={"PATH": "/bin", "HOME": "/home/me", "T": "t0ken!"},
        cwd="/srv",
    )


@pytest.mark.parametrize("kind", [None, "http", "streamable-http"])
def test_a_server_by_url_gets_its_headers(kind: str | None) -> None:
    entry = {"url": "https://host/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}
    (spec,) = read(entry if kind is None else {"type": kind, **entry})
    assert spec.url == "https://host/mcp"
    assert spec.headers == {"Authorization": "Bearer t0ken!"}


def test_our_own_keys_are_read() -> None:
    (spec,) = read(
        {
            "command": "x",
            "mode": "legacy",
            "required": True,
            "includeTools": ["a*"],
            "callTimeoutSeconds": 5,
            "maxInFlight": 2,
        }
    )
    assert (spec.mode, spec.required, spec.include_tools) == ("legacy", True, ("a*",))
    assert (spec.call_timeout_seconds, spec.max_in_flight) == (5, 2)


def test_a_disabled_server_is_left_out() -> None:
    assert read({"command": "x", "disabled": True}) == []


def test_no_secret_shows_in_a_spec() -> None:
    (child,) = read({"command": "x", "env": {"T": "${TOKEN}"}})
    (url,) = read({"url": "http://h/", "headers": {"X": "${TOKEN}"}})
    assert "t0ken!" not in repr(child) + repr(url)
    assert child.secrets == ("t0ken!",)
    assert "t0ken!" in url.secrets


def test_of_our_own_server_only_what_is_named_like_a_secret_counts_as_one() -> None:
    spec = ServerSpec(
        name="own", command=("x",), is_own=True, env={"DATA_DIR": "/srv/data", "API_KEY": "sk-1234"}
    )
    assert spec.secrets == ("sk-1234",)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("x", "mcpServers.files must be an object"),
        ({"comand": "x"}, "mcpServers.files has an unknown key 'comand': did you mean 'command'?"),
        ({}, "mcpServers.files is of type stdio and lacks `command`"),
        ({"type": "http", "command": "x"}, "mcpServers.files is of type http and lacks `url`"),
        ({"type": "sse", "url": "http://h/"}, "SSE is retired"),
        ({"command": "x", "url": "http://h/", "type": "stdio"}, "files.url has no meaning"),
        ({"command": 1}, "mcpServers.files.command must be text"),
        ({"command": "x", "args": "y"}, "mcpServers.files.args must be a list of texts"),
        ({"command": "x", "env": {"A": 1}}, "mcpServers.files.env must be an object of texts"),
        ({"command": "x", "maxInFlight": 1.5}, "files.maxInFlight must be a whole number"),
        ({"command": "x", "maxInFlight": True}, "files.maxInFlight must be a whole number"),
        ({"command": "x", "disabled": "yes"}, "files.disabled must be true or false"),
        ({"command": "x", "args": ["${NOPE}"]}, "args[0]: the variable NOPE is not set"),
        ({"command": "x", "args": ["${NO-PE}"]}, "'${NO-PE}' is no reference"),
        ({"command": "x", "args": ["${HOME"]}, "'${HOME' is no reference"),
        ({"command": "x", "mode": "new"}, "mode must be one of auto, legacy, 2026-07-28"),
        ({"command": "x", "maxLineBytes": 2**25}, "max_line_bytes must be from 1024 to 16777216"),
        ({"command": "x", "callTimeoutSeconds": 0}, "call_timeout_seconds must be greater than 0"),
        ({"command": "x", "toolsSha256": "abc"}, "tools_sha256 must be 64 lower-case hex digits"),
        ({"url": "ftp://h/"}, "the url must begin with http:// or https://"),
        ({"url": "https://me:pw@host/"}, "the url must hold no credentials"),
    ],
)
def test_a_mistake_is_named_with_its_place(server: Any, message: str) -> None:
    with pytest.raises(ServerSpecError) as caught:
        read(server)
    assert message in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"servers": {}}, "unknown key 'servers': did you mean 'mcpServers'?"),
        ({"mcpServers": []}, "mcpServers must be an object"),
        ({"mcpServers": {"": {"command": "x"}}}, "the name must be 1 to 64"),
    ],
)
def test_a_wrong_document_is_refused(document: Any, message: str) -> None:
    with pytest.raises(ServerSpecError) as caught:
        read_mcp_servers(document, environment={})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("args", "warns"),
    [
        (["-y", "server"], True),
        (["-y", "@scope/server"], True),
        (["-y", "@scope/server@1.2"], False),
    ],
)
def test_an_unpinned_package_is_warned_about(
    args: list[str], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read({"command": "/usr/bin/npx", "args": args})
    assert ("pin it" in caplog.text) is warns


def test_no_api_key_is_inherited() -> None:
    assert inherited_environment(ENVIRONMENT) == {"PATH": "/bin", "HOME": "/home/me"}
