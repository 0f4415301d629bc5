"""Fixtures that several test files use."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from agent_server.accounts.keys import digest_of
from tests.databases import database_url, postgres_server, postgres_url, redis_server
from tests.npm_clients import npm_clients
from tests.recordings import replay
from tests.running_server import RunningServer, running_server

__all__ = [
    "database_url",
    "npm_clients",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "replay",
]

# A shell starts background jobs with SIGINT ignored, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and none fails because the machine is busy.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

ALICE, BOB, CAROL = (f"as-{letter * 40}" for letter in "abc")
KEY_ENTRIES = " ".join(
    (
        f"alice=sha256:{digest_of(ALICE)};scopes=chat+run",
        f"bob=sha256:{digest_of(BOB)};scopes=chat+run",
        f"carol=sha256:{digest_of(CAROL)};scopes=chat",
    )
)


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The whole server on its defaults, with the offline planner and no keys."""
    with running_server(tmp_path_factory.mktemp("agent")) as server:
        yield server


@pytest.fixture(scope="session")
def keyed_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The whole server with keys: ALICE and BOB may chat and run, CAROL may chat."""
    environment = {"AGENT_SERVER_API_KEYS": KEY_ENTRIES, "AGENT_SERVER_ISOLATION": "auto"}
    with running_server(tmp_path_factory.mktemp("keyed"), environment=environment) as server:
        yield server
