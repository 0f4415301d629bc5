"""`run` and `python` steps as real processes, under each isolation profile."""

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.workflow_backend.attempts import (
    LIMITS,
    PROFILES,
    Watch,
    attempt,
    has_died,
    is_alive,
    opened,
    pids_with,
    run,
)
from workflow_backend.secrets import Secrets
from workflow_backend.steps import StepExecutor, StepLimits
from workflow_backend.steps.reaper_link import ReaperLink

SECRETS = Secrets(
    {"TOKEN": "hunter2-is-long", "LONG": "LongSecret" * 9, "OTHER": "never-referenced"}
)
FLOOD_BYTES = 5_000_000


@pytest.fixture(params=PROFILES)
async def executor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StepExecutor]:
    async with opened(tmp_path / "data", request.param, secrets=SECRETS) as executor:
        assert executor.isolation == request.param
        yield executor


@pytest.fixture
def core_files() -> Iterator[None]:
    """Core files allowed to this process, as far as they can be."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


async def test_output_of_both_streams_is_kept_in_order(executor: StepExecutor) -> None:
    result = await run(executor, attempt(run="echo one; echo two >&2; echo three"))
    assert (result.status, result.exit_code, result.error) == ("success", 0, None)
    assert result.outputs == {"stdout": "one\ntwo\nthree\n"}
    assert result.duration_seconds > 0


async def test_a_failure_tells_code_and_last_line(executor: StepExecutor) -> None:
    result = await run(executor, attempt(run="echo working; echo no such disk >&2; exit 3"))
    assert (result.status, result.exit_code) == ("failed", 3)
    assert result.error == "exit code 3: no such disk"


async def test_a_shell_step_ends_with_the_first_command_that_fails(executor: StepExecutor) -> None:
    result = await run(executor, attempt(run="false\necho unreached"))
    assert (result.exit_code, result.outputs["stdout"]) == (1, "")
    piped = await run(executor, attempt(run="false | cat\necho unreached", shell="bash"))  # noqa: S604
    assert (piped.exit_code, piped.outputs["stdout"]) == (1, "")


async def test_a_step_ended_by_a_signal_says_so(executor: StepExecutor) -> None:
    result = await run(executor, attempt(run="kill -KILL $$"))
    assert result.status == "failed"
    assert "SIGKILL" in (result.error or "")


async def test_python_runs_without_the_servers_packages_folder_in_front(
    executor: StepExecutor,
) -> None:
    script = "import sys, os\nprint(sys.flags.isolated, os.environ['GREETING'])"
    result = await run(executor, attempt(python=script, env={"GREETING": "hello"}))
    assert result.outputs["stdout"] == "1 hello\n"
    failed = await run(executor, attempt(python="raise SystemExit(7)"))
    assert failed.exit_code == 7


async def test_the_environment_holds_what_is_documented_and_nothing_else(
    executor: StepExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "must not be inherited")
    script = "import os, json; print(json.dumps(dict(os.environ)))"
    spec = attempt(python=script, env={"OWN": "1"}, number=2)
    env = json.loads(str((await run(executor, spec)).outputs["stdout"]))
    env.pop("LC_CTYPE", None)
    env.pop("PWD", None)
    assert set(env) == {
        "PATH", "LANG", "TZ", "HOME", "TMPDIR", "OWN", "RUN_ID", "STEP", "ATTEMPT",
        "IDEMPOTENCY_KEY", "OUTPUT", "AGENT_SERVER_ATTEMPT",
    }  # fmt: skip
    assert (env["RUN_ID"], env["STEP"], env["ATTEMPT"]) == ("run-1", "step", "2")
    assert env["IDEMPOTENCY_KEY"] == "run-1:step"


async def test_standard_input_is_empty(executor: StepExecutor) -> None:
    assert (await run(executor, attempt(run="cat; echo end"))).outputs["stdout"] == "end\n"


async def test_steps_of_a_run_share_a_folder_and_runs_do_not(executor: StepExecutor) -> None:
    await run(executor, attempt(run="echo shared > file; mkdir sub; pwd > sub/where"))
    same = await run(executor, attempt(run='cat file; test "$HOME" = "$PWD"', name="second"))
    assert same.outputs["stdout"] == "shared\n"
    other = await run(executor, attempt(run="ls -A", run_id="run-2"))
    assert other.outputs["stdout"] == ""
    inside = await run(executor, attempt(run="basename $PWD; umask", working_dir="sub"))
    assert inside.outputs["stdout"] == "sub\n0077\n"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("../../run-2/work", "leaves the folder of the run"), ("none/here", "does not exist")],
)
async def test_a_working_dir_that_cannot_be_is_refused(
    executor: StepExecutor, folder: str, reason: str
) -> None:
    result = await run(executor, attempt(run="pwd", working_dir=folder))
    assert result.status == "failed"
    assert reason in (result.error or "")


async def test_the_output_file_becomes_outputs(executor: StepExecutor) -> None:
    script = 'echo "size=12" >> "$OUTPUT"\nprintf "list<<E\\na\\nb\\nE\\n" >> "$OUTPUT"'
    result = await run(executor, attempt(run=script))
    assert result.outputs == {"stdout": "", "size": "12", "list": "a\nb"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo no equals sign > $OUTPUT", "line 1"),
        ("echo stdout=x > $OUTPUT", "set by the engine"),
        ("head -c 2000000 /dev/zero > $OUTPUT", "over 1048576 bytes"),
    ],
)
async def test_an_output_file_of_another_form_fails_the_step(
    executor: StepExecutor, script: str, reason: str
) -> None:
    result = await run(executor, attempt(run=script))
    assert result.status == "failed"
    assert reason in (result.error or "")


async def test_json_is_parsed_or_the_step_fails(executor: StepExecutor) -> None:
    good = await run(executor, attempt(run="echo '{\"a\": [1]}'", parse="json"))
    assert good.outputs["json"] == {"a": [1]}
    bad = await run(executor, attempt(run="echo '{a'", parse="json"))
    assert bad.status == "failed"
    assert "line 1, column 2" in (bad.error or "")


async def test_output_over_64_kib_is_kept_whole(executor: StepExecutor) -> None:
    script = "import sys; sys.stdout.write('x' * 100_000); sys.stderr.write('y' * 100_000)"
    result = await run(executor, attempt(python=script))
    assert result.outputs["stdout"] == "x" * 100_000 + "y" * 100_000


async def test_a_flood_keeps_head_and_tail_and_is_shown_up_to_a_cap(
    executor: StepExecutor,
) -> None:
    watch = Watch()
    script = f"echo first; yes | head -c {FLOOD_BYTES}; echo last"
    result = await run(executor, attempt(run=script), watch)
    stdout = str(result.outputs["stdout"])
    assert stdout.startswith("first\ny\n")
    assert stdout.endswith("y\nlast\n")
    assert "characters left out" in stdout
    assert len(stdout) <= LIMITS.stdout_characters + 100
    shown = "".join(watch.texts)
    assert len(shown) <= LIMITS.live_bytes + 100
    assert "not shown live" in shown
    truncated = await run(executor, attempt(run=f"yes | head -c {FLOOD_BYTES}", parse="json"))
    assert "needs the whole output" in (truncated.error or "")


async def test_output_is_seen_while_the_step_runs(executor: StepExecutor) -> None:
    watch = Watch()
    script = "echo ready; until test -e go; do sleep 0.05; done; echo done"
    task = asyncio.create_task(run(executor, attempt(run=script), watch))
    assert await watch.line("ready") == ""
    assert not task.done()
    assert (await run(executor, attempt(run="touch go", name="other"))).status == "success"
    assert (await task).outputs["stdout"] == "ready\ndone\n"


async def test_a_timeout_ends_a_step_that_ignores_term(executor: StepExecutor) -> None:
    word = f"86{uuid4().int % 10**9}"
    script = f"trap '' TERM; sleep {word} & sleep {word}"
    result = await run(executor, attempt(run=script, timeout=0.5))
    assert result.status == "timed_out"
    assert "timed out after 0.5 s" in (result.error or "")
    assert all(has_died(pid) for pid in pids_with(word))


@pytest.mark.parametrize("wanted", [None, 60.0])
async def test_the_servers_limit_bounds_every_attempt(tmp_path: Path, wanted: float | None) -> None:
    limits = replace(LIMITS, timeout_seconds=0.2)
    async with opened(tmp_path, limits=limits) as executor:
        result = await run(executor, attempt(run="sleep 60", timeout=wanted))
    assert result.status == "timed_out"
    assert "0.2 s (the server's limit for one attempt)" in (result.error or "")


async def test_term_gives_a_step_the_time_to_clean_up(executor: StepExecutor) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; echo up; sleep 60 & wait"
    watch = Watch()
    task = asyncio.create_task(run(executor, attempt(run=script), watch))
    await watch.line("up")
    task.cancel("enough")
    result = await task
    assert (result.status, result.error) == ("cancelled", "cancelled: enough")
    assert result.outputs["stdout"] == "up\ncleaned\n"


async def test_cancel_ends_a_group_of_three(executor: StepExecutor) -> None:
    word = f"86{uuid4().int % 10**9}"
    watch = Watch()
    script = f"sleep {word} & (sleep {word} & wait) & echo up; wait"
    task = asyncio.create_task(run(executor, attempt(run=script), watch))
    await watch.line("up")
    task.cancel()
    assert (await task).status == "cancelled"
    assert all(has_died(pid) for pid in pids_with(word))


async def test_strays_are_ended_after_success(executor: StepExecutor) -> None:
    word = f"86{uuid4().int % 10**9}"
    script = f"trap '' TERM; sleep {word} & setsid sleep {word} & echo end"
    result = await run(executor, attempt(run=script))
    assert (result.status, result.outputs["stdout"]) == ("success", "end\n")
    assert all(has_died(pid) for pid in pids_with(word))


async def test_strays_of_the_group_are_ended_without_the_reaper(
    executor: StepExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReaperLink, "remove", lambda *_: None)
    word = f"86{uuid4().int % 10**9}"
    await run(executor, attempt(run=f"trap '' TERM; sleep {word} & echo end"))
    assert all(has_died(pid) for pid in pids_with(word))


async def test_a_step_sees_only_the_secrets_that_it_names(executor: StepExecutor) -> None:
    script = (
        'test "$T" = "Bearer hunter2-is-long"; echo "$T"; printf "%s" "$T" | base64; env;'
        ' echo "k=$T" >> $OUTPUT; echo "$T" >&2; exit 1'
    )
    spec = attempt(run=script, env={"T": "Bearer ${{ secrets.TOKEN }}"}, secrets=("TOKEN",))
    watch = Watch()
    result = await run(executor, spec, watch)
    everything = repr(result) + repr(watch.texts)
    assert "hunter2" not in everything
    assert "aHVudGVy" not in everything
    assert "never-referenced" not in everything
    assert result.outputs["k"] == "Bearer ***"
    assert result.error == "exit code 1: Bearer ***"


async def test_a_secret_that_an_earlier_step_left_is_masked(executor: StepExecutor) -> None:
    keep = attempt(run='echo "$T" > kept', env={"T": "${{ secrets.TOKEN }}"}, secrets=("TOKEN",))
    await run(executor, keep)
    watch = Watch()
    show = attempt(run='cat kept; echo "found=$(cat kept)" >> $OUTPUT; cat kept >&2; exit 1')
    result = await run(executor, show, watch)
    assert "hunter2" not in repr(result) + repr(watch.texts)
    assert result.outputs["found"] == "***"


@pytest.mark.parametrize("line", ["$T=1", "$T", "!$T=1"], ids=["key", "alone", "no key"])
async def test_a_secret_in_place_of_a_key_is_masked(executor: StepExecutor, line: str) -> None:
    env = {"T": "${{ secrets.LONG }}"}
    spec = attempt(run=f'echo "{line}" >> $OUTPUT', env=env, secrets=("LONG",))
    result = await run(executor, spec)
    assert result.status == "failed"
    assert "LongSecret" not in repr(result)


async def test_data_that_looks_like_a_secret_reference_stays_data(executor: StepExecutor) -> None:
    spec = attempt(run='echo "$D"', env={"D": "$${{ secrets.TOKEN }}"}, secrets=("TOKEN",))
    assert (await run(executor, spec)).outputs["stdout"] == "${{ secrets.TOKEN }}\n"


async def test_an_unknown_secret_fails_the_step_before_it_starts(executor: StepExecutor) -> None:
    watch = Watch()
    result = await run(executor, attempt(run="true", secrets=("NOPE",)), watch)
    assert "no secret 'NOPE'" in (result.error or "")
    assert not watch.groups


async def test_a_variable_that_no_process_can_take_is_refused(executor: StepExecutor) -> None:
    result = await run(executor, attempt(run="true", env={"BIG": "x" * 200_000}))
    assert "BIG is over 100000 bytes" in (result.error or "")


async def test_a_shell_that_is_missing_fails_the_step(executor: StepExecutor) -> None:
    result = await run(executor, attempt(run="true", shell="bash", env={"PATH": "/nowhere"}))  # noqa: S604
    assert result.status == "failed"
    assert result.exit_code


async def test_no_new_privileges_and_no_core_files(
    executor: StepExecutor, core_files: None
) -> None:
    script = "grep NoNewPrivs /proc/self/status; ulimit -c; ulimit -n"
    result = await run(executor, attempt(run=script))
    assert str(result.outputs["stdout"]).split() == ["NoNewPrivs:", "1", "0", "1024"]


@pytest.mark.parametrize("profile", PROFILES)
async def test_memory_cpu_and_file_limits_hold(tmp_path: Path, profile: str) -> None:
    limits = replace(LIMITS, data_bytes=256 * 1024**2, cpu_seconds=1, file_bytes=1024**2)
    async with opened(tmp_path, profile, limits=limits) as executor:
        hungry = await run(executor, attempt(python="bytearray(512 * 1024**2)"))
        busy = await run(executor, attempt(run="while :; do :; done"))
        large = await run(executor, attempt(run="head -c 3000000 /dev/zero > big"))
    assert "MemoryError" in (hungry.error or "")
    assert "SIGXCPU" in (busy.error or "") or "SIGKILL" in (busy.error or "")
    assert large.status == "failed"


async def test_a_step_in_words_alone_is_refused(executor: StepExecutor) -> None:
    result = await run(executor, attempt(needs_command="Back up all databases"))
    assert "needs_command" in (result.error or "")


async def test_a_second_attempt_begins_with_fresh_files(executor: StepExecutor) -> None:
    await run(executor, attempt(run="echo old=1 >> $OUTPUT; exit 1"))
    again = await run(executor, attempt(run="echo new=1 >> $OUTPUT"))
    assert again.outputs == {"stdout": "", "new": "1"}


async def test_the_group_that_is_told_is_the_one_that_runs(tmp_path: Path) -> None:
    watch = Watch()
    async with opened(tmp_path) as executor:
        script = "ps -o pgid= -p $$; echo up; sleep 60"
        task = asyncio.create_task(run(executor, attempt(run=script), watch))
        await watch.line("up")
        [(pgid, birth, mark)] = watch.groups
        assert is_alive(pgid)
        assert birth or sys.platform != "linux"
        assert len(mark) == 32
        task.cancel()
        assert str((await task).outputs["stdout"]).split()[0] == str(pgid)
    assert has_died(pgid)


@pytest.mark.parametrize("isolation", PROFILES)
async def test_a_cancel_reaches_a_command_that_is_just_beginning(
    tmp_path: Path, isolation: str
) -> None:
    """The grace is longer than the test may take: a TERM that is lost would be waited for."""
    limits = StepLimits(term_grace_seconds=3_600)
    async with opened(tmp_path, isolation, limits=limits) as executor, asyncio.timeout(20):
        for turns in range(1, 61):
            spec = attempt(number=turns, run="sleep 60")
            task = asyncio.create_task(executor.run_attempt(spec, Watch()))
            for _ in range(turns * 50):
                await asyncio.sleep(0)
            task.cancel()
            assert (await task).status == "cancelled"
