"""Secrets in the real backend process: who is given them, where they go, and where never."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mcp.client import Client

from tests.servers import Scripted, scripted
from tests.workflow_backend.backends import ROOT, Caller, backend
from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.log_mask import mask_log
from workflow_backend.secrets import SecretStore

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "correct horse battery staple"
OF_ENV, OF_FILE, OF_STORE = "canary.of.the.variable", "canary.of.the.file", "canary.of.the.store"
CANARIES = (KEY, OF_ENV, OF_FILE, OF_STORE)
READS = """
name: reads
steps: [{name: a, run: 'echo "got $T"', env: {T: "${{ secrets.NAME }}"}}]
"""
SENDS = """
name: sends
inputs: {url: {required: true}}
steps:
  - {name: a, http: {url: URL, method: POST, headers: {X: "${{ secrets.OF_FILE }}"}}}
"""
# The names of all variables; values would be masked.
SHOWS = """
name: shows
steps:
  - {name: a, run: 'env | cut -d= -f1', env: {GIVEN: "${{ secrets.OF_ENV }}"}}
  - {name: b, python: 'import os; print(*os.environ, sep="\\n")'}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets")
    (path / "secrets.yaml").write_text(
        f"OF_FILE: {{value: {OF_FILE}, keys: [alice], hosts: [127.0.0.1]}}\n"
    )
    SecretStore(path / "data", KEY).set("OF_STORE", OF_STORE, SecretRule(("bob",)))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(folder: Path) -> AsyncIterator[Client]:
    environment = {
        "AGENT_SERVER_SECRETS_FILE": str(folder / "secrets.yaml"),
        "AGENT_SERVER_SECRET_OF_ENV": OF_ENV,
        "AGENT_SERVER_HTTP_ALLOW": "127.0.0.1 localhost ::1",
        "AGENT_SERVER_ISOLATION": "none",
        "AGENT_SERVER_LOG_LEVEL": "DEBUG",
        "SECRET_KEY": KEY,
    }
    async with backend(folder / "data", environment) as opened:
        yield opened


@pytest.fixture
def alice(client: Client) -> Caller:
    return Caller(client, "alice")


@pytest.fixture
def bob(client: Client) -> Caller:
    return Caller(client, "bob")


async def test_each_owner_is_told_of_its_own_secrets(alice: Caller, bob: Caller) -> None:
    assert (await alice.answer("get_workflow_secrets"))["secrets"] == [
        {"name": "OF_ENV", "hosts": []},
        {"name": "OF_FILE", "hosts": ["127.0.0.1"]},
    ]
    assert (await bob.answer("get_workflow_secrets"))["secrets"] == [
        {"name": "OF_ENV", "hosts": []},
        {"name": "OF_STORE", "hosts": []},
    ]


async def test_a_run_of_another_owner_is_refused_as_if_there_were_no_such_secret(
    alice: Caller, bob: Caller
) -> None:
    workflow = {"workflow": READS.replace("NAME", "OF_STORE")}
    run = await bob.answer("execute_workflow", workflow)
    assert (run["status"], run["steps"][0]["output"]) == ("success", "got ***\n")
    refused = await alice.refusal("execute_workflow", workflow)
    assert "the server has no secret `OF_STORE`; it has OF_ENV, OF_FILE" in refused
    planned = await alice.answer("plan_workflow", workflow)
    assert planned["can_run"] is False
    assert planned["secrets"] == [{"name": "OF_STORE", "available": False, "steps": ["a"]}]
    unknown = await bob.refusal("execute_workflow", {"workflow": READS.replace("NAME", "OF_FILE")})
    assert "it has OF_ENV, OF_STORE" in unknown


async def test_a_request_to_a_host_that_is_not_listed_is_blocked_by_the_plan(
    alice: Caller,
) -> None:
    async with scripted(Scripted(200, (b"hello",))) as server:
        here = {"workflow": SENDS.replace("URL", server.url), "inputs": {"url": "x"}}
        away = {**here, "workflow": here["workflow"].replace("127.0.0.1", "localhost")}
        assert (await alice.answer("execute_workflow", here))["status"] == "success"
        refused = await alice.refusal("execute_workflow", away)
    assert "it may go to 127.0.0.1 alone, not to localhost" in refused
    assert [request.headers["x"] for request in server.requests] == [OF_FILE]


async def test_a_request_whose_host_the_run_decides_is_refused_when_it_is_sent(
    alice: Caller,
) -> None:
    text = (
        SENDS.replace("URL", '"${{ steps.where.outputs.stdout }}"')
        .replace(
            "steps:\n",
            "steps:\n  - {name: where, run: 'printf %s \"$U\"', env: {U: '${{ inputs.url }}'}}\n",
        )
        .replace("name: a,", "name: a, depends: [where],")
    )
    async with scripted(Scripted(200, (b"hello",))) as server:
        away = server.url.replace("127.0.0.1", "localhost")
        run = await alice.answer("execute_workflow", {"workflow": text, "inputs": {"url": away}})
        here = {"workflow": text, "inputs": {"url": server.url}}
        assert (await alice.answer("execute_workflow", here))["status"] == "success"
    assert run["status"] == "failed"
    assert "withheld: it may go to 127.0.0.1 alone, not to localhost" in run["steps"][1]["error"]
    assert len(server.requests) == 1


async def test_neither_the_key_nor_a_variable_of_a_secret_is_in_a_steps_environment(
    alice: Caller,
) -> None:
    run = await alice.answer("execute_workflow", {"workflow": SHOWS})
    names = [set(step["output"].split()) for step in run["steps"]]
    assert "GIVEN" in names[0]
    assert "RUN_ID" in names[0] & names[1]
    assert not [name for name in names[0] | names[1] if "SECRET" in name]


async def test_a_value_that_is_set_while_the_server_runs_is_given_and_masked(
    bob: Caller, folder: Path
) -> None:
    workflow = {"workflow": READS.replace("NAME", "LATER")}
    assert "no secret `LATER`" in await bob.refusal("execute_workflow", workflow)
    store = SecretStore(folder / "data", KEY)
    store.set("LATER", "a value of later", SecretRule())
    run = await bob.answer("execute_workflow", workflow)
    assert (run["status"], run["steps"][0]["output"]) == ("success", "got ***\n")
    assert "a value of later" not in json.dumps(bob.progress)
    store.remove("LATER")
    assert "no secret `LATER`" in await bob.refusal("execute_workflow", workflow)


async def test_no_value_is_in_an_answer_an_event_or_a_file(alice: Caller, folder: Path) -> None:
    # Without isolation a step can read the file of secrets.
    script = f'cat {folder}/secrets.yaml; echo "$T" | base64; echo "died of $T" >&2; exit 3'
    step = {"name": "a", "run": script, "env": {"T": "${{ secrets.OF_ENV }}"}}
    run = await alice.answer("execute_workflow", {"workflow": {"name": "x", "steps": [step]}})
    assert "OF_FILE: {value: ***" in run["steps"][0]["output"]
    assert "died of ***" in run["steps"][0]["error"]
    encoded = base64.b64encode(OF_ENV.encode()).decode()
    shown = json.dumps(alice.progress) + json.dumps(run)
    assert not [value for value in (*CANARIES, encoded[:20]) if value in shown]
    files = [path for path in (folder / "data").rglob("*") if path.is_file()]
    assert {"journal.db", "secrets.enc"} <= {path.name for path in files}
    kept = b"".join(path.read_bytes() for path in files)
    assert not [value for value in (*CANARIES, encoded[:20]) if value.encode() in kept]


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("another key than that", None, "was made with another SECRET_KEY"),
        (KEY, ('"version": 1', '"version": 9'), "has version 9, and this server reads version 1"),
        (KEY, ('"bob"', '"eve"'), "is damaged: the entry 'OF_STORE' was changed without the key"),
        (KEY, None, "the secret 'OF_STORE' is in two places, the variable AGENT_SERVER_SECRET_"),
    ],
    ids=["key", "version", "tampered", "twice"],
)
async def test_secrets_that_cannot_be_used_are_one_line_and_exit_code_2(
    folder: Path, tmp_path: Path, key: str, change: tuple[str, str] | None, reason: str
) -> None:
    text = (folder / "data" / "secrets.enc").read_text()
    (tmp_path / "secrets.enc").write_text(text.replace(*change) if change else text)
    twice = {"AGENT_SERVER_SECRET_OF_STORE": OF_ENV} if "two places" in reason else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workflow_backend",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"AGENT_SERVER_DATA_DIR": str(tmp_path), "SECRET_KEY": key, **twice},
        cwd=ROOT,
    )
    _, error = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert reason in error.decode()
    assert len(error.decode().splitlines()) == 1
    assert not [canary for canary in CANARIES if canary in error.decode()]


async def test_the_log_of_the_backend_is_masked_by_what_is_known_at_that_time() -> None:
    values = {"the first value"}
    root, stream = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    others, root.handlers = root.handlers, [handler]
    try:
        mask_log(lambda: frozenset(values))
        logging.getLogger("x").warning("saw %s", "the first value")
        values.add("the second value")
        with contextlib.suppress(ValueError):
            _fall("the second value")
    finally:
        root.handlers = others
    assert stream.getvalue().startswith("WARNING saw ***\nERROR fell\nTraceback")
    assert "ValueError: invalid literal for int() with base 10: '***'" in stream.getvalue()
    assert not [value for value in values if value in stream.getvalue()]


def _fall(text: str) -> None:
    try:
        int(text)
    except ValueError:
        logging.getLogger("x").exception("fell")
        raise
