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


# What a replay would see differently: clocks, chance, the machine and its surroundings.
IMPURE = {
    "aiohttp", "multiprocessing", "os", "pathlib", "platform", "random", "secrets", "shutil",
    "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip


def interpreted_modules() -> set[Path]:
    """The interpreter and every module of the backend that it reaches by its imports."""
    found: set[Path] = set()
    pending = sorted((ROOT / "workflow_backend" / "interpreter").glob("*.py"))
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        for module, is_for_types in imports(path):
            place = ROOT / module.replace(".", "/")
            if module.startswith("workflow_backend") and not is_for_types:
                # A package's own `__init__` is run with every module of it.
                parts = (place.with_suffix(".py"), place / "__init__.py")
                pending += [part for part in parts if part.is_file()]
    return found


def test_the_interpreter_reaches_no_clock_no_chance_and_no_machine() -> None:
    modules = interpreted_modules()
    assert ROOT / "workflow_backend" / "definition" / "cel.py" in modules
    for path in modules:
        for module, _ in imports(path):
            assert module.split(".")[0] not in IMPURE, f"{path} imports {module}"
