"""`llm-comply`, which checks servers against the vendors' own schemas, on every door.

Source of what is checked: llm-comply 0.5, formats `openai-chat`, `open-responses`, `anthropic`.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.callers.gateway import NAMES, Gateway, gateway

FORMATS = {"chat": "openai-chat", "responses": "open-responses", "messages": "anthropic"}
# How many checks a format has: a check that is gone, or skipped, is noticed.
COUNTS = {"chat": 9, "responses": 13, "messages": 9}
# Where the upstreams are asked: in their own formats.
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/openai/v1/responses",
    "fallback": "/v1/chat/completions",
}
RUN_SECONDS = 25

# What it only advises, and we do otherwise: OpenAI's compaction is made of what its server alone
# can read, so a 404 says that it is not here.
ADVICE: dict[str, set[str]] = {"chat": set(), "responses": {"compact-response"}, "messages": set()}


@dataclass(frozen=True)
class Check:
    """One check of llm-comply."""

    name: str
    status: str
    errors: list[str]
    warnings: list[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("comply"), "--no-agent") as found:
        yield found


def run(url: str, door: str, model: str) -> list[Check]:
    command = [str(Path(sys.executable).with_name("llm-comply")), "--json"]
    command += ["--base-url", f"{url}/v1", "--api-key", "not-needed"]
    command += ["--format", FORMATS[door], "--model", model]
    done = subprocess.run(command, capture_output=True, timeout=RUN_SECONDS, check=False)
    assert done.stdout, done.stderr.decode()
    told: dict[str, Any] = orjson.loads(done.stdout)
    return [
        Check(row["id"], row["status"], row.get("errors", []), row.get("warnings", []))
        for row in told["results"]
    ]


@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize("door", FORMATS)
def test_every_check_passes(served: Gateway, door: str, wire: str) -> None:
    before = len(served.upstream.requests)
    checks = run(served.url, door, f"{NAMES[door]}-by-{wire}")
    assert [check for check in checks if check.status != "passed"] == []
    assert len(checks) == COUNTS[door]
    advised = {check.name for check in checks if check.warnings}
    assert advised == ADVICE[door]
    assert {request.path for request in served.upstream.requests[before:]} == {PATHS[wire]}


def test_what_a_model_does_not_do_is_found(served: Gateway) -> None:
    checks = run(served.url, "chat", "offline/offline")
    assert [check.name for check in checks if check.status == "failed"] == ["chat-tool-calling"]
