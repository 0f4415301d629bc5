import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent_server.data_dir import LOCK_NAME, DataDirError, DataDirLock, owner_of

HOLD = """
import sys
from pathlib import Path
from agent_server.data_dir import DataDirLock
lock = DataDirLock.acquire(Path(sys.argv[1]))
lock.announce("http://127.0.0.1:1")
print("held", flush=True)
sys.stdin.read()
"""


def test_nobody_owns_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "none") is None


def test_the_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    with DataDirLock.acquire(tmp_path / "a" / "b"):
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_an_owner_is_found_while_it_lives_and_not_after_it_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        owner = owner_of(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.url) == (holder.pid, "http://127.0.0.1:1")
        with pytest.raises(DataDirError, match=f"pid {holder.pid} at http://127.0.0.1:1"):
            DataDirLock.acquire(tmp_path)
        holder.kill()
        holder.wait(20)
        assert (tmp_path / LOCK_NAME).read_bytes() != b""
        assert owner_of(tmp_path) is None
        DataDirLock.acquire(tmp_path).release()


def test_a_shorter_url_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    with DataDirLock.acquire(tmp_path) as lock:
        lock.announce("http://a.very.long.name.example:8000")
        lock.announce("http://a")
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.url == "http://a"


def test_asking_for_the_owner_keeps_no_server_from_starting(tmp_path: Path) -> None:
    DataDirLock.acquire(tmp_path).release()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            owner_of(tmp_path)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(50):
            DataDirLock.acquire(tmp_path).release()
    finally:
        stop.set()
        asker.join()
