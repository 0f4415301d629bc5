"""Isolation: what a step can see and change, and which profile is chosen."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.workflow_backend.attempts import attempt, needs_bwrap, opened, run
from workflow_backend.steps import IsolationError, StepExecutor
from workflow_backend.steps.isolation import BubblewrapIsolation, LaunchRequest, choose_isolation
from workflow_backend.steps.run_folder import RunFolder
from workflow_backend.steps.sandbox_view import sandbox_view


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[StepExecutor]:
    keys = tmp_path / "keys.yaml"
    keys.write_text("KEY: of-the-server")
    async with opened(tmp_path / "data", "bwrap", hidden_paths=(keys,)) as executor:
        yield executor


@pytest.fixture
def port() -> Iterator[int]:
    """A server on loopback that answers every connection with a line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"reached\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def exists(path: str | Path) -> bool:
    return Path(path).exists()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def output(executor: StepExecutor, script: str, **step: object) -> str:
    return str((await run(executor, attempt(run=script, **step))).outputs["stdout"])


@needs_bwrap
async def test_the_root_is_read_only_and_the_run_folder_is_not(
    sandbox: StepExecutor, tmp_path: Path
) -> None:
    script = (
        "for place in /usr /etc /var / /home /root /run; do"
        " touch $place/mark 2>/dev/null && echo wrote $place; done;"
        " touch $HOME/mark /tmp/mark $TMPDIR/mark && echo own"
    )
    assert await output(sandbox, script) == "own\n"
    assert not exists("/tmp/mark")  # noqa: S108
    assert exists(tmp_path / "data/runs/run-1/work/mark")


@needs_bwrap
async def test_other_peoples_data_is_hidden(sandbox: StepExecutor, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "journal.db").write_text("everybody's runs")
    (data / "runs/run-2/work").mkdir(parents=True)
    (data / "runs/run-2/work/result").write_text("another's")
    script = (
        f"cat {data}/journal.db; cat {data}/runs/run-2/work/result; ls -A {data}/runs; ls -A /home"
        f" /root /run /mnt /srv | grep -v : ; cat {tmp_path}/keys.yaml /etc/shadow; ls {tmp_path}"
    )
    text = await output(sandbox, script.replace(";", " 2>/dev/null || true;"))
    assert "everybody" not in text
    assert "another" not in text
    assert "of-the-server" not in text
    assert "root:" not in text
    assert "run-2" not in text
    assert "run-1" in text


@needs_bwrap
async def test_processes_outside_are_neither_seen_nor_reached(sandbox: StepExecutor) -> None:
    script = f"kill -0 {os.getpid()} 2>/dev/null && echo reached; ls /proc | grep -c '^[0-9]'"
    assert int(await output(sandbox, script)) < 10


@needs_bwrap
async def test_a_step_has_no_capabilities_and_cannot_mount(sandbox: StepExecutor) -> None:
    script = "grep CapEff /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null && echo mounted"
    text = await output(sandbox, script + "; mount -o remount,rw / 2>/dev/null && echo rw; true")
    assert text.split() == ["CapEff:", "0000000000000000"]


@needs_bwrap
async def test_settings_of_the_kernel_cannot_be_written(sandbox: StepExecutor) -> None:
    # Root may write them without any capability; /proc/sys/kernel/core_pattern names a program
    # that the kernel starts outside of every sandbox. What is written is what was there.
    script = (
        "for file in sys/kernel/core_pattern sys/vm/swappiness sys/fs/file-max; do"
        ' { value=$(cat /proc/$file); echo "$value" >/proc/$file && echo wrote $file; } 2>&1;'
        " done | grep wrote || true"
    )
    assert await output(sandbox, script) == ""


@needs_bwrap
async def test_memory_that_looks_like_files_is_bounded(sandbox: StepExecutor) -> None:
    script = "touch /dev/mark 2>/dev/null && echo wrote; df -k --output=size,target /tmp /dev/shm"
    lines = (await output(sandbox, script)).splitlines()
    assert "wrote" not in lines
    assert [line.split()[0] for line in lines[1:]] == ["1048576", "1048576"]


@needs_bwrap
async def test_the_network_is_there_only_if_the_step_declares_it(
    sandbox: StepExecutor, port: int
) -> None:
    script = (
        "import socket\n"
        f"print(socket.create_connection(('127.0.0.1', {port}), 10).recv(99).decode())"
    )
    without = await run(sandbox, attempt(python=script))
    assert "ConnectionRefusedError" in str(without.outputs["stdout"])
    declared = await run(sandbox, attempt(python=script, network=True))
    assert declared.outputs["stdout"] == "reached\n\n"


@needs_bwrap
async def test_an_environment_cannot_act_before_the_sandbox_is_closed(
    sandbox: StepExecutor, tmp_path: Path
) -> None:
    # The dynamic loader would write its trace where LD_DEBUG_OUTPUT says: outside if it acts there.
    outside = tmp_path / "outside" / "trace"
    outside.parent.mkdir()
    spec = attempt(run="echo ran", env={"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(outside)})
    assert str((await run(sandbox, spec)).outputs["stdout"]).endswith("ran\n")
    assert names_in(outside.parent) == []


@needs_bwrap
async def test_nothing_of_a_step_shows_in_the_process_list(sandbox: StepExecutor) -> None:
    script = "cat /proc/1/cmdline | tr '\\0' ' '; echo $VALUE"
    spec = attempt(run=script, env={"VALUE": "visible-to-the-step"})
    text = str((await run(sandbox, spec)).outputs["stdout"])
    assert text.count("visible-to-the-step") == 1


@needs_bwrap
async def test_a_replaced_output_file_is_not_followed(sandbox: StepExecutor) -> None:
    result = await run(
        sandbox, attempt(run="rm -f $OUTPUT 2>/dev/null; ln -sf /etc/hostname $OUTPUT; true")
    )
    assert result.outputs == {"stdout": result.outputs["stdout"]}


async def test_a_linked_output_file_is_refused_without_isolation(tmp_path: Path) -> None:
    async with opened(tmp_path) as executor:
        result = await run(executor, attempt(run="ln -sf /etc/hostname $OUTPUT"))
    assert result.status == "failed"
    assert "$OUTPUT cannot be read" in (result.error or "")


@needs_bwrap
async def test_auto_takes_bwrap_where_it_works(tmp_path: Path) -> None:
    assert (await choose_isolation("auto", tmp_path)).name == "bwrap"
    assert (await choose_isolation("none", tmp_path, require_explicit_none=True)).name == "none"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, "not installed"),
        ("#!/bin/sh\necho 'bwrap: No permissions to create namespace' >&2; exit 1", "permissions"),
        ("#!/nowhere/sh\n", "cannot be started"),
    ],
)
async def test_a_bwrap_that_does_not_work_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, reason: str
) -> None:
    if program is not None:
        (tmp_path / "bwrap").write_text(program)
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IsolationError, match=reason):
        await choose_isolation("bwrap", tmp_path)
    with pytest.raises(IsolationError, match=f"{reason}.*says `none`"):
        await choose_isolation("auto", tmp_path, require_explicit_none=True)
    assert (await choose_isolation("auto", tmp_path)).name == "none"


@needs_bwrap
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_bwrap_works_for_a_user_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    # The test's own interpreter may lie where that user cannot go.
    monkeypatch.setattr(sys, "prefix", "/usr")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "runs/run-1")
        folder.path.parent.mkdir()
        files = folder.begin("step", 1)
        for path in [Path(name), *Path(name).rglob("*")]:
            os.chown(path, 65534, 65534)
        script = ["/bin/sh", "-c", "id -u; echo x > file; ls; ls -A /root /home | grep -v :"]
        request = LaunchRequest(script, {"PATH": "/bin"}, folder.work, folder, files, network=False)
        hidden = [Path("/keys-of-the-server.yaml"), Path("/etc/keys-of-the-server.yaml")]
        launch = BubblewrapIsolation(Path(name), hidden).launch(request)
        ran = subprocess.run(
            launch.argv, env=dict(launch.env), cwd=launch.cwd, pass_fds=launch.pass_fds,
            user=65534, group=65534, extra_groups=[],
            check=False, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        launch.close()
    assert ran.stdout.split() == ["65534", "file"], ran.stderr


@needs_bwrap
def test_the_interpreter_of_python_steps_stays_visible(tmp_path: Path) -> None:
    options, _ = sandbox_view(tmp_path, ())
    for prefix in {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}:
        covered = any(
            option == "--tmpfs" and prefix.is_relative_to(options[index + 1])
            for index, option in enumerate(options)
        )
        assert not covered or str(prefix) in options
