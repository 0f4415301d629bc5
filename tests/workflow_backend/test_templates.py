"""Every template compiles without warnings and runs through the real backend."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.client import Client
from typing_extensions import override

from tests.workflow_backend.backends import Caller, backend
from workflow_backend.definition import check_definition
from workflow_backend.templates.catalogue import TemplateCatalogue

CATALOGUE = TemplateCatalogue()
NAMES = [template.name for template in CATALOGUE.all()]
FOLDER = Path(__file__).resolve().parents[2] / "workflow_backend" / "templates"

# What every sandbox shows, wherever the checkout is: a folder of Python itself.
SOURCE = str(Path(json.__file__).parent)

# Template: inputs, status, a part of what the run gives.
RUNS: dict[str, tuple[dict[str, Any], str, str]] = {
    "system-health": ({}, "success", "Overall: OK"),
    "system-health with a warning": (
        {"max_disk_percent": 1, "max_load_per_cpu": 1000, "max_memory_percent": 100,
         "fail_on_warning": True},
        "failed",
        "Overall: WARNING (disk)",
    ),
    "disk-usage": ({"folder": "/etc", "top": 3}, "success", "Largest below /etc:"),
    "disk-usage of nothing": ({"folder": "/no/such"}, "failed", "There is no folder /no/such"),
    "directory-backup": (
        {"source": SOURCE}, "success", "files restored and compared, all equal",
    ),
    "directory-backup over its limit": (
        {"source": "/usr/lib", "max_megabytes": 1}, "failed", "raise max_megabytes",
    ),
    "log-scan": (
        {"file": "/etc/passwd", "pattern": "ROOT"}, "success", "matching lines in the last",
    ),
    "log-scan by itself": ({}, "success", "Log: "),
    "log-scan with a bad pattern": (
        {"file": "/etc/passwd", "pattern": "("}, "failed", "no regular expression",
    ),
    "python-ci": ({}, "success", "Overall: OK"),
    "python-ci without tests": ({"tests": "nothing*.py"}, "failed", "no test matches"),
    "parallel-branches": (
        {"size": 1000}, "success", "Joined: 1000 distinct numbers, sum",
    ),
    "retry-then-fail": ({}, "failed", "Cleaned up after 3 attempts"),
    "retry-then-fail that recovers": ({"succeed_on_attempt": 2}, "success", "Used the answer"),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    environment = {"AGENT_SERVER_HTTP_ALLOW": "127.0.0.1"}
    async with backend(tmp_path_factory.mktemp("templates") / "data", environment) as opened:
        yield opened


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A site on loopback: `/` answers 200, `/flaky` 503 once and then 200, all else 404."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Site(BaseHTTPRequestHandler):
    seen: set[str] = set()  # noqa: RUF012 - shared by the requests of one server

    def do_GET(self) -> None:
        is_first = self.path not in self.seen
        self.seen.add(self.path)
        status = {"/": 200, "/flaky": 503 if is_first else 200}.get(self.path, 404)
        body = b"all is well here"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.mark.parametrize("name", NAMES)
def test_a_template_compiles_without_a_warning(name: str) -> None:
    template = CATALOGUE.get(name)
    assert template is not None
    checked = check_definition(template.text)
    assert checked.problems == ()
    assert checked.warnings == ()
    assert template.workflow.name == name
    assert template.description
    assert template.keywords


@pytest.mark.parametrize("name", NAMES)
def test_every_input_of_a_template_has_a_default_and_a_description(name: str) -> None:
    template = CATALOGUE.get(name)
    assert template is not None
    for item in template.inputs:
        assert item.value is not None
        assert item.description


def test_every_file_is_in_the_catalogue() -> None:
    files = {path.stem for path in FOLDER.glob("*.yaml")} - {"catalogue"}
    assert files == set(NAMES)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", RUNS)
async def test_a_template_runs(client: Client, case: str) -> None:
    inputs, status, part = RUNS[case]
    run = await _run(client, case.split()[0], inputs)
    assert run["status"] == status, run
    assert part in str(run["outputs"]) + str([step["output"] for step in run["steps"]])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "inputs", "status", "part"),
    [
        ("/", {}, "success", "answered 200 (wanted 200)"),
        ("/", {"contains": "is well"}, "success", "Text found"),
        ("/", {"contains": "is ill"}, "failed", "Text not found"),
        ("/flaky", {}, "success", "answered 200"),
        ("/gone", {}, "failed", "answered 404 (wanted 200)"),
        ("/gone", {"expect_status": 404}, "success", "answered 404 (wanted 404)"),
    ],
)
async def test_http_check_judges_the_answer(
    client: Client, site: str, path: str, inputs: dict[str, Any], status: str, part: str
) -> None:
    run = await _run(client, "http-check", {"url": site + path, **inputs})
    assert run["status"] == status, run
    assert part in run["steps"][1]["output"]


@pytest.mark.asyncio(loop_scope="module")
async def test_http_check_says_why_nobody_answered(client: Client) -> None:
    run = await _run(client, "http-check", {"url": "http://127.0.0.2:9/"})
    assert run["status"] == "failed"
    assert "did not answer: " in run["steps"][1]["output"]


@pytest.mark.asyncio(loop_scope="module")
async def test_branches_run_at_the_same_time(client: Client) -> None:
    caller = Caller(client, "templates")
    template = CATALOGUE.get("parallel-branches")
    assert template is not None
    run = await caller.answer("execute_workflow", {"workflow": template.text})
    kinds = [message or "" for _, message in caller.progress]
    started = [i for i, text in enumerate(kinds) if '"step_running"' in text]
    ended = [i for i, text in enumerate(kinds) if '"step_complete"' in text]
    # The three branches all begin before the first of them ends.
    assert started[3] < ended[1]
    assert run["outputs"]["distinct"] == "20000"


async def _run(client: Client, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    template = CATALOGUE.get(name)
    assert template is not None
    arguments = {"workflow": template.text, "inputs": inputs}
    return await Caller(client, "templates").answer("execute_workflow", arguments)


MATCHES = [
    ("Create and run a system health check", "system-health"),
    ("Create a workflow to check system health", "system-health"),
    ("Create and execute a monitoring workflow", "system-health"),
    ("Create a backup workflow", "directory-backup"),
    ("please make an archive of /etc", "directory-backup"),
    ("which folders use the most disk space?", "disk-usage"),
    ("is my website reachable", "http-check"),
    ("scan the logs for errors", "log-scan"),
    ("compile, lint and test my Python project", "python-ci"),
    ("show parallel branches", "parallel-branches"),
    ("show how a flaky step is retried", "retry-then-fail"),
    ("What is the weather in Paris?", None),
    ("hello", None),
    ("Create a workflow to deploy my app", None),
    ("", None),
]


@pytest.mark.parametrize(("words", "name"), MATCHES)
def test_words_find_the_template_that_is_meant(words: str, name: str | None) -> None:
    assert CATALOGUE.match(words) == name


def test_the_ranking_holds_every_template_once() -> None:
    ranked = CATALOGUE.ranked("disk backup")
    assert sorted(template.name for template in ranked) == sorted(NAMES)
