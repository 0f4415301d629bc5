"""Both engines for the conformance suite: the journal, and Temporal with its real dev server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import missing
from tests.workflow_backend.conformance.places import Place
from workflow_backend.engines.base import EngineUnavailableError
from workflow_backend.engines.temporal.dev_server import DevServer, find_program
from workflow_backend.engines.temporal.options import DEV_SERVER_OPTIONS, Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A dev server of this process of tests."""
    require_program()
    server = DevServer(tmp_path_factory.mktemp("temporal"), DEV_SERVER_OPTIONS)
    with asyncio.Runner() as runner:
        runner.run(server.start())
        try:
            yield server.cluster
        finally:
            runner.run(server.stop())


@pytest.fixture(params=["journal", "temporal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Either engine in a folder of the test's own."""
    if request.param == "journal":
        return Place(tmp_path)
    return Place(tmp_path, request.getfixturevalue("cluster"))


@pytest.fixture
def temporal(tmp_path: Path, cluster: Cluster) -> Place:
    """The engine on Temporal alone."""
    return Place(tmp_path, cluster)


def require_program() -> None:
    """Skip where the wheel of the dev server has no program for this machine."""
    try:
        find_program()
    except EngineUnavailableError as error:
        missing(str(error))
