"""Schedules and the keys of their owners: what fires when a key is gone, and who can end it."""

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent_server.accounts.keys import digest_of
from tests.agent_server.command_line import run_command
from tests.agent_server.run_servers import ADMIN, ALICE, BOB, ENTRIES, RunServer, run_server, token
from tests.running_server import Answer, RunningServer, ask, running_server

OWNER_PATH = "/v1/workflows/run-owner"
SCHEDULES = "/v1/workflows/schedules"
RUNS = "/v1/workflows/runs"
SECONDS = 20.0
EVE, RUNNER = (f"as-{letter * 40}" for letter in "vr")
EVES = f"eve=sha256:{digest_of(EVE)};scopes=chat+run"
NIGHTLY = """\
name: nightly
steps: [{name: a, run: echo ran, timeout: 20s}]
schedule: {cron: "30 2 * * *", catch_up: 24h}
"""


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunServer]:
    entries = f"{ENTRIES} runner=sha256:{digest_of(RUNNER)};scopes=run"
    variables = {"AGENT_SERVER_DATABASE_URL": "sqlite", "AGENT_SERVER_ISOLATION": "none"}
    async with run_server(tmp_path_factory.mktemp("owners"), keys=entries, **variables) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("owner", "may_run"),
    [
        *(("alice", True), ("runner", True), ("team", True)),
        *(("carol", False), ("gone", False), ("admin", False), ("nobody", False), ("local", False)),
    ],
)
async def test_an_owner_may_run_with_a_living_key_of_the_scope_run(
    server: RunServer, owner: str, may_run: bool
) -> None:
    answer = await server.call("GET", OWNER_PATH, key=token(owner=owner, turns=0, tokens=0))
    if may_run:
        assert (answer.status, answer.json["may_run"]) == (200, True)
    else:
        assert (answer.status, answer.error["code"]) == (401, "run_owner_gone")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_key_that_is_revoked_takes_it_away_at_once(server: RunServer) -> None:
    made = await server.call("POST", "/v1/keys", {"name": "mallory", "scopes": ["run"]}, key=ADMIN)
    assert made.status == 201
    assert (await server.call("GET", OWNER_PATH, key=token(owner="mallory"))).status == 200
    await server.call("DELETE", "/v1/keys/mallory", key=ADMIN)
    assert (await server.call("GET", OWNER_PATH, key=token(owner="mallory"))).status == 401


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("key", [None, ALICE, "asr_x", token(-1), token(key=b"o" * 32)])
async def test_who_has_no_token_of_the_server_is_told_nothing(
    server: RunServer, key: str | None
) -> None:
    answer = await server.call("GET", OWNER_PATH, key=key)
    assert answer.status == 401
    assert answer.error["code"] != "run_owner_gone"


def keyed(folder: Path, keys: str) -> Any:
    environment = {"AGENT_SERVER_API_KEYS": keys, "AGENT_SERVER_ISOLATION": "none"}
    return running_server(folder, environment=environment)


def schedule_of(server: RunningServer, owner: str) -> dict[str, Any]:
    listed = ask(server.url, "GET", f"{SCHEDULES}?owner={owner}", headers=of(ADMIN))
    assert listed.status == 200, listed.body
    return dict(listed.json["data"][0])


def become_due(data_dir: Path) -> None:
    """Let the time of a day ago be the next one of every schedule, while no server runs."""
    with sqlite3.connect(data_dir / "schedules.db") as file:
        file.execute("UPDATE schedules SET next_at = next_at - 86400")
    file.close()


def test_a_schedule_whose_owner_has_no_key_any_more_begins_nothing(tmp_path: Path) -> None:
    with keyed(tmp_path, f"{ENTRIES} {EVES}") as server:
        for key in (EVE, ALICE):
            added = ask(server.url, "POST", SCHEDULES, {"workflow": NIGHTLY}, of(key))
            assert added.status == 201, added.body
    become_due(server.data_dir)
    with keyed(tmp_path, ENTRIES) as server:
        deadline = time.monotonic() + SECONDS
        while schedule_of(server, "eve")["last_error"] is None:
            assert time.monotonic() < deadline, server.log
        error = schedule_of(server, "eve")["last_error"]
        assert error.startswith("its owner 'eve' has no API key with the scope run any more")
        while not (runs := ask(server.url, "GET", RUNS, headers=of(ALICE)).json["data"]):
            assert time.monotonic() < deadline, server.log
        assert [run["scheduled_by"] for run in runs] == ["nightly"]
        assert schedule_of(server, "alice")["last_error"] is None


def test_an_administrator_ends_the_schedules_of_whoever_has_left(tmp_path: Path) -> None:
    with keyed(tmp_path, f"{ENTRIES} {EVES}") as server:
        ask(server.url, "POST", SCHEDULES, {"workflow": NIGHTLY}, of(EVE))
    with keyed(tmp_path, ENTRIES) as server:

        def deleting(key: str, owner: str = "eve") -> Answer:
            path = f"{SCHEDULES}/nightly?owner={owner}"
            return ask(server.url, "DELETE", path, headers=of(key))

        assert schedule_of(server, "eve")["name"] == "nightly"
        for key in (ALICE, BOB):
            listing = ask(server.url, "GET", f"{SCHEDULES}?owner=eve", headers=of(key))
            assert (listing.status, listing.error["param"]) == (403, "scopes")
            assert deleting(key).status == 403
        assert deleting(ADMIN, "bob").status == 404
        assert deleting(ADMIN, "a%20b").status == 400
        listed = run_command(
            tmp_path, "schedules", "list", "--owner", "eve", "--url", server.url, "--json",
            variables={"AGENT_SERVER_CLIENT_KEY": ADMIN},
        )  # fmt: skip
        assert '"nightly"' in listed.stdout
        removed = run_command(
            tmp_path, "schedules", "rm", "nightly", "--owner", "eve", "--url", server.url,
            variables={"AGENT_SERVER_CLIENT_KEY": ADMIN},
        )  # fmt: skip
        assert '"deleted": true' in removed.stdout, removed.stderr
        listing = ask(server.url, "GET", f"{SCHEDULES}?owner=eve", headers=of(ADMIN))
        assert listing.json["data"] == []


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(
        tmp_path_factory.mktemp("keyless"), environment={"AGENT_SERVER_ISOLATION": "none"}
    ) as running:
        yield running


def test_without_keys_the_local_owner_may_always_run(keyless: RunningServer) -> None:
    assert ask(keyless.url, "POST", SCHEDULES, {"workflow": NIGHTLY}).status == 201
    fired = ask(keyless.url, "POST", f"{SCHEDULES}/nightly/trigger", {})
    assert (fired.status, fired.json["state"]) == (201, "started")
    assert ask(keyless.url, "GET", f"{SCHEDULES}?owner=local").json["data"]
