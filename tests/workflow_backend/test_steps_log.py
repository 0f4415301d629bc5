"""The whole output of an attempt, kept when no event holds it whole."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import Scripted, scripted
from tests.workflow_backend.attempts import Watch, attempt, opened, run
from workflow_backend.artefacts import ArtefactStore
from workflow_backend.engines.base import AttemptResult
from workflow_backend.events import WHOLE_OUTPUT_CHARACTERS, step_ended
from workflow_backend.secrets import load_secrets
from workflow_backend.steps import StepExecutor, StepLimits
from workflow_backend.steps.capture import HeadAndTail
from workflow_backend.steps.step_log import StepLog


def log_of(executor: StepExecutor, result: AttemptResult) -> str | None:
    """The text of the attempt's log, if it has one."""
    for artefact in result.artefacts:
        if artefact.is_log:
            return executor.artefacts.read("run-1", artefact.sha256).decode()
    return None


@pytest.mark.parametrize("characters", [WHOLE_OUTPUT_CHARACTERS, WHOLE_OUTPUT_CHARACTERS + 1])
async def test_an_output_is_whole_in_the_event_or_in_a_log(tmp_path: Path, characters: int) -> None:
    spec = attempt(run=f"head -c {characters} /dev/zero | tr '\\0' x", name="say", number=2)
    async with opened(tmp_path) as executor:
        result = await run(executor, spec)
        log = log_of(executor, result)
    event = step_ended(spec, result)
    if characters > WHOLE_OUTPUT_CHARACTERS:
        assert log == "x" * characters
        assert "left out" in str(event["output"])
        (named,) = event["artefacts"]  # type: ignore[misc]  # a list
        assert named == {
            "name": "say#2.log", "size": characters, "sha256": named["sha256"], "is_log": True
        }  # fmt: skip
    else:
        assert (log, event["output"]) == (None, "x" * characters)
        assert executor.artefacts.run_ids() == []


async def test_an_attempt_that_does_not_succeed_keeps_its_log(tmp_path: Path) -> None:
    numbers = "".join(f"{number}\n" for number in range(1, 10_000))
    script = "seq 9999; echo begun; sleep 60"
    async with opened(tmp_path) as executor:
        failed = await run(executor, attempt(run="seq 9999; exit 3"))
        late = await run(executor, attempt(run=script, timeout=1.0))
        watch = Watch()
        running = asyncio.create_task(run(executor, attempt(run=script), watch))
        await watch.line("begun")
        running.cancel("enough")
        cancelled = await running
        assert (failed.status, late.status) == ("failed", "timed_out")
        assert (cancelled.status, cancelled.error) == ("cancelled", "cancelled: enough")
        assert log_of(executor, failed) == numbers
        assert log_of(executor, late) == log_of(executor, cancelled) == numbers + "begun\n"


async def test_a_log_is_masked(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("TOKEN: hunter2-hunter2\n")
    secrets.chmod(0o600)
    async with opened(tmp_path / "data", secrets=load_secrets(secrets)) as executor:
        script = 'for i in $(seq 2000); do echo "$i $TOKEN"; done'
        env = {"TOKEN": "${{ secrets.TOKEN }}"}
        result = await run(executor, attempt(run=script, env=env, secrets=("TOKEN",)))
        log = log_of(executor, result)
    assert log == "".join(f"{number} ***\n" for number in range(1, 2_001))


async def test_a_log_is_bounded_and_says_what_is_missing(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=StepLimits(log_bytes=20_000)) as executor:
        result = await run(executor, attempt(run="yes é | head -c 90000"))
        log = log_of(executor, result)
    assert log is not None
    head, _, notice = log.partition("\n... ")
    # `é` and the end of its line are three bytes.
    assert head == "é\n" * 6_666 + "é"
    assert notice == (
        f"{90_000 - len(head.encode())} bytes more were not kept: a log has 20000 at most"
        " (AGENT_SERVER_STEP_LOG_BYTES) ...\n"
    )


async def test_a_long_body_of_an_http_step_is_kept_too(tmp_path: Path) -> None:
    body = "".join(f"{number}\n" for number in range(5_000))
    async with (
        scripted(Scripted(200, (body.encode(),))) as server,
        opened(tmp_path, allowed_hosts=("127.0.0.1",)) as executor,
    ):
        result = await run(executor, attempt(http={"url": server.url}))
        assert log_of(executor, result) == body


@given(st.lists(st.text(max_size=20), max_size=30), st.integers(2, 60), st.integers(0, 200))
def test_a_log_is_the_text_up_to_its_bound_however_the_text_comes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], whole: int, max_bytes: int
) -> None:
    store = ArtefactStore(tmp_path_factory.getbasetemp() / "logs")
    log, kept, text = StepLog(store, whole, max_bytes), HeadAndTail(whole), "".join(parts)
    for part in parts:
        log.add(part, kept)
        kept.add(part)
    stored = log.keep("run-1")
    data = text.encode("utf-8", "replace")
    if len(text) <= whole:
        assert stored is None
        return
    assert stored is not None
    written = store.read("run-1", stored.sha256)
    if len(data) <= max_bytes:
        assert written == data
    else:
        head, _, notice = written.rpartition(b"\n... ")
        assert data.startswith(head)
        assert max_bytes - 3 <= len(head) <= max_bytes
        assert notice.startswith(b"%d bytes more" % (len(data) - len(head)))


MEASURED = """
import asyncio, json, re, sys
from pathlib import Path
from tests.workflow_backend.attempts import attempt, opened, run
from workflow_backend.steps import StepLimits

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

async def main():
    async with opened(Path(sys.argv[1]), limits=StepLimits(log_bytes=200_000_000)) as executor:
        await run(executor, attempt(run="seq 10000", number=1))
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        result = await run(executor, attempt(run="yes 0123456789 | head -c 100000000", number=2))
    (log,) = result.artefacts
    print(json.dumps([result.status, log.size, peak() - before, result.duration_seconds]))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_step_that_writes_100_mb_has_a_whole_log_and_the_server_stays_small(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", MEASURED, str(tmp_path)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=28)
    status, size, grown_mib, _ = json.loads(ran.stdout)
    assert (status, size) == ("success", 100_000_000)
    assert grown_mib < 16
