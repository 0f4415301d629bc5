"""The image's command in a sandbox that is to a process what a container is.

A user of its own without capabilities, a root that cannot be written, one folder and /tmp that can.
How much the sandbox lets bubblewrap do inside it is what the engines differ in.
"""

import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ALICE, KEY_ENTRIES
from tests.deploy_files import ROOT, dockerfile, image_environment, image_words
from tests.running_server import Answer, ask

BIN = Path(sys.executable).parent
START_SECONDS = 25.0
# How engines stop bubblewrap by default: no further user namespaces (seccomp), and no /proc of
# one's own, since parts of the container's are masked. Either is enough.
FENCES: Mapping[str, tuple[str, ...]] = {
    "no user namespaces": ("--disable-userns",),
    "a masked /proc": ("--ro-bind", "/dev/null", "/proc/interrupts"),
}
ONE_STEP = {
    "model": "kubiya-workflow-agent",
    "messages": [{"role": "user", "content": "Run this:\n1. `touch here && id -u`"}],
}
ALICES = {"x-api-key": ALICE}

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None and not os.environ.get("CI"),
    reason="bubblewrap is not installed (Debian: bubblewrap)",
)


def contained(command: Sequence[str], data_dir: Path, fence: Sequence[str] = ()) -> list[str]:
    """The command in the sandbox; what this test runs from may itself be below /tmp."""
    user, _, group = dict(dockerfile())["USER"].partition(":")
    return [
        *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent"),
        *("--uid", user, "--gid", group, "--cap-drop", "ALL"),
        *("--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp"),  # noqa: S108 - inside the sandbox
        *(word for path in installed() for word in ("--ro-bind", path, path)),
        *("--bind", str(data_dir), str(data_dir)),
        *fence,
        *("--", *command),
    ]


def installed() -> list[str]:
    return [str(path) for path in (ROOT, Path(sys.prefix), Path(sys.base_prefix))]


def environment(data_dir: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The image's environment with our programs and folder, on loopback, where nothing else is."""
    return {
        **image_environment(),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(data_dir),
        "AGENT_SERVER_DATA_DIR": str(data_dir),
        "AGENT_SERVER_HOST": "127.0.0.1",
        "OLLAMA_HOST": "127.0.0.1:9",
        **variables,
    }


@dataclass
class RunningImage:
    """The image's command while it runs; `said` is what it has printed and logged so far."""

    process: subprocess.Popen[bytes]
    said: str = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.wait_for(r"answers at (http://\S+)")[1]

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first place where it says this; fails if it ends or is silent for too long."""
        output = self.process.stdout
        assert output is not None
        while (found := re.search(pattern, self.said)) is None:
            assert select.select([output], [], [], START_SECONDS)[0], self.said
            piece = os.read(output.fileno(), 4096)
            assert piece, self.said
            self.said += piece.decode()
        return found


@contextmanager
def running_image(
    folder: Path, variables: Mapping[str, str], fence: Sequence[str] = ()
) -> Iterator[RunningImage]:
    """The image's command on a free port."""
    data_dir = folder / "data"
    data_dir.mkdir()
    command = ["0" if word == "8000" else word for word in image_words("CMD")]
    process = subprocess.Popen(
        contained(command, data_dir, fence),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(data_dir, variables),
    )
    try:
        yield RunningImage(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def check_isolation(folder: Path, variables: Mapping[str, str], fence: Sequence[str] = ()) -> str:
    """What doctor finds about isolation in the sandbox; the whole of it waits for the backend."""
    data_dir = folder / "doctor"
    data_dir.mkdir()
    return subprocess.run(
        contained(["python", "-c", CHECK_ISOLATION], data_dir, fence),
        env=environment(data_dir, variables),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=True,
    ).stdout


CHECK_ISOLATION = """
from agent_server.doctor import check_isolation
from agent_server.settings import load_settings
for found in check_isolation(load_settings()):
    print(found.state, found.detail, found.mend)
"""


def chat(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    return ask(url, "POST", "/v1/chat/completions", ONE_STEP, headers)


def events_of(answer: Answer) -> list[dict[str, object]]:
    assert answer.status == 200, answer.body
    events: list[dict[str, object]] = answer.json["workflow_events"]
    return events


def test_the_images_command_and_health_check_work_on_a_read_only_root(tmp_path: Path) -> None:
    check = [sys.executable, *image_words("HEALTHCHECK")[1:]]
    with running_image(tmp_path, {}, FENCES["no user namespaces"]) as image:
        port = image.url.rpartition(":")[2]
        healthy = [word.replace("8000", port) for word in check]
        assert healthy != check
        assert subprocess.run(healthy, check=False, timeout=START_SECONDS).returncode == 0
        events = events_of(chat(image.url))
        assert events[-1]["status"] == "success"
        assert "10001" in str(events)
    dead = subprocess.run(healthy, check=False, timeout=START_SECONDS, capture_output=True)
    assert dead.returncode != 0


@pytest.mark.parametrize("name", FENCES)
def test_with_keys_a_container_that_stops_bubblewrap_is_not_ready_and_says_why(
    tmp_path: Path, name: str
) -> None:
    keys = {"AGENT_SERVER_API_KEYS": KEY_ENTRIES}
    with running_image(tmp_path, keys, FENCES[name]) as image:
        assert ask(image.url, "GET", "/health").status == 200
        image.wait_for("steps cannot be isolated here")
        ready = ask(image.url, "GET", "/health/ready")
    assert ready.status == 503
    assert [missing["mcp_server"] for missing in ready.json["missing"]] == ["workflow"]
    said = check_isolation(tmp_path, keys, FENCES[name])
    assert said.startswith("broken bwrap does not work here: ")
    assert "docs/deployment.md" in said


def test_isolation_none_runs_steps_in_such_a_container(tmp_path: Path) -> None:
    chosen = {"AGENT_SERVER_API_KEYS": KEY_ENTRIES, "AGENT_SERVER_ISOLATION": "none"}
    with running_image(tmp_path, chosen, FENCES["a masked /proc"]) as image:
        assert events_of(chat(image.url, ALICES))[-1]["status"] == "success"


def test_bubblewrap_runs_steps_in_a_container_that_allows_it(tmp_path: Path) -> None:
    chosen = {"AGENT_SERVER_API_KEYS": KEY_ENTRIES, "AGENT_SERVER_ISOLATION": "bwrap"}
    assert check_isolation(tmp_path, chosen) == "ok bubblewrap works \n"
    with running_image(tmp_path, chosen) as image:
        assert events_of(chat(image.url, ALICES))[-1]["status"] == "success"
