"""What the image and its Compose files promise, without an engine that could run them.

`test_deploy_container.py` runs the image's command in a sandbox like a container.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy_files import (
    PROJECT,
    ROOT,
    dockerfile,
    image_commands,
    image_environment,
    image_words,
    settings_from,
    stop_seconds,
)

PACKAGES = ("agent_server", "mcp_bridge", "providers", "streaming", "workflow_backend")
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent))
BUILD_SECONDS = 25
# Not named .yaml, so that it is not applied with the others.
SECRET = ROOT / "deploy" / "kubernetes" / "secret.yaml.example"


def strings(**least: int) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, **least}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


# The keys of the Compose Specification that our files use, no more: a misspelt one is found.
DURATION = {"type": "string", "pattern": r"^\d+s$"}
COMPOSE_SERVICE = record(
    build={"type": "string"},
    image={"type": "string"},
    env_file={
        "type": "array",
        "items": record(path={"type": "string"}, required={"type": "boolean"}),
    },
    environment={"type": "object", "additionalProperties": {"type": "string"}},
    ports={
        "type": "array",
        "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"},
    },
    volumes=strings(minItems=1),
    read_only={"const": True},
    tmpfs=strings(minItems=1),
    cap_drop={"const": ["ALL"]},
    security_opt=strings(minItems=1),
    mem_limit={"type": "string", "pattern": r"^\d+[mg]$"},
    pids_limit={"type": "integer", "minimum": 1},
    healthcheck=record(
        test=strings(minItems=2),
        interval=DURATION,
        timeout=DURATION,
        start_period=DURATION,
        retries={"type": "integer", "minimum": 1},
    ),
    restart={"enum": ["unless-stopped"]},
    stop_grace_period=DURATION,
)
COMPOSE = record(
    services={"type": "object", "additionalProperties": COMPOSE_SERVICE},
    volumes={"type": "object", "additionalProperties": {"const": {}}},
)


def compose(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / name).read_text())
    Draft202012Validator(COMPOSE).validate(document)
    service: dict[str, Any] = document["services"]["agent-server"]
    return service


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build; the last line that matches decides."""
    ignored = False
    parts = path.split("/")
    prefixes = ["/".join(parts[:number]) for number in range(1, len(parts) + 1)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = re.escape(line.removeprefix("!")).replace(r"\[co\]", "[co]")
            pattern = pattern.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            if any(re.fullmatch(pattern, prefix) for prefix in prefixes):
                ignored = not line.startswith("!")
    return ignored


def copied() -> list[str]:
    """What the Dockerfile takes from the build context."""
    copies = [rest for word, rest in dockerfile() if word == "COPY" and "--from" not in rest]
    return [source for rest in copies for source in rest.split()[:-1]]


def build_context() -> list[str]:
    """Every file that a build of the image sees."""
    found = []
    for source in copied():
        path = ROOT / source
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        found += [str(file.relative_to(ROOT)) for file in files]
    return [path for path in found if not is_ignored(path)]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed in this environment")
def test_hadolint_has_nothing_to_say() -> None:
    assert HADOLINT is not None
    linted = subprocess.run(
        [HADOLINT, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_both_stages_stand_on_one_pinned_image() -> None:
    images = {rest.split()[0] for word, rest in dockerfile() if word == "FROM"}
    assert len(images) == 1
    (image,) = images
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", image)
    labels = " ".join(rest for word, rest in dockerfile() if word == "LABEL")
    assert f'base.name="docker.io/library/{image}"' in labels
    assert f'image.version="{PROJECT["version"]}"' in labels
    assert f'image.licenses="{PROJECT["license"]}"' in labels


def test_what_is_installed_is_locked_by_hashes() -> None:
    assert "ADD" not in {word for word, _ in dockerfile()}
    commands = image_commands()
    assert not [command for command in commands if re.search(r"\b(curl|wget|git)\b", command)]
    installs = [command for command in commands if re.search(r"\bpip\b.* install\b", command)]
    assert len(installs) >= 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index" in install, install
    wheels = [command for command in commands if "pip wheel" in command]
    assert all("--no-deps --no-build-isolation" in wheel for wheel in wheels)


def test_the_image_holds_no_secret() -> None:
    for word, rest in dockerfile():
        if word in {"ENV", "ARG", "LABEL"}:
            assert not re.search(r"(?i)key|token|secret|passw", rest), rest


def test_the_server_runs_as_a_user_of_its_own_below_an_init() -> None:
    last = {word: rest for word, rest in dockerfile()}  # noqa: C416 - the last of each
    assert last["USER"] == "10001:10001"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert image_words("ENTRYPOINT") == ["tini", "--"]
    (packages,) = [command for command in image_commands() if "apt-get install" in command]
    assert {"bubblewrap", "tini"} <= set(packages.split())


def test_the_data_folder_is_a_volume_of_the_servers_user() -> None:
    data_dir = image_environment()["AGENT_SERVER_DATA_DIR"]
    assert image_words("VOLUME") == [data_dir]
    (made,) = [command for command in image_commands() if command.startswith("install -d")]
    assert made == f"install -d -m 0700 -o agent-server -g agent-server {data_dir}"
    (user,) = [command for command in image_commands() if command.startswith("useradd")]
    assert {"--uid 10001", "--gid 10001"} <= set(re.findall(r"--[ug]id \d+", user))


def test_the_image_is_built_from_nothing_but_the_packages() -> None:
    assert {*PACKAGES, "pyproject.toml", "README.md", "LICENSE"} <= set(copied())
    assert all((ROOT / source).exists() and not is_ignored(source) for source in copied())


@pytest.mark.parametrize(
    "path",
    [
        ".env", ".env.production", ".git/config", ".venv/bin/python", "agent_server/.env",
        "agent_server/__pycache__/app.cpython-311.pyc", "compose.yaml", "deploy/env.example",
        "docs/security.md", "requirements/dev.txt", "secrets.yaml", "tests/conftest.py",
    ],
)  # fmt: skip
def test_what_the_image_does_not_need_stays_out_of_the_build(path: str) -> None:
    assert is_ignored(path)


def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    for path in build_context():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    run = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*run, "--no-index", "--wheel-dir", str(tmp_path), str(source)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=True,
        timeout=BUILD_SECONDS,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        archive.extractall(site)
    info = f"agent_server-{PROJECT['version']}.dist-info"
    assert f"{info}/licenses/LICENSE" in packed
    scripts = (site / info / "entry_points.txt").read_text()
    assert all(f"{name} = {target}" in scripts for name, target in PROJECT["scripts"].items())
    modules = {path for path in build_context() if path.split("/")[0] in PACKAGES}
    assert {path for path in packed if not path.startswith(info)} == modules
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed
    shown = subprocess.run(
        [sys.executable, "-c", SHOW_TEMPLATES],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=BUILD_SECONDS,
    ).stdout.split()
    assert shown[0] == str(site)
    templates = {path.stem for path in (ROOT / "workflow_backend/templates").glob("*-*.yaml")}
    assert set(shown[1:]) == templates


SHOW_TEMPLATES = """
from pathlib import Path
from workflow_backend.templates import catalogue
found = catalogue.TemplateCatalogue().all()
print(Path(catalogue.__file__).parents[2], *(template.name for template in found))
"""


def test_compose_runs_the_server_with_the_least_rights() -> None:
    service = compose("compose.yaml")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["image"] == f"agent-server:{PROJECT['version']}"
    assert service["volumes"] == [f"data:{image_environment()['AGENT_SERVER_DATA_DIR']}"]
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108
    assert service["healthcheck"]["test"] == ["CMD", *image_words("HEALTHCHECK")]
    assert int(service["stop_grace_period"].removesuffix("s")) > stop_seconds()
    assert service["env_file"] == [{"path": ".env", "required": False}]


def test_compose_for_bubblewrap_opens_what_it_needs_and_no_more() -> None:
    assert compose("deploy/compose.bubblewrap.yaml") == {
        "environment": {"AGENT_SERVER_ISOLATION": "bwrap"},
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"],
    }


def test_compose_for_the_gateway_follows_a_folder_and_keeps_keys_in_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = compose("deploy/compose.gateway.yaml")
    (mount,) = service["volumes"]
    folder, target, mode = mount.split(":")
    assert (folder[:2], mode) == ("./", "ro")
    settings = settings_from(service["environment"], tmp_path, monkeypatch)
    assert str(settings.gateway_config).startswith(f"{target}/")
    assert settings.database_url is not None
    assert not settings.agent


def test_the_image_may_hold_every_extra_in_the_versions_of_the_runtime() -> None:
    (argument,) = [rest for word, rest in dockerfile() if word == "ARG"]
    assert argument == "REQUIREMENTS=runtime"
    runtime, extras = pins("runtime.txt"), pins("extras.txt")
    assert runtime.items() <= extras.items()
    assert extras.items() <= pins("dev.txt").items()
    wanted = [PROJECT["optional-dependencies"][name] for name in ("otel", "postgres", "redis")]
    assert {re.split(r"[\[>]", line)[0] for lines in wanted for line in lines} <= extras.keys()


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text()
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", text))


def test_the_example_of_an_environment_names_settings_and_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (ROOT / "deploy" / "env.example").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    settings = settings_from({name: value for name, _, value in pairs}, tmp_path, monkeypatch)
    assert settings.isolation == "auto"
    assert settings.secret_values() == ()


def test_all_yaml_is_tidy() -> None:
    linted = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", ".", str(SECRET)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
