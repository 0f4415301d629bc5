"""What the pages say is true: every example runs, every name is known, no link is dead."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from agent_server.app import COUNT_TOKENS_PATH, DOORS, ROUTES
from agent_server.cli import kubiya, main
from agent_server.routes.chat_streams import STREAM_PATH
from agent_server.routes.responses import RESPONSES_PATH
from agent_server.settings import Settings, load_settings, variable_of
from mcp_bridge.server_config import read_mcp_servers
from providers.run_intent import asks_to_run
from tests.conftest import ALICE
from tests.doc_pages import (
    GENERATED,
    LINK,
    ROOT,
    Block,
    anchors_of,
    blocks,
    blocks_of,
    pages,
    sections_of,
    text_of,
)
from tests.doc_sections import SECTIONS, section
from tests.running_server import CLEAN, RunningServer, ask
from workflow_backend.definition import check_definition

PRINTED_URL = re.compile(r"http://(?:127\.0\.0\.1|localhost):8000")
BIN = ROOT / ".venv" / "bin"
# A block runs against the server with keys if it names this variable.
KEY_VARIABLE = "AGENT_SERVER_CLIENT_KEY"
RUN_SECONDS = 25
# The packages as a reader installs them, and what the newest of them is called in our tests.
NPM_ALIASES = {
    "ai": "ai-v7",
    "@ai-sdk/openai": "openai-v7",
    "@ai-sdk/openai-compatible": "compatible-v7",
    "@ai-sdk/react": "react-v7.0.173",
}
# Mounts a hook, sends the question that it takes, and prints what it then holds.
MOUNT = """
import { MountedHook } from 'CLIENTS/mounted-hook.mjs';

const { useAgent } = await import('./block.mjs');
const hook = new MountedHook(useAgent);
const { ask } = await hook.until('mounted', () => true);
ask('Create and run a system health check');
const isDone = ({ steps }) => steps.some((step) => step.type === 'workflow_complete');
const { steps } = await hook.until('done', isDone);
process.stdout.write(JSON.stringify(steps), () => process.exit(0));
"""


def where(block: Block) -> str:
    return block.where


def runnable(*languages: str) -> list[Block]:
    return [block for block in blocks(*languages) if "not run" not in block.notes]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> RunningServer:
    """The server that the block of this test is written for."""
    block: Block = request.getfixturevalue("block")
    name = "keyed_agent" if KEY_VARIABLE in block.text else "agent"
    found: RunningServer = request.getfixturevalue(name)
    return found


def run(
    command: list[str], block: Block, server: RunningServer, folder: Path
) -> subprocess.CompletedProcess[str]:
    """What the command prints in a folder that holds the page's files."""
    for other in blocks_of(block.page):
        if "file" in other.notes:
            (folder / other.notes["file"]).write_text(PRINTED_URL.sub(server.url, other.text))
    environment = {name: os.environ[name] for name in CLEAN if name in os.environ}
    environment |= {
        "PATH": f"{BIN}:{Path(sys.executable).parent}:{environment['PATH']}",
        "AGENT_SERVER_DATA_DIR": str(server.data_dir),
        "HOME": str(folder),
        "PYTHONWARNINGS": "error",
    }
    if KEY_VARIABLE in block.text:
        environment[KEY_VARIABLE] = ALICE
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def command_of(block: Block, url: str) -> list[str]:
    text = PRINTED_URL.sub(url, block.text)
    if block.language == "python":
        return [sys.executable, "-c", text]
    return ["bash", "-euo", "pipefail", "-c", text]


@pytest.mark.parametrize("block", runnable("python", "sh"), ids=where)
def test_an_example_does_what_it_says(block: Block, server: RunningServer, tmp_path: Path) -> None:
    done = run(command_of(block, server.url), block, server, tmp_path)
    assert (done.returncode != 0) == ("fails" in block.notes), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).strip(), "an example that shows nothing"
    if "fails" not in block.notes:
        assert '"error":{' not in done.stdout, done.stdout
    if below := printed_below(block):
        printed = steady(done.stdout + done.stderr)
        assert follows(steady(below.text), printed), "\n".join(printed)


def printed_below(block: Block) -> Block | None:
    """The block that shows what this one prints."""
    shown = (other for other in blocks_of(block.page) if "prints" in other.notes)
    return next((other for other in shown if other.before == block), None)


def steady(text: str) -> list[str]:
    """The lines of a text without what differs between two runs."""
    text = PRINTED_URL.sub("URL", re.sub(r"http://127\.0\.0\.1:\d+", "URL", text))
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|<run id>", "ID", text)
    text = re.sub(r"\d+(\.\d+)*", "0", text)
    return [line.rstrip() for line in text.strip().splitlines()]


def follows(lines: list[str], printed: list[str]) -> bool:
    """Whether the lines were printed; `...` stands for lines, or for the rest of its line."""
    pattern = "".join(
        r"(?:.*\n)*?"
        if line.strip() == "..."
        else re.sub(r"\\\.\\\.\\\.$", ".*", re.escape(line)) + "\n"
        for line in lines
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


@pytest.mark.parametrize("block", runnable("yaml"), ids=where)
def test_a_workflow_of_the_docs_is_valid_and_runs(block: Block, agent: RunningServer) -> None:
    checked = check_definition(block.text)
    assert checked.workflow is not None, checked.problems
    assert not checked.warnings
    body = {
        "model": "kubiya-workflow-agent:offline/offline",
        "messages": [{"role": "user", "content": f"Run this:\n\n```yaml\n{block.text}```\n"}],
    }
    answer = ask(agent.url, "POST", "/v1/chat/completions", body).json
    events = answer.get("workflow_events")
    assert events, answer["choices"][0]["message"]["content"]
    wanted = "failed" if "fails" in block.notes else "success"
    assert events[-1]["status"] == wanted, events


@pytest.mark.parametrize("block", blocks("yaml"), ids=where)
def test_a_workflow_that_is_not_run_is_valid_all_the_same(block: Block) -> None:
    if "steps:" in block.text and "fails" not in block.notes:
        assert check_definition(block.text).problems == ()


@pytest.mark.parametrize("block", blocks("json"), ids=where)
def test_json_of_the_docs_can_be_read(block: Block) -> None:
    document = json.loads(block.text)
    if "mcpServers" in document:
        names = re.findall(r"\$\{(\w+)\}", block.text)
        assert read_mcp_servers(document, environment=dict.fromkeys(names, "value"))


@pytest.mark.parametrize("block", blocks("toml"), ids=where)
def test_a_settings_file_of_the_docs_is_taken(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    path = tmp_path / "settings.toml"
    path.write_text(block.text)
    settings = load_settings(config_file=path)
    assert set(tomllib.loads(block.text)) <= settings.model_fields_set


def javascript(text: str, url: str) -> str:
    """The text as node runs it here: our server, our names of the packages."""
    text = PRINTED_URL.sub(url, text)
    return re.sub(
        r"from '([^'.][^']*)'", lambda found: f"from '{NPM_ALIASES.get(found[1], found[1])}'", text
    )


@pytest.mark.npm
# The first test may have to install the packages.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("block", runnable("js"), ids=where)
def test_a_javascript_example_does_what_it_says(
    block: Block, agent: RunningServer, npm_clients: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(npm_clients / "node_modules")
    (tmp_path / "block.mjs").write_text(javascript(block.text, agent.url))
    is_hook = "export function use" in block.text
    if is_hook:
        (tmp_path / "mount.mjs").write_text(MOUNT.replace("CLIENTS", str(npm_clients)))
    script = "mount.mjs" if is_hook else "block.mjs"
    done = run(["node", script], block, agent, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "system-health" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("block", [b for page in pages() for b in blocks_of(page)], ids=where)
def test_a_block_says_its_language_and_why_it_does_not_run(block: Block) -> None:
    assert block.language in {"python", "sh", "js", "yaml", "json", "toml", "text", "mermaid"}
    assert block.notes.get("not run", "a reason of some words").count(" ") >= 2


def command_lines() -> list[tuple[str, str]]:
    """Every call of our commands, in the blocks and in the text."""
    found = []
    for page in pages():
        text = text_of(page).replace("\\\n", " ")
        lines = [line for block in blocks_of(page) for line in block.text.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line.strip())  # noqa: PLW2901 - the same line
            if re.match(r"(agent-server|kubiya) ", line) and "…" not in line and "\\" not in line:
                found.append((page, line))
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_of_the_docs_can_be_called_so(page: str, line: str, tmp_path: Path) -> None:
    words = re.split(r" [|>&;]|  #", line)[0].split()
    command: click.Command = main if words[0] == "agent-server" else kubiya
    context = click.Context(command)
    arguments = words[1:]
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments[0])
        assert found is not None, f"{page}: no command {arguments[0]}"
        command, arguments = found, arguments[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    options |= {name for parameter in command.params for name in parameter.secondary_opts}
    used = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    assert used <= options | {"--help", "--version"}, f"{page}: {line}"


@pytest.mark.parametrize("page", pages())
def test_what_a_page_names_is_there(page: str) -> None:
    text = text_of(page)
    known = {variable_of(name) for name in Settings.model_fields}
    named = set(re.findall(r"\bAGENT_SERVER_(?!SECRET_)[A-Z_]*[A-Z]\b", text))
    assert named <= known, named - known
    paths = [*DOORS, COUNT_TOKENS_PATH, RESPONSES_PATH, STREAM_PATH]
    paths += [route.path for route in ROUTES]
    routes = [re.sub(r"\{[^}]+\}", "x", path) for path in paths]
    called = re.findall(r"`(?:GET|POST) (/[^`\s?]*)", text)
    unknown = [path for path in called if re.sub(r"\{[^}]+\}|<[^>]+>", "x", path) not in routes]
    assert not unknown
    targets = re.findall(r"(?m)^([a-z-]+):.*##", (ROOT / "Makefile").read_text())
    assert set(re.findall(r"\bmake ([a-z-]+)\b`", text)) <= set(targets)


@pytest.mark.parametrize("page", pages())
def test_a_link_leads_to_a_page_and_a_heading(page: str) -> None:
    for link in LINK.findall(text_of(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(str(target.relative_to(ROOT))), link


INTENT_ROW = re.compile(r"(?m)^\| (.+?)(?: \(after \"(.+)\"\))? \| (yes|no) \|$")


@pytest.mark.parametrize("row", INTENT_ROW.findall(text_of("docs/agent.md")), ids=str)
def test_the_table_of_orders_is_what_the_rule_decides(row: tuple[str, str, str]) -> None:
    message, before, runs = row
    assert asks_to_run(message, before) == (runs == "yes")


def test_every_page_is_linked_from_the_readme_or_the_index() -> None:
    linked = {
        str(((ROOT / page).parent / link.partition("#")[0]).resolve().relative_to(ROOT))
        for page in ("README.md", "docs/README.md", "docs/adr/README.md")
        for link in LINK.findall(text_of(page))
        if not re.match(r"https?:|#", link)
    }
    missing = {page for page in pages() if page not in linked} - {"README.md"}
    assert not missing


@pytest.mark.parametrize("page", [page for page in pages() if sections_of(page)])
def test_a_section_that_is_written_from_code_is_up_to_date(page: str) -> None:
    for name, text in sections_of(page).items():
        assert text == section(name), f"python -m tests.doc_sections writes {page} anew"


def test_every_section_stands_on_a_page() -> None:
    standing = {name for page in pages() for name in sections_of(page)}
    assert standing == set(SECTIONS)


def test_the_pages_of_code_are_not_written_by_hand() -> None:
    assert all((ROOT / page).is_file() for page in GENERATED)
