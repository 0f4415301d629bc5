"""The real server as a child process on a free port of loopback."""

import http.client
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

START_SECONDS = 25.0
STOP_SECONDS = 20.0
# What the machine's own environment must not decide.
CLEAN = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True)
class RunningServer:
    """A server that answers at `url`; its log is in `log_path`."""

    url: str
    process: subprocess.Popen[bytes]
    log_path: Path
    data_dir: Path

    @property
    def log(self) -> str:
        """Everything that the server has logged so far."""
        return self.log_path.read_text()


@contextmanager
def running_server(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Run `agent-server serve` with provider `offline` unless the options say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    log_path, data_dir = folder / "server.log", folder / "data"
    command = [sys.executable, "-m", "agent_server", "serve", "--port", "0"]
    command += ["--data-dir", str(data_dir)]
    if "--provider" not in options:
        command += ["--provider", "offline"]
    env = {name: os.environ[name] for name in CLEAN if name in os.environ}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**env, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
    try:
        yield RunningServer(_url(process, log_path), process, log_path, data_dir)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _url(process: subprocess.Popen[bytes], log_path: Path) -> str:
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 1)[0]:
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                break
            said += piece
            if found := re.search(rb"answers at (http://\S+)", said):
                return found[1].decode()
    raise AssertionError(f"the server did not start: {said.decode()}\n{log_path.read_text()}")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object, which holds exactly its four fields."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.json.keys() == {"error"}
        return dict(error)


def ask(
    url: str,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request, with a JSON body unless it is bytes; `headers` may override any."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    data = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else None
    if data is not None:
        given.setdefault("content-type", "application/json")
        given.setdefault("content-length", str(len(data)))
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.putrequest(method, path, skip_host="host" in given)
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()
