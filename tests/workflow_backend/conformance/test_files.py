"""Artefacts and whole outputs on both engines, found by the events of the run alone."""

from tests.workflow_backend.conformance.places import Place
from tests.workflow_backend.journals import step, workflow
from workflow_backend.run_files import files_of, log_page, recorded_events, sections_of

LINES = "".join(f"{number}\n" for number in range(1, 5_001))
BUILD = 'mkdir -p out; echo "$ATTEMPT" > out/a.txt; seq 5000; test "$ATTEMPT" = 2'


async def test_files_and_outputs_of_every_attempt_are_found_by_the_events(place: Place) -> None:
    flow = workflow(
        step("build", run=BUILD, artefacts=["out/*"], retry={"limit": 1, "interval": "10ms"}),
        step("report", "build", run="echo compiled"),
        step("each", run='echo "$I" > "$I"', foreach=["x", "y"], env={"I": "${{ item }}"},
             artefacts=["[xy]"], max_parallel=1),
    )  # fmt: skip
    executor = place.executor()
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.follow(engine)
        events = [event async for event in recorded_events(engine, place.id(), place.owner)]
    found = {(file.step, file.name, file.attempt): file for file in files_of(events)}
    assert {key for key in found if key[0] == "build"} == {
        ("build", "build#1.log", 1),
        ("build", "out/a.txt", 2),
        ("build", "build#2.log", 2),
    }
    newest = found[("build", "out/a.txt", 2)]
    assert executor.artefacts.read(place.id(), newest.sha256) == b"2\n"
    assert {key[:2] for key in found if key[0] != "build"} >= {("each[0]", "x"), ("each[1]", "y")}
    wanted = [section for section in sections_of(events) if section.step in {"build", "report"}]
    text, start = "", (0, 0)
    while True:
        page = log_page(executor.artefacts, place.id(), wanted, start, 10_000, is_alone=False)
        text, start = text + page.text, (page.section, page.offset)
        if page.is_end:
            break
    assert text == (
        f"== build (attempt 1) ==\n{LINES}== build failed: exit code 1: 5000 ==\n"
        f"== build (attempt 2) ==\n{LINES}== report (attempt 1) ==\ncompiled\n"
    )
