from collections.abc import Sequence

import pytest

from agent_server.access import Access, Caller
from agent_server.accounts.key_book import KeyBook
from agent_server.accounts.keys import ApiKey, digest_of, parse_api_keys
from agent_server.request_headers import headers_of
from streaming.errors import (
    AuthenticationError,
    MisdirectedRequestError,
    PermissionDeniedError,
    UnsupportedMediaTypeError,
)

ALICE, BOB = "as-" + "a" * 40, "as-" + "b" * 40


def access(
    keys: tuple[str, ...] = (),
    *,
    is_loopback: bool = True,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
) -> Access:
    entries = parse_api_keys(list(keys))
    return Access(keys=entries, is_loopback=is_loopback, allowed_hosts=hosts, cors_origins=origins)


KEYS = (
    f"alice=sha256:{digest_of(ALICE)};scopes=chat+run;owner=team",
    f"bob=sha256:{digest_of(BOB)};scopes=chat",
)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST:1"]
)
def test_loopback_names_are_served(host: str) -> None:
    access().check_host({"host": host})


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8000", "localhost.evil.example"),
        *("127.0.0.1.evil.example:1", "localhost@evil.example", "evil.example:127.0.0.1"),
        *("[[localhost", "localhost]", "[localhost]", "localhost:x", "[::1]evil.example", "::1:80"),
    ],
)
def test_another_host_is_misdirected(host: str) -> None:
    with pytest.raises(MisdirectedRequestError, match="--allowed-host"):
        access().check_host({"host": host})


def test_two_hosts_are_misdirected() -> None:
    headers = headers_of({"headers": [(b"host", b"localhost"), (b"host", b"evil.example")]})
    with pytest.raises(MisdirectedRequestError, match=r"localhost, evil\.example"):
        access().check_host(headers)


@pytest.mark.parametrize("host", ["agent.example", "agent.example:443", "AGENT.example:8000"])
def test_a_listed_host_is_served_at_any_port(host: str) -> None:
    access(hosts=("agent.example",)).check_host({"host": host})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("https://app.example", "localhost:8000"),
        ("https://APP.example", "localhost:8000"),
    ],
)
def test_the_own_and_configured_origins_may_call(origin: str, host: str) -> None:
    headers = {"origin": origin, "host": host}
    access(origins=("https://app.example",)).check_origin(headers)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "https://app.example.evil"]
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    headers = {"origin": origin, "host": "localhost:8000"}
    with pytest.raises(PermissionDeniedError, match="AGENT_SERVER_CORS_ORIGINS"):
        access(origins=("https://app.example",)).check_origin(headers)


def test_of_two_origins_none_may_call() -> None:
    raw = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil")]
    with pytest.raises(PermissionDeniedError):
        access().check_origin(headers_of({"headers": raw}))


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_bodies_are_taken(media_type: str) -> None:
    access().check_content_type({"content-type": media_type})


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_form_can_post_is_refused(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        access().check_content_type({"content-type": media_type})


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {ALICE}"}, {"x-api-key": ALICE}],
    ids=["bearer", "x-api-key"],
)
def test_a_key_is_taken_from_either_header(headers: dict[str, str]) -> None:
    caller = access(KEYS).identify(headers, "10.0.0.1")
    assert caller == Caller("team", "alice", frozenset({"chat", "run"}), None)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"authorization": "Basic abc"}, "missing_api_key"),
        ({"authorization": "Bearer as-wrong"}, "invalid_api_key"),
        ({"x-api-key": ALICE[:-1]}, "invalid_api_key"),
    ],
)
def test_an_unknown_key_is_refused(headers: dict[str, str], code: str) -> None:
    with pytest.raises(AuthenticationError) as raised:
        access(KEYS).identify(headers, "127.0.0.1")
    assert raised.value.code == code


def test_an_expired_key_is_refused_by_its_name() -> None:
    entries = (f"alice=sha256:{digest_of(ALICE)};expires=2020-01-01",)
    with pytest.raises(AuthenticationError, match="'alice' has expired") as raised:
        access(entries).identify({"x-api-key": ALICE}, "127.0.0.1")
    assert raised.value.code == "expired_api_key"


async def test_a_key_that_is_not_at_hand_is_looked_for_in_the_store() -> None:
    (stored,) = parse_api_keys([f"bob=sha256:{digest_of(BOB)};scopes=chat"])

    async def read(digests: Sequence[str]) -> dict[str, ApiKey]:
        return {stored.sha256: stored} if stored.sha256 in digests else {}

    book = KeyBook(parse_api_keys([KEYS[0]]), read_keys=read)
    guard = Access(book=book, is_loopback=True, allowed_hosts=(), cors_origins=())
    of_alice, of_bob = {"x-api-key": ALICE}, {"x-api-key": BOB}
    assert guard.identify(of_bob, None) is None
    found = await guard.find(of_bob, None)
    assert (found.name, found.key) == ("bob", stored)
    assert guard.identify(of_bob, None) == found
    assert await guard.find(of_alice, None) == guard.identify(of_alice, None)
    with pytest.raises(AuthenticationError):
        await guard.find({"x-api-key": "as-wrong"}, None)


def test_a_key_without_the_scope_run_executes_nothing() -> None:
    caller = access(KEYS).identify({"x-api-key": BOB}, "127.0.0.1")
    assert caller.refusal is not None
    assert "'run'" in caller.refusal
    caller.require("chat")
    with pytest.raises(PermissionDeniedError, match="'run'"):
        caller.require("run")


def test_who_executes_nothing_ends_nothing_either() -> None:
    caller = access().identify({"host": "localhost", "via": "1.1 proxy"}, "127.0.0.1")
    with pytest.raises(PermissionDeniedError, match="AGENT_SERVER_API_KEYS"):
        caller.require_execution()


def test_without_keys_a_local_caller_may_execute() -> None:
    caller = access().identify({"host": "localhost:8000"}, "127.0.0.1")
    caller.require_execution()
    assert caller.refusal is None
    assert caller.owner == "local"


@pytest.mark.parametrize(
    ("headers", "peer", "is_loopback", "why"),
    [
        ({}, "127.0.0.1", False, "beyond loopback"),
        ({"forwarded": "for=1.2.3.4"}, "127.0.0.1", True, "'forwarded'"),
        ({"x-forwarded-for": "1.2.3.4"}, "127.0.0.1", True, "'x-forwarded-for'"),
        ({"x-forwarded-proto": "https"}, "127.0.0.1", True, "'x-forwarded-proto'"),
        ({"x-real-ip": "1.2.3.4"}, "127.0.0.1", True, "'x-real-ip'"),
        ({"via": "1.1 proxy"}, "127.0.0.1", True, "'via'"),
        ({"cf-connecting-ip": "1.2.3.4"}, "127.0.0.1", True, "'cf-connecting-ip'"),
        ({"host": "agent.example"}, "127.0.0.1", True, "agent.example"),
        ({}, "10.0.0.7", True, "another machine"),
    ],
)
def test_without_keys_who_is_not_local_executes_nothing(
    headers: dict[str, str], peer: str, is_loopback: bool, why: str
) -> None:
    headers = {"host": "localhost", **headers}
    refusal = access(is_loopback=is_loopback).identify(headers, peer).refusal
    assert refusal is not None
    assert why in refusal
    assert "AGENT_SERVER_API_KEYS" in refusal
