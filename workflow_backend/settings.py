"""The settings of the workflow backend: read once, from the environment (`AGENT_SERVER_*`)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workflow_backend.secrets.collection import SecretVariables
from workflow_backend.secrets.store import KEY_VARIABLE
from workflow_backend.secrets.variables import PREFIX as SECRET_PREFIX
from workflow_backend.steps.server_link import ServerLink, server_link

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_SIGNING_KEY = "AGENT_SERVER_RUN_TOKEN_KEY"


class SettingsError(Exception):
    """A setting cannot be used; the message names its variable."""


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"  # noqa: TID251 - this file reads it
    return Path(base).expanduser() / "agent-server"


class BackendSettings(BaseSettings):
    """What the backend is told; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="AGENT_SERVER_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of the journal and of the runs' folders.",
    )
    isolation: Literal["auto", "bwrap", "none"] = Field(
        default="auto",
        description="Isolation of `run` and `python` steps; `auto` is `bwrap` where it works.",
    )
    require_isolation: bool = Field(
        default=False,
        description="Refuse to start rather than fall back from `auto` to `none`; set by a server"
        " with API keys.",
    )
    http_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts, addresses or networks that `http` steps may reach though they are not"
        " public; separated by spaces or commas.",
    )
    secrets_file: Path | None = Field(
        default=None, description="YAML file of the secrets that steps may name."
    )
    policy_file: Path | None = Field(
        default=None, description="YAML file of rules that every plan and run is held to."
    )
    hidden_paths: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Files and folders that isolated steps do not see besides the usual ones;"
        " separated by colons.",
    )
    max_runs: int = Field(default=32, ge=1, le=1_000, description="Most runs at the same time.")
    max_steps: int = Field(
        default=16, ge=1, le=1_000, description="Most attempts of all runs at the same time."
    )
    step_timeout_seconds: float = Field(
        default=3_600.0, gt=0, description="Longest time of one attempt, also without `timeout`."
    )
    step_output_bytes: int = Field(
        default=256 * 1024, ge=1_024, description="Most output of one attempt that is kept."
    )
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        description="Where the server answers that agent steps ask.",
    )
    step_log_bytes: int = Field(
        default=64 * 1024**2,
        ge=1_024,
        description="Most bytes of the log of one attempt, which holds a long output whole.",
    )
    artefacts_dir: Path | None = Field(
        default=None, description="Folder of artefacts and logs; `artefacts` in the data folder."
    )
    artefact_bytes: int = Field(
        default=256 * 1024**2, ge=1_024, description="Most bytes of one artefact."
    )
    run_artefact_bytes: int = Field(
        default=1024**3, ge=1_024, description="Most bytes of artefacts and logs of one run."
    )
    engine: Literal["journal", "temporal", "kubiya"] = Field(
        default="journal", description="The engine that new runs go to."
    )
    runners: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Task queues that `runner` may name though nobody polls them."
    )
    temporal_host: str | None = Field(
        default=None, validation_alias="TEMPORAL_HOST", description="Cluster, as `host:port`."
    )
    temporal_namespace: str = Field(
        default="default", validation_alias="TEMPORAL_NAMESPACE", description="Its namespace."
    )
    temporal_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="TEMPORAL_API_KEY",
        description="Key of Temporal Cloud; with it TLS is on.",
        repr=False,
    )
    temporal_tls: bool = Field(
        default=False, validation_alias="TEMPORAL_TLS", description="TLS without a key."
    )
    temporal_tls_ca: Path | None = Field(
        default=None, validation_alias="TEMPORAL_TLS_CA", description="PEM file of the authority."
    )
    temporal_tls_cert: Path | None = Field(
        default=None, validation_alias="TEMPORAL_TLS_CERT", description="PEM file of our own."
    )
    temporal_tls_key: Path | None = Field(
        default=None, validation_alias="TEMPORAL_TLS_KEY", description="PEM file of its key."
    )
    temporal_dev_server: bool = Field(
        default=False, description="Whether Temporal's dev server runs here, for this process."
    )
    temporal_task_queue: str = Field(
        default="agent-server", description="Task queue of this server."
    )
    kubiya_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="KUBIYA_API_KEY",
        description="Key of Kubiya's API, for the engine of that name.",
        repr=False,
    )
    kubiya_base_url: str = Field(
        default="https://api.kubiya.ai",
        validation_alias="KUBIYA_BASE_URL",
        description="Where that API is.",
    )
    otel: bool = Field(
        default=False, description="Whether spans of attempts are sent by OTLP over HTTP."
    )
    log_level: LogLevel = Field(default="WARNING", description="Least level of a log line.")

    @field_validator("http_allow", "runners", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return _split(value.replace(",", " "), None) if isinstance(value, str) else value

    @field_validator("hidden_paths", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return _split(value, os.pathsep) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


def load_settings(given: Mapping[str, Any] | None = None) -> BackendSettings:
    """The settings, where `given` goes before the environment.

    Raises:
        SettingsError: A value is not valid; the message names each variable and why.
    """
    try:
        return BackendSettings(**(given or {}))
    except ValidationError as error:
        faults = [
            f"{_variable('_'.join(map(str, detail['loc'])))}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("; ".join(faults)) from None


def take_secret_variables() -> SecretVariables:
    """The key of the store, and the secrets of the environment.

    They are taken out of it, so that no child inherits one by mistake.
    """
    environment = os.environ  # noqa: TID251 - this file reads it
    names = [name for name in environment if name.startswith(SECRET_PREFIX)]
    values = {name: environment.pop(name) for name in names}
    return SecretVariables(environment.pop(KEY_VARIABLE, "") or None, values)


def take_server_link(settings: BackendSettings, phrase: str | None) -> ServerLink | None:
    """The server that agent steps ask, None where there is none; its key leaves the environment.

    `phrase` is `SECRET_KEY`, by which a worker on another machine has the server's key.

    Raises:
        SettingsError: The key is none.
    """
    key = os.environ.pop(_SIGNING_KEY, None)  # noqa: TID251 - this file reads it
    try:
        return server_link(settings.url, key, phrase)
    except ValueError as error:
        raise SettingsError(f"{_SIGNING_KEY}: {error}") from None


def _variable(name: str) -> str:
    """The variable of a field, or of its alias, which is a variable's name itself."""
    return name if name.isupper() else f"AGENT_SERVER_{name.upper()}"


def _split(text: str, separator: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())
