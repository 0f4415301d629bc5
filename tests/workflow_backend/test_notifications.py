"""Messages about runs, from the journal to a real server on loopback: signed, retried, once."""

import base64
import hashlib
import hmac
from pathlib import Path

import orjson
import pytest

from tests.servers import Scripted, scripted
from tests.workflow_backend.attempts import LIMITS
from tests.workflow_backend.journals import OWNER, follow, journal, step, types, workflow
from workflow_backend.definition.control import RetryPolicy
from workflow_backend.interpreter import notifications
from workflow_backend.secrets import Secrets
from workflow_backend.steps import StepExecutor, StepSettings
from workflow_backend.steps.webhook_signature import signed_headers

KEY = "a-key-that-signs"


def executor(tmp_path: Path) -> StepExecutor:
    settings = StepSettings(
        tmp_path,
        "none",
        limits=LIMITS,
        allowed_hosts=("127.0.0.1",),
        secrets=Secrets({"HOOK_KEY": KEY}),
    )
    return StepExecutor(settings)


async def test_the_end_of_a_run_is_told_with_a_signature_until_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = RetryPolicy(limit=3, interval="1ms")
    monkeypatch.setattr(notifications, "RETRIES", quick)
    async with scripted(Scripted(503), Scripted(200)) as server:
        notify = [{"url": f"{server.url}/hook", "on": ["failed"], "secret": "HOOK_KEY"}]
        flow = workflow(step("a", run="echo ${X:-none}; exit 3"), notify=notify)
        async with journal(tmp_path, executor(tmp_path)) as engine:
            await engine.start("run-1", flow, {}, OWNER)
            events = await follow(engine, "run-1")
            await server.received(2)
    first, second = server.requests
    assert types(events)[-1] == "workflow_complete"
    assert first.body == second.body
    told = orjson.loads(second.body)
    assert told["type"] == "run.ended"
    assert (told["run_id"], told["status"]) == ("run-1", "failed")
    assert second.headers["webhook-id"] == "run-1.notify[0]:end"
    stamp = second.headers["webhook-timestamp"]
    signed = f"run-1.notify[0]:end.{stamp}.".encode() + second.body
    digest = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert second.headers["webhook-signature"] == f"v1,{digest}"


async def test_an_output_cannot_make_a_message_name_a_secret(tmp_path: Path) -> None:
    async with scripted(Scripted(200)) as server:
        notify = [{"url": server.url, "on": ["success"]}]
        script = "printf '%s' '${{ secrets.HOOK_KEY }}'"
        flow = workflow(
            step("a", run=script),
            outputs={"said": "${{ steps.a.outputs.stdout }}"},
            notify=notify,
        )
        async with journal(tmp_path, executor(tmp_path)) as engine:
            await engine.start("run-1", flow, {}, OWNER)
            await follow(engine, "run-1")
            await server.received(1)
    told = orjson.loads(server.requests[0].body)
    assert told["outputs"] == {"said": "${{ secrets.HOOK_KEY }}"}


def test_a_secret_of_the_standards_form_is_the_base64_of_the_key() -> None:
    """The example of the specification."""
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_that_only_looks_like_it_is_refused() -> None:
    with pytest.raises(ValueError, match="is no base64"):
        signed_headers("m", 1, b"", "whsec_???")
