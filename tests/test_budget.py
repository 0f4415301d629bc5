"""What an idle server may cost, and what it may not import before it is needed."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.running_server import RunningServer, ask, running_server

MEBIBYTE = 1024 * 1024
MAX_MEMORY = 220 * MEBIBYTE
MAX_CPU_SECONDS = 4.0
# What each entry point must leave alone until somebody needs it.
LLM_SDKS = ("openai", "anthropic", "litellm")
BUDGETS = {
    "agent_server.app": LLM_SDKS,
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


def wait_ready(server: RunningServer) -> None:
    """The list of runs waits for a backend that is starting."""
    assert ask(server.url, "GET", "/v1/workflows/runs").status == 200, server.log
