"""The tool `import_workflow` over MCP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.workflow_backend.backends import Caller, backend
from workflow_backend.definition.parse import parse_workflow

pytestmark = pytest.mark.asyncio(loop_scope="module")
DATA = Path(__file__).parents[1] / "data" / "imports"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    async with backend(tmp_path_factory.mktemp("data")) as client:
        yield Caller(client, "alice")


async def test_the_answer_has_the_workflow_its_notes_and_what_needs_a_command(
    alice: Caller,
) -> None:
    text = (DATA / "incident.json").read_text()
    found = await alice.answer("import_workflow", {"workflow": text})
    assert found["format"] == "kubiya"
    assert parse_workflow(found["workflow"]).name == "incident-response"
    assert found["needs_command"] == ["dashboard"]
    assert {"path", "reason", "instead"} == set(found["notes"][0])
    assert any(warning["path"] == "runner" for warning in found["warnings"])


async def test_what_is_imported_can_be_run(alice: Caller) -> None:
    source = {"params": {"who": "you"}, "steps": [{"name": "hi", "command": "echo hi {{who}}"}]}
    found = await alice.answer("import_workflow", {"workflow": source, "format": "kubiya"})
    run = await alice.answer(
        "execute_workflow", {"workflow": found["workflow"], "inputs": {"who": "$(id)"}}
    )
    assert (run["status"], run["steps"][0]["output"]) == ("success", "hi $(id)\n")


async def test_a_refusal_names_path_reason_and_fix(alice: Caller) -> None:
    text = await alice.refusal("import_workflow", {"workflow": "steps: []"})
    assert "path: steps" in text
    assert "fix: " in text
