"""The artefact store: whole, bounded, shared, and gone with the last run."""

import hashlib
import io
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_backend import artefacts
from workflow_backend.artefacts import (
    ArtefactError,
    ArtefactLimits,
    ArtefactMissingError,
    ArtefactStore,
)

TEXT = b"a report\n" * 1_000
DIGEST = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "artefacts", ArtefactLimits(100_000, 150_000))


def contents(store: ArtefactStore) -> list[Path]:
    return [path for path in store.folder.glob("sha256/*/*") if path.is_file()]


def files(store: ArtefactStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


def test_a_content_comes_back_whole_and_in_parts(store: ArtefactStore) -> None:
    stored = store.put("run-1", io.BytesIO(TEXT))
    assert (stored.sha256, stored.size) == (DIGEST, len(TEXT))
    assert store.read("run-1", DIGEST) == TEXT
    assert store.read("run-1", DIGEST, 3, 5) == TEXT[3:8]
    assert store.read("run-1", DIGEST, len(TEXT) + 5, 5) == b""
    assert store.size("run-1", DIGEST) == len(TEXT)
    assert contents(store) == [store.folder / "sha256" / DIGEST[:2] / DIGEST]


def test_the_same_content_is_on_the_disk_once(store: ArtefactStore) -> None:
    for run in ("run-1", "run-1", "run-2"):
        store.put(run, io.BytesIO(TEXT))
    assert len({path.stat().st_ino for path in files(store)}) == 1


def test_a_run_reads_only_what_it_kept(store: ArtefactStore) -> None:
    store.put("run-1", io.BytesIO(TEXT))
    for run, digest in (("run-2", DIGEST), ("run-1", "0" * 64), ("../runs/run-1", DIGEST)):
        with pytest.raises(ArtefactMissingError):
            store.read(run, digest)
    with pytest.raises(ArtefactMissingError):
        store.read("run-1", "../../../../etc/passwd")


def test_a_content_goes_with_the_last_run_that_has_it(store: ArtefactStore) -> None:
    for run in ("run-1", "run-2"):
        store.put(run, io.BytesIO(TEXT))
    store.forget("run-1")
    assert store.run_ids() == ["run-2"]
    assert store.read("run-2", DIGEST) == TEXT
    assert contents(store)
    store.forget("run-2")
    store.forget("run-2")
    assert files(store) == []


def test_everything_is_for_the_owner_alone(store: ArtefactStore) -> None:
    store.put("run-1", io.BytesIO(TEXT))
    for path in (store.folder, *store.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_one_file_and_all_of_a_run_are_bounded(store: ArtefactStore) -> None:
    with pytest.raises(ArtefactError, match="over 100000 bytes"):
        store.put("run-1", io.BytesIO(b"x" * 100_001))
    store.put("run-1", io.BytesIO(b"x" * 100_000))
    with pytest.raises(ArtefactError, match="the run has kept 100000 bytes"):
        store.put("run-1", io.BytesIO(b"y" * 50_001))
    store.put("run-1", io.BytesIO(b"y" * 50_000))
    # What it has is no further byte, and another run has its own.
    store.put("run-1", io.BytesIO(b"y" * 50_000))
    store.put("run-2", io.BytesIO(b"y" * 50_001))
    assert not list(store.folder.glob("tmp/*"))


def test_a_put_that_is_stopped_leaves_nothing(store: ArtefactStore) -> None:
    with pytest.raises(ArtefactError, match="stopped"):
        store.put("run-1", io.BytesIO(TEXT), lambda: True)
    assert files(store) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_said_and_leaves_nothing(
    store: ArtefactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        artefacts.tempfile,
        "mkstemp",
        lambda dir: (os.open("/dev/full", os.O_WRONLY), str(dir / "spool")),
    )
    with pytest.raises(ArtefactError, match="No space left on device"):
        store.put("run-1", io.BytesIO(TEXT * 10))
    assert files(store) == []


def test_without_hard_links_each_run_has_its_own_copy(
    store: ArtefactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for run in ("run-1", "run-2"):
        assert store.put(run, io.BytesIO(TEXT)).sha256 == DIGEST
    store.forget("run-1")
    assert store.read("run-2", DIGEST) == TEXT
    assert len(files(store)) == 1


def test_a_content_that_a_crash_of_the_machine_cut_is_written_again(store: ArtefactStore) -> None:
    store.put("run-1", io.BytesIO(TEXT))
    contents(store)[0].write_bytes(b"")
    store.put("run-2", io.BytesIO(TEXT))
    assert store.read("run-2", DIGEST) == TEXT


KILLED = """
import io, os, signal, sys
from pathlib import Path
from workflow_backend.artefacts import ArtefactStore
store = ArtefactStore(Path(sys.argv[1]))
spool = store.spool()
spool.write(b"half of it")
spool._file.flush()
print("spooled", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(
    store: ArtefactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "SPOOL_GRACE_SECONDS", -1)
    store.put("run-1", io.BytesIO(TEXT))
    orphan = contents(store)[0].with_name("e" * 64)
    orphan.write_bytes(b"of no run")
    command = [sys.executable, "-c", KILLED, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"spooled\n"
        assert store.sweep() == 1
        assert not orphan.exists()
        assert len(list(store.folder.glob("tmp/*"))) == 1
        writer.kill()
        writer.wait()
        assert store.sweep() == 1
    assert list(store.folder.glob("tmp/*")) == []
    assert store.read("run-1", DIGEST) == TEXT


def put_and_forget(folder: Path, name: str, rounds: int) -> None:
    store = ArtefactStore(folder)
    for number in range(rounds):
        run = f"{name}-{number}"
        store.put(run, io.BytesIO(TEXT))
        assert store.read(run, DIGEST) == TEXT
        store.sweep()
        store.forget(run)


def test_processes_that_put_forget_and_sweep_the_same_content_lose_nothing(
    store: ArtefactStore,
) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = [(store.folder, f"run-{number}", 100) for number in range(3)]
    workers = [context.Process(target=put_and_forget, args=args) for args in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(25)
        assert worker.exitcode == 0
    assert files(store) == []
