"""Files of runs go with the runs that the journal forgets, and not before."""

from pathlib import Path

from tests.workflow_backend.attempts import LIMITS
from tests.workflow_backend.journals import OWNER, follow, step, workflow
from workflow_backend.engines.base import RunFilter
from workflow_backend.engines.journal import JournalEngine, JournalSettings
from workflow_backend.engines.journal.retention import Retention
from workflow_backend.run_files import files_of
from workflow_backend.steps import StepExecutor, StepSettings

KEEPS = workflow(step("keep", run='echo "$RUN_ID" > own; echo all > shared', artefacts=["*"]))


def engine_on(data_dir: Path, **retention: float) -> tuple[JournalEngine, StepExecutor]:
    executor = StepExecutor(StepSettings(data_dir, isolation="none", limits=LIMITS))
    keeps = Retention(**retention)  # type: ignore[arg-type]  # runs is whole in every test
    settings = JournalSettings(data_dir, retention=keeps, artefacts=executor.artefacts)
    return JournalEngine(settings, executor), executor


async def test_artefacts_go_with_the_last_run_that_kept_them(tmp_path: Path) -> None:
    engine, executor = engine_on(tmp_path, runs=1)
    async with engine:
        found = {}
        for run_id in ("run-1", "run-2"):
            await engine.start(run_id, KEEPS, {}, OWNER)
            events = await follow(engine, run_id)
            found[run_id] = {file.name: file.sha256 for file in files_of(events)}
        assert found["run-1"]["shared"] == found["run-2"]["shared"]
        await engine.forget_old_runs()
        assert executor.artefacts.run_ids() == ["run-2"]
        kept = {path.name for path in executor.artefacts.folder.glob("sha256/*/*")}
        assert kept == set(found["run-2"].values())
        for digest in kept:
            assert executor.artefacts.read("run-2", digest)


async def test_a_crash_while_runs_are_forgotten_leaves_no_files_behind(
    tmp_path: Path,
) -> None:
    engine, executor = engine_on(tmp_path, runs=10)
    async with engine:
        await engine.start("run-1", KEEPS, {}, OWNER)
        await follow(engine, "run-1")
    # As if it had been killed after the files went and before the run did.
    executor.artefacts.forget("run-1")
    orphan = tmp_path / "artefacts/sha256/ee" / ("e" * 64)
    orphan.parent.mkdir()
    orphan.write_text("of a killed put")
    engine, _ = engine_on(tmp_path, runs=0)
    async with engine:
        await engine.forget_old_runs()
        assert (await engine.list(RunFilter(OWNER))).runs == ()
    assert [path for path in (tmp_path / "artefacts").rglob("*") if path.is_file()] == []
