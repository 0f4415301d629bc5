"""The files that a step names are kept, whatever a hostile step makes of its folder."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from tests.workflow_backend.attempts import PROFILES, Watch, attempt, opened, run
from workflow_backend.artefacts import ArtefactLimits, ArtefactStore, Spool
from workflow_backend.engines.base import AttemptResult
from workflow_backend.steps import StepExecutor, artefact_files


def kept(executor: StepExecutor, result: AttemptResult) -> dict[str, bytes]:
    """The content of each artefact by its name, as the store has it."""
    found = {
        artefact.name: executor.artefacts.read("run-1", artefact.sha256)
        for artefact in result.artefacts
    }
    assert [len(found[each.name]) for each in result.artefacts] == [
        each.size for each in result.artefacts
    ]
    return found


async def collect(
    folder: Path, script: str, *patterns: str, isolation: str = "none"
) -> tuple[dict[str, bytes], str, AttemptResult]:
    """What a step of this script leaves under these patterns, and what was said about it."""
    watch = Watch()
    async with opened(folder, isolation) as executor:
        result = await run(executor, attempt(run=script, artefacts=list(patterns)), watch)
        return kept(executor, result), "".join(watch.texts), result


@pytest.mark.parametrize("isolation", PROFILES)
async def test_files_of_a_step_are_kept_by_their_names(tmp_path: Path, isolation: str) -> None:
    script = """
        mkdir -p logs/deep reports
        echo a > logs/a.txt; echo b > logs/deep/b.txt; echo c > logs/c.dat
        echo r > reports/index.html; echo h > .hidden; echo x > reports/.secret
    """
    found, said, result = await collect(
        tmp_path, script, "logs/**/*.txt", "reports", isolation=isolation
    )
    assert found == {
        "logs/a.txt": b"a\n",
        "logs/deep/b.txt": b"b\n",
        "reports/index.html": b"r\n",
    }
    assert (result.status, said) == ("success", "")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["a.txt", "deep/er/c.txt", "deep/b.txt"]),
        ("**", ["a.txt", "deep/er/c.txt", "deep/b.txt"]),
        ("**/*", ["a.txt", "deep/er/c.txt", "deep/b.txt"]),
        ("**/**/*.txt", ["a.txt", "deep/er/c.txt", "deep/b.txt"]),
        ("*.txt", ["a.txt"]),
        ("?.txt", ["a.txt"]),
        ("[ab].txt", ["a.txt"]),
        ("[!a].txt", []),
        ("deep/*", ["deep/b.txt", "deep/er/c.txt"]),
        ("*/b.txt", ["deep/b.txt"]),
        ("./deep//er/", ["deep/er/c.txt"]),
        ("**/er", ["deep/er/c.txt"]),
        ("deep/**", ["deep/b.txt", "deep/er/c.txt"]),
        (".*", [".dot"]),
        (".dot", [".dot"]),
        ("a.txt/b", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_pattern_is_read_as_a_shell_does(
    tmp_path: Path, pattern: str, names: list[str]
) -> None:
    script = "mkdir -p deep/er; for f in a.txt deep/b.txt deep/er/c.txt .dot; do echo x > $f; done"
    found, said, _ = await collect(tmp_path, script, pattern)
    assert sorted(found) == sorted(names)
    assert ("nothing matches" in said) == (not names)


async def test_a_failed_attempt_leaves_its_files_too(tmp_path: Path) -> None:
    found, _, result = await collect(tmp_path, "echo half > report; exit 3", "report")
    assert found == {"report": b"half\n"}
    assert (result.status, result.exit_code) == ("failed", 3)


async def test_nothing_that_matches_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    found, said, result = await collect(tmp_path, "echo hello", "*.html")
    assert (found, result.status) == ({}, "success")
    assert said == "hello\nwarning: nothing matches '*.html'\n"
    assert result.outputs["stdout"] == "hello\n"


async def test_no_link_is_followed_and_only_plain_files_are_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not yours")
    script = f"""
        ln -s {outside}/secret link
        ln -s {outside} folder
        mkdir inner; ln -s /etc inner/etc; echo ok > inner/fine
        mkfifo fifo
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        echo mine > file; ln -s file alias
    """
    patterns = ("link", "folder/secret", "folder", "**/passwd", "inner", "fifo", "socket", "alias")
    found, said, result = await collect(tmp_path / "data", script, *patterns, "file")
    assert found == {"inner/fine": b"ok\n", "file": b"mine\n"}
    assert result.status == "success"
    for name in ("link", "folder", "inner/etc", "fifo", "socket", "alias"):
        assert f"warning: '{name}' is not kept: it is no plain file\n" in said
    assert "warning: nothing matches 'folder/secret'\n" in said


async def test_folders_that_another_step_swaps_for_links_meanwhile_leak_nothing(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("not yours")
    swap = f"""
import os
os.makedirs("real", exist_ok=True)
open("real/file", "w").write("mine")
os.symlink({str(outside)!r}, "trap")
print("swapping", flush=True)
while True:
    os.rename("real", "at"); os.rename("at", "real")
    os.rename("trap", "at"); os.rename("at", "trap")
"""
    async with opened(tmp_path / "data") as executor:
        watch = Watch()
        swapping = asyncio.create_task(run(executor, attempt(python=swap, name="swap"), watch))
        await watch.line("swapping")
        seen: set[bytes] = set()
        for number in range(150):
            spec = attempt(run=":", artefacts=["at/file", "*/file"], number=number + 1)
            seen |= set(kept(executor, await run(executor, spec)).values())
        swapping.cancel()
        await swapping
    assert seen <= {b"mine"}


async def test_a_file_that_becomes_a_link_once_it_was_looked_at_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("not yours")
    look = os.stat

    def look_then_swap(name: str, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        found = look(name, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(tmp_path / "secret", name, dir_fd=dir_fd)
        return found

    async with opened(tmp_path / "data") as executor:
        monkeypatch.setattr(
            artefact_files, "os", SimpleNamespace(**{**vars(os), "stat": look_then_swap})
        )
        result = await run(executor, attempt(run="echo mine > f", artefacts=["*"]))
    assert (result.status, result.artefacts) == ("success", ())


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../run-2/work/x", "a/../../x", "", "."])
async def test_a_pattern_that_leads_out_fails_the_step(tmp_path: Path, pattern: str) -> None:
    _, _, result = await collect(tmp_path, ":", pattern)
    assert result.status == "failed"
    assert "is no path below the run's folder" in str(result.error)


async def test_too_many_files_fail_the_step_and_the_first_ones_are_kept(tmp_path: Path) -> None:
    found, _, result = await collect(tmp_path, "for i in $(seq 201); do echo $i > $i; done", "*")
    assert len(found) == artefact_files.MAX_FILES == 200
    assert result.status == "failed"
    assert "over 200 files" in str(result.error)


async def test_the_error_of_the_step_itself_stays(tmp_path: Path) -> None:
    _, _, result = await collect(tmp_path, "echo why; exit 3", "/etc")
    assert str(result.error).startswith("exit code 3: why; artefacts: ")


async def test_a_tree_without_end_is_not_walked_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefact_files, "MAX_ENTRIES", 50)
    _, _, wide = await collect(tmp_path / "wide", "touch $(seq 60)", "x/**", "*.log")
    assert wide.status == "failed"
    assert "over 50 files and folders" in str(wide.error)
    monkeypatch.undo()
    deep = "for i in $(seq 70); do mkdir d; cd d; done; touch bottom"
    _, _, result = await collect(tmp_path / "deep", deep, "**")
    assert result.status == "failed"
    assert "more than 64 deep" in str(result.error)


async def test_a_name_that_no_event_can_carry_is_not_kept(tmp_path: Path) -> None:
    script = r"""touch "$(printf 'new\nline')" "$(printf 'bad\377utf')" good"""
    found, said, result = await collect(tmp_path, script, "*")
    assert list(found) == ["good"]
    assert result.status == "success"
    assert said.count("rename it") == 2


async def test_a_file_that_is_too_long_fails_the_step_before_it_is_read_whole(
    tmp_path: Path,
) -> None:
    limits = ArtefactLimits(artefact_bytes=1_000_000)
    async with opened(tmp_path, artefact_limits=limits) as executor:
        # A hole of a terabyte is no longer on the disk than an empty file.
        spec = attempt(run="truncate -s 1T hole || truncate -s 2G hole", artefacts=["hole"])
        result = await run(executor, spec)
    assert result.status == "failed"
    assert result.error == (
        "artefacts: 'hole' was not kept: it is over 1000000 bytes (AGENT_SERVER_ARTEFACT_BYTES)"
    )


async def test_a_secret_in_the_name_of_a_file_is_masked(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("TOKEN: hunter2-hunter2\n")
    secrets.chmod(0o600)
    from workflow_backend.secrets import load_secrets  # noqa: PLC0415

    async with opened(tmp_path / "data", secrets=load_secrets(secrets)) as executor:
        env = {"TOKEN": "${{ secrets.TOKEN }}"}
        spec = attempt(run='echo x > "$TOKEN"', env=env, secrets=("TOKEN",), artefacts=["*"])
        result = await run(executor, spec)
    assert [artefact.name for artefact in result.artefacts] == ["***"]


async def test_a_cancel_ends_the_keeping_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as executor:
        loop, is_keeping, spool = asyncio.get_running_loop(), asyncio.Event(), ArtefactStore.spool

        def begin(store: ArtefactStore) -> Spool:
            loop.call_soon_threadsafe(is_keeping.set)
            return spool(store)

        monkeypatch.setattr(ArtefactStore, "spool", begin)
        spec = attempt(run="truncate -s 200M big", artefacts=["big"])
        running = asyncio.create_task(run(executor, spec))
        await asyncio.wait_for(is_keeping.wait(), 20)
        running.cancel("enough")
        result = await running
        assert (result.status, result.error) == ("cancelled", "cancelled: enough")
        assert result.artefacts == ()
        assert not [path for path in executor.artefacts.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("isolation", PROFILES)
async def test_the_store_is_out_of_the_reach_of_isolated_steps(
    tmp_path: Path, isolation: str
) -> None:
    # Every other place for temporary files is hidden in any case.
    with TemporaryDirectory(dir=Path(__file__).parent) as folder:
        store = Path(folder) / "store"
        async with opened(tmp_path / "data", isolation, artefacts_dir=store) as executor:
            spec = attempt(run="echo x > f", artefacts=["f"])
            (artefact,) = (await run(executor, spec)).artefacts
            result = await run(executor, attempt(run=f"find {folder} -type f 2>/dev/null | wc -l"))
            assert executor.artefacts.read("run-1", artefact.sha256) == b"x\n"
    assert str(result.outputs["stdout"]).strip() == ("0" if isolation == "bwrap" else "2")


ON_A_SMALL_DISK = """
import asyncio, json, sys
from pathlib import Path
from tests.workflow_backend.attempts import Watch, attempt, opened, run

async def main():
    watch, found = Watch(), {}
    async with opened(Path(sys.argv[1]), artefacts_dir=Path("/mnt/store")) as executor:
        big = attempt(run="head -c 3000000 /dev/zero > big", artefacts=["big"])
        found["artefact"] = await run(executor, big)
        log = attempt(run="yes | head -c 3000000", number=2)
        found["log"] = await run(executor, log, watch)
        small = attempt(run="echo fits > small", artefacts=["small"], number=3)
        found["small"] = await run(executor, small)
    print(json.dumps({name: [each.status, each.error, len(each.artefacts)]
                      for name, each in found.items()}))
    print(json.dumps("".join(watch.texts)[-200:]))

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_full_disk_fails_what_wants_files_and_nothing_else(tmp_path: Path) -> None:
    mounted = "mount -t tmpfs -o size=1M none /mnt && exec "
    command = ["unshare", "-rm", "sh", "-c", mounted + '"$@"', "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    python = [sys.executable, "-W", "error", "-c", ON_A_SMALL_DISK, str(tmp_path)]
    ran = subprocess.run(
        [*command, *python],
        check=True,
        capture_output=True,
        text=True,
        timeout=25,
        cwd=Path.cwd(),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    )
    results, said = map(json.loads, ran.stdout.splitlines())
    full = "artefacts: 'big' was not kept: No space left on device"
    assert results == {
        "artefact": ["failed", full, 0],
        "log": ["success", None, 0],
        "small": ["success", None, 1],
    }
    assert said.endswith("warning: the whole output was not kept: No space left on device\n")
