"""What an idle server may cost, and what it may not import before it is needed."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.running_server import RunningServer, ask, running_server

MEBIBYTE = 1024 * 1024
MAX_MEMORY = 220 * MEBIBYTE
MAX_CPU_SECONDS = 4.0
# The gateway alone, without and with a store.
MAX_GATEWAY_MEMORY = 70 * MEBIBYTE
MAX_STORE_MEMORY = 85 * MEBIBYTE
MAX_GATEWAY_CPU_SECONDS = 1.0
# What each entry point must leave alone until somebody needs it.
LLM_SDKS = ("openai", "anthropic", "litellm")
# What a gateway does without as long as no setting asks for it.
UNUSED = (*LLM_SDKS, "mcp", "mcp_types", "opentelemetry", "redis", "aiohttp")
HELLO = {"model": "offline", "messages": [{"role": "user", "content": "hello"}]}
# A line of `python -X importtime`.
IMPORTED = re.compile(r"(?m)^import time: .*\| +([\w.]+)$")
BUDGETS = {
    "agent_server.app": (*UNUSED, "sqlalchemy"),
    "agent_server.cli": (*LLM_SDKS, "mcp", "aiohttp", "starlette", "uvicorn", "pydantic.v1"),
    "workflow_backend.server": (*LLM_SDKS, "aiohttp", "agent_server", "providers", "mcp_bridge"),
    "mcp_bridge": (*LLM_SDKS, "mcp.server", "starlette", "uvicorn"),
    "providers.registry": (*LLM_SDKS, "mcp", "starlette"),
    "streaming.formats": (*LLM_SDKS, "pydantic", "mcp", "starlette", "aiohttp"),
}


@pytest.mark.parametrize("module", BUDGETS)
def test_an_entry_point_imports_no_more_than_it_needs(module: str) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=25
    ).stdout
    assert not set(BUDGETS[module]) & set(output.split())


def test_an_idle_server_with_its_backend_stays_in_its_budget(tmp_path: Path) -> None:
    # The first start compiles the modules; every later one is what users wait for.
    with running_server(tmp_path / "first") as server:
        wait_ready(server)
    with running_server(tmp_path / "second") as server:
        wait_ready(server)
        parent = psutil.Process(server.process.pid)
        family = [parent, *parent.children(recursive=True)]
        memory = sum(process.memory_info().rss for process in family)
        times = [process.cpu_times() for process in family]
    cpu_seconds = sum(time.user + time.system for time in times)
    print(f"{memory / MEBIBYTE:.0f} MiB, {cpu_seconds:.2f} s of CPU until ready")  # noqa: T201
    assert memory <= MAX_MEMORY
    assert cpu_seconds <= MAX_CPU_SECONDS


@pytest.mark.parametrize(
    ("store", "unloaded", "most_memory"),
    [
        ("", (*UNUSED, "sqlalchemy"), MAX_GATEWAY_MEMORY),
        ("sqlite", UNUSED, MAX_STORE_MEMORY),
    ],
    ids=["no store", "store"],
)
def test_the_gateway_alone_stays_in_its_budget(
    tmp_path: Path, store: str, unloaded: tuple[str, ...], most_memory: int
) -> None:
    environment = {"AGENT_SERVER_DATABASE_URL": store}
    # The interpreter itself tells on stderr, which is the log, what a server imports in its life.
    # This first start compiles the modules as well.
    told = {**environment, "PYTHONPROFILEIMPORTTIME": "1"}
    with running_server(tmp_path / "told", "--no-agent", environment=told) as server:
        assert ask(server.url, "POST", "/v1/chat/completions", HELLO).status == 200
    imported = set(IMPORTED.findall(server.log))
    assert "agent_server.app" in imported
    assert not imported & set(unloaded)
    with running_server(tmp_path / "second", "--no-agent", environment=environment) as server:
        process = psutil.Process(server.process.pid)
        assert not process.children(recursive=True)
        times, memory = process.cpu_times(), process.memory_info().rss
    cpu_seconds = times.user + times.system
    print(f"{memory / MEBIBYTE:.0f} MiB, {cpu_seconds:.2f} s of CPU until ready")  # noqa: T201
    assert memory <= most_memory
    assert cpu_seconds <= MAX_GATEWAY_CPU_SECONDS


def wait_ready(server: RunningServer) -> None:
    """The list of runs waits for a backend that is starting."""
    assert ask(server.url, "GET", "/v1/workflows/runs").status == 200, server.log
