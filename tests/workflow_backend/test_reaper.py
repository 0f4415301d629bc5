"""The reaper: when an engine dies in whatever way, its steps end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.workflow_backend.attempts import PROFILES, has_died, is_alive, pids_with
from workflow_backend import reaper
from workflow_backend.reaper import MARK_VARIABLE, birth_of, kill_group, kill_marked
from workflow_backend.steps.reaper_link import ReaperLink

HOST = """
import asyncio, sys
from pathlib import Path
from tests.workflow_backend.attempts import attempt, opened, run

class Loud:
    async def output(self, text):
        print(text, end="", flush=True)
    def process_started(self, *group):
        pass

async def main(folder, profile, word):
    strays = f"sleep {word} & setsid sleep {word} & (sleep {word} & wait) &"
    script = f"{strays} trap '' TERM; echo up; wait"
    async with opened(Path(folder), profile) as executor:
        await run(executor, attempt(run=script), Loud())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def word() -> str:
    return f"86{uuid4().int % 10**9}"


@pytest.fixture
def marked(word: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that carries a mark."""
    process = subprocess.Popen(
        ["sleep", word], start_new_session=True, env={MARK_VARIABLE: f"mark{word}"}
    )
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("profile", PROFILES)
def test_kill_9_of_the_engine_leaves_no_process_of_a_step(
    tmp_path: Path, profile: str, word: str
) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(tmp_path), profile, word],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == b"up\n"
        started = pids_with(word)
        assert len(started) >= 2
    finally:
        host.kill()
        host.communicate(timeout=20)
    assert all(has_died(pid) for pid in started)
    assert not [pid for pid in pids_with(word) if is_alive(pid) and not has_died(pid)]


def test_the_end_of_the_pipe_kills_groups_and_marked_processes(
    marked: subprocess.Popen[bytes], word: str
) -> None:
    grouped = subprocess.Popen(["sleep", word], start_new_session=True)
    link = ReaperLink()
    link.start()
    link.add(grouped.pid, "some-mark")
    link.add(2**22 - 1, f"mark{word}")
    link.close()
    assert grouped.wait(20) == -signal.SIGKILL
    assert marked.wait(20) == -signal.SIGKILL


def test_an_ended_attempt_loses_what_carries_its_mark_and_its_group_is_forgotten(
    marked: subprocess.Popen[bytes], word: str
) -> None:
    bystander = subprocess.Popen(["sleep", word], start_new_session=True)
    try:
        link = ReaperLink()
        link.start()
        link.add(bystander.pid, f"mark{word}")
        link.remove(bystander.pid, f"mark{word}")
        assert marked.wait(20) == -signal.SIGKILL
        link.close()
        assert is_alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


def test_signals_do_not_end_the_reaper_and_the_pipe_does() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", reaper.__file__], stdin=subprocess.PIPE)
    assert process.stdin is not None
    victim = subprocess.Popen(["sleep", "600"], start_new_session=True)
    process.stdin.write(b"+ %d m\n- 1 m\n+ %d n\n" % (victim.pid, victim.pid))
    process.stdin.flush()
    _wait_until_ignoring(process.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(20) == 0
    assert victim.wait(20) == -signal.SIGKILL


def test_a_reaper_that_died_is_replaced_and_knows_every_group(word: str) -> None:
    first = subprocess.Popen(["sleep", word], start_new_session=True)
    second = subprocess.Popen(["sleep", word], start_new_session=True)
    link = ReaperLink()
    link.start()
    link.add(first.pid, "first")
    assert link.pid is not None
    os.kill(link.pid, signal.SIGKILL)
    assert has_died(link.pid)
    link.add(second.pid, "second")
    assert is_alive(first.pid)
    link.close()
    assert first.wait(20) == -signal.SIGKILL
    assert second.wait(20) == -signal.SIGKILL


def test_a_later_process_with_the_same_id_has_another_birth() -> None:
    first = subprocess.Popen(["sleep", "600"])
    try:
        born = birth_of(first.pid)
        assert born == birth_of(first.pid)
        assert born != birth_of(os.getpid())
    finally:
        first.kill()
        first.wait()
    assert birth_of(first.pid) is None


def test_what_is_not_there_is_no_error() -> None:
    assert kill_group(2**22 - 1) is False
    assert kill_marked(["no such mark"]) == 0
    assert kill_marked([]) == 0


def test_the_reaper_imports_next_to_nothing() -> None:
    script = (
        f"import sys; code = open({reaper.__file__!r}).read(); before = set(sys.modules);"
        " exec(code, {'__name__': 'reaper'}); print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    heavy = {"pathlib", "asyncio", "subprocess", "typing", "re", "json"}
    assert "signal" in ran.stdout.split()
    assert not heavy & set(ran.stdout.split())


def _wait_until_ignoring(pid: int) -> None:
    """Until the process ignores SIGTERM, which it does before it reads its pipe."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(status.split("SigIgn:")[1].split()[0], 16)
        if ignored >> (signal.SIGTERM - 1) & 1:
            return
    pytest.fail("the reaper did not get ready")
