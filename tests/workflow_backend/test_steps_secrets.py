"""Steps held to the limits of the secrets that they name, when they run."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Scripted, scripted
from tests.workflow_backend.attempts import attempt, needs_bwrap, opened, run
from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.secrets import SecretStore, SecretVariables, open_secrets
from workflow_backend.steps import StepExecutor

KEY = "correct horse battery staple"
OURS, THEIRS, HERE = "value-of-alice", "value-of-the-store", "value-for-one-host"
HELLO = Scripted(200, (b"hello",))
FILE = f"OURS: {{value: {OURS}, keys: [alice]}}\nHERE: {{value: {HERE}, hosts: [127.0.0.1]}}\n"


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[StepExecutor]:
    """An executor without isolation, with secrets of file and store."""
    async with _opened(tmp_path, "none") as executor:
        yield executor


def _opened(folder: Path, isolation: str) -> Any:
    path, data_dir = folder / "secrets.yaml", folder / "data"
    path.write_text(FILE)
    SecretStore(data_dir, KEY).set("THEIRS", THEIRS, SecretRule(("bob",)))
    secrets = open_secrets(data_dir, path, SecretVariables(KEY))
    allowed = ("127.0.0.1", "localhost", "::1")
    return opened(data_dir, isolation, secrets=secrets, allowed_hosts=allowed)


def naming(name: str, **fields: Any) -> Any:
    """An attempt whose step has the secret in its environment."""
    return attempt(
        run='echo "got $T"', env={"T": f"${{{{ secrets.{name} }}}}"}, secrets=(name,), **fields
    )


def sending(url: str, name: str, **fields: Any) -> Any:
    """An attempt whose request has the secret in a header."""
    http = {"url": url, "headers": {"X-Token": f"${{{{ secrets.{name} }}}}"}, **fields}
    return attempt(http=http, secrets=(name,))


@pytest.mark.parametrize(
    ("owner", "name", "is_given"),
    [
        ("alice", "OURS", True),
        ("bob", "OURS", False),
        ("local", "OURS", False),
        ("alice", "THEIRS", False),
        ("bob", "THEIRS", True),
    ],
)
async def test_a_secret_is_given_to_runs_of_the_owners_that_it_lists(
    executor: StepExecutor, owner: str, name: str, is_given: bool
) -> None:
    result = await run(executor, replace(naming(name), owner=owner))
    if is_given:
        assert (result.status, result.outputs["stdout"]) == ("success", "got ***\n")
        return
    assert result.status == "failed"
    assert f"there is no secret '{name}'" in (result.error or "")
    # Nor is told which names there are for others.
    others = {"OURS", "THEIRS"} - {name}
    known = others if (owner, name) in {("alice", "THEIRS"), ("bob", "OURS")} else set()
    assert {other for other in others if other in (result.error or "")} == known


async def test_a_request_is_signed_with_secrets_of_its_own_owner_alone(
    executor: StepExecutor,
) -> None:
    async with scripted(HELLO) as server:
        spec = replace(attempt(http={"url": server.url}), sign_with="OURS", owner="bob")
        result = await run(executor, spec)
    assert "there is no secret 'OURS'" in (result.error or "")
    assert not server.requests


async def test_the_secrets_of_others_are_masked_all_the_same(executor: StepExecutor) -> None:
    spec = replace(attempt(run=f"echo {OURS} {THEIRS} {HERE} {KEY}"), owner="carol")
    assert (await run(executor, spec)).outputs["stdout"] == "*** *** *** ***\n"


async def test_a_request_to_a_listed_host_is_given_the_secret(executor: StepExecutor) -> None:
    async with scripted(HELLO) as server:
        result = await run(executor, sending(server.url, "HERE"))
    assert result.status == "success"
    assert server.requests[0].headers["x-token"] == HERE


@pytest.mark.parametrize("place", ["headers", "body", "json"])
async def test_a_request_to_another_host_is_not_sent(executor: StepExecutor, place: str) -> None:
    reference = "${{ secrets.HERE }}"
    given = {"headers": {"X": reference}, "body": reference, "json": {"x": [reference]}}[place]
    async with scripted(HELLO) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        http = {"url": url, "method": "POST", place: given}
        result = await run(executor, attempt(http=http, secrets=("HERE",)))
    assert result.status == "failed"
    assert result.error == (
        "the secret 'HERE' is withheld: it may go to 127.0.0.1 alone, not to localhost"
    )
    assert not server.requests


@pytest.mark.parametrize("status", [302, 303, 307, 308])
async def test_a_redirect_takes_no_secret_to_a_host_that_is_not_listed(
    executor: StepExecutor, status: int
) -> None:
    async with scripted(HELLO) as other:
        away = other.url.replace("127.0.0.1", "localhost")
        async with scripted(Scripted(status, (), {"Location": away})) as server:
            result = await run(executor, sending(server.url, "HERE", follow_redirects=True))
            body = {"method": "POST", "body": "${{ secrets.HERE }}", "follow_redirects": True}
            spec = attempt(http={"url": server.url, **body}, secrets=("HERE",))
            with_body = await run(executor, spec)
    assert server.requests[0].headers["x-token"] == HERE
    assert result.status == "success"
    seen = [(request.headers, request.body) for request in other.requests]
    assert HERE not in str(seen)
    assert (with_body.status == "failed") == (status in {307, 308})


async def test_a_redirect_on_the_listed_host_keeps_the_secret(executor: StepExecutor) -> None:
    async with scripted(Scripted(302, (), {"Location": "/next"}), HELLO) as server:
        result = await run(executor, sending(server.url, "HERE", follow_redirects=True))
    assert result.status == "success"
    assert [request.headers.get("x-token") for request in server.requests] == [HERE, HERE]


@pytest.mark.parametrize("network", [True, False])
async def test_a_command_without_isolation_is_not_given_a_secret_that_lists_hosts(
    executor: StepExecutor, network: bool
) -> None:
    result = await run(executor, naming("HERE", network=network))
    assert result.status == "failed"
    assert "it may go to 127.0.0.1 alone, and a `run` step with the network" in str(result.error)
    assert "stdout" in result.outputs


@needs_bwrap
@pytest.mark.parametrize("network", [True, False])
async def test_an_isolated_command_is_given_it_only_without_the_network(
    tmp_path: Path, network: bool
) -> None:
    async with _opened(tmp_path, "bwrap") as executor:
        result = await run(executor, naming("HERE", network=network))
    assert (result.status == "success") is not network
    assert (result.outputs["stdout"] == "got ***\n") is not network


@needs_bwrap
async def test_an_isolated_step_sees_neither_the_file_nor_the_store(tmp_path: Path) -> None:
    script = f"cat {tmp_path}/secrets.yaml {tmp_path}/data/secrets.enc || true"
    async with _opened(tmp_path, "bwrap") as executor:
        result = await run(executor, attempt(run=script))
    assert "version" not in str(result.outputs["stdout"])
    assert "hosts" not in str(result.outputs["stdout"])


async def test_a_value_that_is_set_while_the_server_runs_is_given_and_masked(
    executor: StepExecutor, tmp_path: Path
) -> None:
    SecretStore(tmp_path / "data", KEY).set("NEW", "value-that-is-new", SecretRule())
    result = await run(executor, naming("NEW"))
    assert (result.status, result.outputs["stdout"]) == ("success", "got ***\n")
