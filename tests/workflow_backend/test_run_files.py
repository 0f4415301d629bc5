"""What a run's events tell of its files, and its outputs read part by part."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.engines.base import RunEvent
from workflow_backend.run_files import Section, files_of, log_page, sections_of

RUN = "run-1"


def running(step: str, attempt: int = 1, **fields: Any) -> RunEvent:
    return {"type": "step_running", "step": step, "attempt": attempt, **fields}


def wrote(step: str, text: str, attempt: int = 1) -> RunEvent:
    return {"type": "step_output", "step": step, "attempt": attempt, "text": text}


def complete(step: str, output: str, attempt: int = 1, **fields: Any) -> RunEvent:
    event = {"type": "step_complete", "step": step, "attempt": attempt, "time": "now"}
    return {**event, "output": output, **fields}


def artefact(name: str, digit: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "sha256": digit * 64, "size": 3, **fields}


def whole(
    store: ArtefactStore,
    sections: Sequence[Section],
    *,
    page: int = 1_000,
    is_alone: bool = False,
) -> str:
    """All pages of the sections."""
    text, start = "", (0, 0)
    for _ in range(10_000):
        found = log_page(store, RUN, sections, start, page, is_alone=is_alone)
        text += found.text
        start = (found.section, found.offset)
        if found.is_end:
            return text
        assert found.text or page < 4
    raise AssertionError("it does not end")


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path)


def test_the_newest_file_of_a_name_stands_for_it() -> None:
    events = [
        complete("a", "", artefacts=[artefact("x", "1"), artefact("y", "2")]),
        {**complete("a", "", 2), "type": "step_failed", "artefacts": [artefact("x", "3")]},
        complete("b", "", artefacts=[artefact("x", "4")]),
        complete("c", ""),
    ]
    found = [(file.step, file.name, file.sha256[0], file.attempt) for file in files_of(events)]
    assert found == [("a", "y", "2", 1), ("a", "x", "3", 2), ("b", "x", "4", 1)]


def test_a_log_and_a_file_of_its_name_are_two() -> None:
    both = [artefact("a#1.log", "1"), artefact("a#1.log", "2", is_log=True)]
    found = files_of([complete("a", "", artefacts=both)])
    assert [(file.sha256[0], file.is_log) for file in found] == [("1", False), ("2", True)]


def test_outputs_come_in_the_order_in_which_their_attempts_began(store: ArtefactStore) -> None:
    events = [
        {"type": "workflow_started"},
        running("slow"),
        running("quick"),
        wrote("quick", "q"),
        wrote("slow", "s1\n"),
        complete("quick", "quick"),
        {**complete("slow", "s1\n"), "type": "step_failed", "error": "exit code 1"},
        running("slow", 2),
        wrote("slow", "s2", 2),
    ]
    assert whole(store, sections_of(events)) == (
        "== slow (attempt 1) ==\ns1\n== slow failed: exit code 1 ==\n"
        "== quick (attempt 1) ==\nquick\n"
        "== slow (attempt 2) ==\ns2"
    )


def test_what_a_crashed_attempt_wrote_is_not_told_twice(store: ArtefactStore) -> None:
    events = [running("a"), wrote("a", "one\n"), running("a"), wrote("a", "one\ntwo\n")]
    assert whole(store, sections_of(events), is_alone=True) == "one\ntwo\n"


def test_times_of_a_repeated_step_and_items_are_told_apart(store: ArtefactStore) -> None:
    events = [
        running("poll"),
        complete("poll", "first"),
        running("poll", iteration=2),
        wrote("poll", "sec"),
        complete("poll", "second", iteration=2),
        running("deploy[1]"),
        complete("deploy[1]", "item"),
    ]
    sections = sections_of(events)
    assert [section.place for section in sections] == ["poll", "poll@2", "deploy[1]"]
    assert [section.is_of("poll", None) for section in sections] == [True, True, False]
    assert [section.is_of("poll@2", 1) for section in sections] == [False, True, False]
    assert [section.is_of("deploy", None) for section in sections] == [False, False, True]
    assert "== poll@2 (attempt 1) ==\nsecond\n" in whole(store, sections)


def test_steps_that_wrote_nothing_are_not_told_of(store: ArtefactStore) -> None:
    events = [running("all"), running("a"), complete("a", "x\n"), complete("all", "")]
    assert whole(store, sections_of(events)) == "== a (attempt 1) ==\nx\n"


def test_a_log_that_is_gone_says_so_in_its_place(store: ArtefactStore) -> None:
    gone = artefact("a#1.log", "1", is_log=True)
    events = [
        running("a"),
        complete("a", "cut", artefacts=[{**gone, "size": 20_000}]),
        running("b"),
        complete("b", "here\n"),
    ]
    text = whole(store, sections_of(events), page=100)
    assert text.startswith("== a (attempt 1) ==\n... this output is not in the artefact folder")
    assert text.endswith("\n== b (attempt 1) ==\nhere\n")


TEXTS = st.text(st.sampled_from("aé€😀\n"), max_size=12)


@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=5), st.integers(4, 40))
def test_the_pages_are_the_whole_however_long_they_are(
    tmp_path_factory: pytest.TempPathFactory, outputs: list[tuple[str, bool]], page: int
) -> None:
    store = ArtefactStore(tmp_path_factory.getbasetemp() / "pages")
    events: list[RunEvent] = []
    expected = ""
    for number, (text, is_kept) in enumerate(outputs):
        name = f"s{number}"
        events.append(running(name))
        if is_kept and text:
            stored = store.put(RUN, io.BytesIO(text.encode()))
            log = {"name": "l", "sha256": stored.sha256, "size": stored.size, "is_log": True}
            events.append(complete(name, "cut", artefacts=[log]))
        else:
            events.append(complete(name, text))
        newline = "" if text.endswith("\n") else "\n"
        expected += f"== {name} (attempt 1) ==\n{text}{newline}" if text else ""
    assert whole(store, sections_of(events), page=page) == expected


def test_a_place_beyond_the_end_is_the_end(store: ArtefactStore) -> None:
    sections = sections_of([running("a"), complete("a", "x")])
    for start in ((0, 10_000), (7, 0), (7, 7)):
        page = log_page(store, RUN, sections, start, 10, is_alone=False)
        assert (page.text, page.is_end) == ("", True)
    assert log_page(store, RUN, [], (0, 0), 10, is_alone=False).is_end
