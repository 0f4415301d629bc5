"""What holds for the repository as a whole."""

import ast
import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.doc_pages import ROOT, text_of

PACKAGES = ("agent_server", "providers", "streaming", "mcp_bridge", "workflow_backend")
MODULES = [module for name in PACKAGES for module in sorted((ROOT / name).rglob("*.py"))]
LOCK_FILES = [
    *sorted((ROOT / "requirements").glob("*.txt")),
    ROOT / "tests" / "clients" / "js" / "package-lock.json",
]
LONGEST_MODULE = 450
LONGEST_FUNCTION = 60
# Folders of one machine: the checkout's own, and homes of people.
MACHINE_PATHS = re.compile(rf"{re.escape(str(ROOT))}\b|/(?:home|Users)/[a-z][\w-]*/|/root/\w")
MAP_ROW = re.compile(r"(?m)^\| ((?:`[^`]+`(?:, )?)+) \|")
REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")
DEPENDENCY_ROW = re.compile(r"(?m)^\| `([^`]+)` (\S+) \| .* \| ([^|]+) \|$")


def project() -> dict[str, object]:
    parsed: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return parsed


def tracked() -> list[str]:
    """The files of the repository."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def map_names() -> list[str]:
    """What the map of the README names."""
    rows = MAP_ROW.findall(text_of("README.md"))
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = []
    for name in tracked():
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        found += [f"{name}: {match[0]}" for match in MACHINE_PATHS.finditer(text)]
    assert not found


@pytest.mark.parametrize("lock", LOCK_FILES, ids=lambda path: path.name)
def test_a_lock_file_holds_no_address(lock: Path) -> None:
    assert not re.findall(r"https?://\S+|--(?:extra-)?index-url.*|\"resolved\".*", lock.read_text())


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_every_pinned_package_has_a_hash(lock: Path) -> None:
    pins = re.findall(r"(?m)^[A-Za-z0-9][^\n]*==[^\n]*\n[^\n]*", lock.read_text())
    assert pins
    assert [pin for pin in pins if "--hash=sha256:" not in pin] == []


def test_everything_on_the_map_is_there() -> None:
    assert [name for name in map_names() if not (ROOT / name).exists()] == []


def test_every_folder_is_on_the_map() -> None:
    folders = {name.split("/")[0] + "/" for name in tracked() if "/" in name}
    assert folders <= set(map_names())


def test_the_changelog_has_the_version_of_the_project() -> None:
    found = project()["project"]
    assert isinstance(found, dict)
    version = found["version"]
    assert re.search(
        rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", text_of("CHANGELOG.md")
    )


def test_the_licence_is_the_one_that_the_project_names() -> None:
    found = project()["project"]
    assert isinstance(found, dict)
    assert found["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "Copyright [yyyy] [name of copyright owner]" in text


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_and_its_functions_can_be_read_at_once(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_the_page_of_dependencies_lists_each_with_its_licence() -> None:
    rows = {name: licence for name, _, licence in DEPENDENCY_ROW.findall(dependencies_page())}
    metadata, groups = project()["project"], project()["dependency-groups"]
    assert isinstance(metadata, dict)
    assert isinstance(groups, dict)
    direct = [REQUIREMENT.match(line) for line in (*metadata["dependencies"], *groups["dev"])]
    assert rows.keys() == {found[0] for found in direct if found}
    for name, licence in rows.items():
        assert licence == licence_of(name), name


def licence_of(name: str) -> str:
    """The licence of a package as its metadata have it, in whichever field."""
    found = distribution(name).metadata
    named = found["License-Expression"] or found["License"]
    classifiers = [line for line in found.get_all("Classifier") or [] if line[:7] == "License"]
    return named or classifiers[0].rpartition(" :: ")[2]


def test_the_page_of_dependencies_counts_what_is_locked() -> None:
    locked = re.findall(r"(?m)^\S+==", (ROOT / "requirements" / "runtime.txt").read_text())
    assert f"{len(locked)} packages at run time" in " ".join(dependencies_page().split())


def dependencies_page() -> str:
    return text_of("docs/dependencies.md")
