"""What the process of the server does beside serving."""

import gc
from collections.abc import Iterator

import pytest

from agent_server.process import COLLECT_AFTER, settle_memory


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector as it was, after the test."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_a_server_began_with_is_no_work_for_the_collector() -> None:
    before = [[number] for number in range(1000)]
    settle_memory()
    assert gc.get_threshold() == COLLECT_AFTER
    assert gc.get_freeze_count() > len(before)
    assert not any(found is before for found in gc.get_objects())
