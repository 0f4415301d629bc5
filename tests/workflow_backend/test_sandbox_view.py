"""Files of the server that no step reads: hidden by name, whatever becomes of them meanwhile."""

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow_backend.attempts import Watch, attempt, needs_bwrap, opened, run
from workflow_backend.steps import sandbox_view

ROOT = Path(__file__).parents[2]
BOUND_SECONDS = 20
# Below /tmp everything is hidden anyway.
pytestmark = [
    needs_bwrap,
    pytest.mark.skipif(ROOT.is_relative_to("/tmp"), reason="the repository is below /tmp"),  # noqa: S108
]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that steps see."""
    hidden = [folder for folder in sandbox_view._HIDDEN_FOLDERS if not ROOT.is_relative_to(folder)]
    monkeypatch.setattr(sandbox_view, "_HIDDEN_FOLDERS", tuple(hidden))
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".shown-") as name:
        yield Path(name)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def seen(tmp_path: Path, script: str, *hidden: Path) -> str:
    """What a step prints; its errors are left out."""
    async with opened(tmp_path, "bwrap", hidden_paths=hidden) as executor:
        result = await run(executor, attempt(run=f"set +e; {{ {script}; }} 2>/dev/null; true"))
    assert result.status == "success", result
    return str(result.outputs["stdout"])


@contextlib.asynccontextmanager
async def halted(tmp_path: Path, script: str, *hidden: Path) -> AsyncIterator[Callable[[], str]]:
    """A step that has started and runs the script at the end; what it printed is there then."""
    watch, gate = Watch(), tmp_path / "runs/run-1/work/gate"
    printed: list[str] = []
    spec = attempt(
        run=f"set +e; mkfifo gate; echo ready; read -r line <gate; {{ {script}; }} 2>&1; true"
    )
    async with opened(tmp_path, "bwrap", hidden_paths=hidden) as executor:
        running = asyncio.create_task(run(executor, spec, watch))
        await watch.line("ready")
        yield lambda: printed[0]
        await asyncio.to_thread(gate.write_text, "go\n")
        async with asyncio.timeout(BOUND_SECONDS):
            printed.append(str((await running).outputs["stdout"]))


async def test_a_file_is_hidden_and_what_lies_beside_it_is_not(tmp_path: Path, shown: Path) -> None:
    (shown / "keys.yaml").write_text("KEY: of-the-server")
    (shown / "tool").write_text("a-tool\n")
    (shown / "folder").mkdir()
    (shown / "folder/inner").write_text("inside\n")
    (shown / "link").symlink_to("tool")
    script = f"cd {shown}; ls -A; cat *; cat folder/inner; touch new folder/new && echo wrote"
    text = await seen(tmp_path, script, shown / "keys.yaml")
    assert text.split() == ["folder", "link", "tool", "a-tool", "a-tool", "inside"]


async def test_a_file_that_is_replaced_or_made_while_a_step_runs_stays_hidden(
    tmp_path: Path, shown: Path
) -> None:
    replaced, made, below = shown / "a.yaml", shown / "b.yaml", shown / "later/c.yaml"
    replaced.write_text("KEY: old-of-the-server")
    script = f"cat {replaced} {made} {below}; ls -A {shown}"
    async with halted(tmp_path, script, replaced, made, below) as printed:
        (shown / "new").write_text("KEY: new-of-the-server")
        (shown / "new").rename(replaced)
        made.write_text("KEY: of-the-server")
        below.parent.mkdir()
        below.write_text("KEY: of-the-server")
    assert "of-the-server" not in printed()
    assert ".yaml\n" not in printed().replace(f"{shown}/", "")


async def test_a_folder_is_hidden_with_all_in_it_and_stays_so_when_another_takes_its_name(
    tmp_path: Path, shown: Path
) -> None:
    folder = shown / "files"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/beside").write_text("of-the-server")
    script = f"ls -AR {shown}; cat {shown}/*/inner/*"
    async with halted(tmp_path, script, folder, folder / "inner/keys.yaml") as printed:
        folder.rename(shown / "old")
        (folder / "inner").mkdir(parents=True)
        (folder / "inner/beside").write_text("of-the-server")
    assert "of-the-server" not in printed()
    assert "files" not in printed()
    assert "old" not in printed()


async def test_a_link_is_hidden_with_what_it_leads_to_now_and_later(
    tmp_path: Path, shown: Path
) -> None:
    # As Kubernetes keeps the files of a ConfigMap, and puts new ones in their place.
    for name in ("one", "two"):
        (shown / name).mkdir()
        (shown / name / "keys.yaml").write_text(f"KEY: {name}-of-the-server")
    (shown / "two").rename(tmp_path / "two")
    (shown / "now").symlink_to("one")
    (shown / "keys.yaml").symlink_to("now/keys.yaml")
    script = f"cat {shown}/keys.yaml {shown}/*/keys.yaml; ls {shown}"
    async with halted(tmp_path, script, shown / "keys.yaml") as printed:
        (shown / "two").mkdir()
        (shown / "two/keys.yaml").write_text("KEY: two-of-the-server")
        (shown / "next").symlink_to("two")
        (shown / "next").rename(shown / "now")
    assert "of-the-server" not in printed()
    assert printed().split()[-2:] == ["now", "one"]


async def test_a_database_is_hidden_with_the_files_that_come_and_go_beside_it(
    tmp_path: Path, shown: Path
) -> None:
    store = shown / "store.db"
    hidden = [store, *(shown / f"store.db-{end}" for end in ("wal", "shm", "journal"))]
    script = f"ls -A {shown}; cat {shown}/*"

    def use() -> None:
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS texts (text)")
            connection.execute("INSERT INTO texts VALUES ('of-the-server')")
            connection.commit()

    use()
    with contextlib.closing(sqlite3.connect(store)) as first:
        first.execute("SELECT * FROM texts").fetchall()
        assert names_in(shown) != ["store.db"]
        async with halted(tmp_path, script, *hidden) as printed:
            # The last connection takes the files away; the next one makes new ones.
            first.close()
            assert names_in(shown) == ["store.db"]
            second = sqlite3.connect(store)
            second.execute("INSERT INTO texts VALUES ('of-the-server')")
            second.commit()
            assert "of-the-server" in (shown / "store.db-wal").read_bytes().decode("latin-1")
    second.close()
    assert "of-the-server" not in printed()
    assert "store.db-" not in printed()


async def test_a_folder_of_very_many_files_is_hidden_as_a_whole(
    tmp_path: Path, shown: Path
) -> None:
    for number in range(sandbox_view.MAX_NEIGHBOURS + 1):
        (shown / f"file-{number}").touch()
    assert await seen(tmp_path, f"ls -A {shown}; echo ok", shown / "keys.yaml") == "ok\n"


async def test_a_file_beside_the_folders_of_the_system_is_hidden_and_they_are_not(
    tmp_path: Path,
) -> None:
    expected = names_in(Path("/"))
    script = "ls -A /; touch /mark && echo wrote"
    text = await seen(tmp_path, script, Path("/keys-of-the-server.yaml"))
    assert sorted(text.split()) == expected
    assert "mark" not in names_in(Path("/"))
