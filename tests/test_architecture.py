"""Who may import whom: the table of the design, held by reading the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "streaming": set(),
    "providers": {"streaming"},
    "mcp_bridge": {"streaming"},
    "workflow_backend": {"streaming"},
    "agent_server": {"streaming", "providers", "mcp_bridge"},
}
EXCEPTIONS = {("agent_server/cli.py", "workflow_backend.definition")}
LLM_SDKS = {"openai", "anthropic", "litellm"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported module of a file, and whether it is imported for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in for_types
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in for_types


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    for path in (ROOT / package).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        for module, _ in imports(path):
            allowed = any(name == file and module.startswith(to) for file, to in EXCEPTIONS)
            assert module.split(".")[0] not in forbidden or allowed, f"{name} imports {module}"


def test_the_workflow_backend_knows_no_llm_sdk() -> None:
    for path in (ROOT / "workflow_backend").rglob("*.py"):
        for module, _ in imports(path):
            assert module.split(".")[0] not in LLM_SDKS, f"{path} imports {module}"


def test_the_token_path_keeps_pydantic_out() -> None:
    for path in (ROOT / "streaming").rglob("*.py"):
        for module, _ in imports(path):
            assert module.split(".")[0] != "pydantic", f"{path} imports {module}"
