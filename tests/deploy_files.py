"""The Dockerfile, read into what it says, and the settings that a container gets."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from agent_server.process import CLOSE_SECONDS
from agent_server.provider_variables import PROVIDER_NAMES
from agent_server.settings import Settings, load_settings, variable_of

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def dockerfile() -> list[tuple[str, str]]:
    """The instructions and what follows each, as one line, without comments."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    words = [line.partition(" ") for line in joined.splitlines() if line]
    return [(word, rest.strip()) for word, _, rest in words]


def image_words(instruction: str) -> list[str]:
    """The words of the last instruction of this name, which is written as a JSON list."""
    rest = dict(dockerfile())[instruction]
    words: list[str] = json.loads(rest[rest.index("[") :])
    return words


def image_environment() -> dict[str, str]:
    """The variables of the stage that runs."""
    return dict(pair.split("=", 1) for pair in dict(dockerfile())["ENV"].split())


def image_commands() -> list[str]:
    """Every command of a RUN, alone."""
    runs = [rest for word, rest in dockerfile() if word == "RUN"]
    return [command.strip() for run in runs for command in run.split("&&")]


def stop_seconds() -> float:
    """How long the server may take to end."""
    grace: float = Settings.model_fields["shutdown_grace_seconds"].default
    return grace + CLOSE_SECONDS


def settings_from(
    variables: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """What the server makes of these variables alone."""
    known = {variable_of(name) for name in Settings.model_fields}
    known |= {name.upper() for name in PROVIDER_NAMES}
    assert set(variables) <= known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings(data_dir=folder)
