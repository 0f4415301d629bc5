"""The settings: read once, from options, the environment and a file, in this order.

This is the one module that reads the environment. Everything below `agent_server` takes plain
values, never `Settings`. An empty variable counts as one that is not set.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)
from typing_extensions import override

from agent_server.accounts.store_url import store_files
from agent_server.engine_settings import EngineName, EngineSettings
from agent_server.provider_variables import by_field
from agent_server.setting_names import PREFIX, SettingNames, SettingsError
from agent_server.setting_types import LocalPath, Seconds, Secret, UpperCase, Words

# What follows is the name of a secret that steps may name.
SECRET_PREFIX = f"{PREFIX}SECRET_"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

# What a child of ours may inherit: nothing that holds a key.
INHERITED_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT",
)  # fmt: skip
# What the workflow backend is told, by the names that the server reads.
BACKEND_FIELDS = (
    "data_dir", "isolation", "http_allow", "secrets_file", "max_runs", "max_steps",
    "step_timeout_seconds", "step_output_bytes", "step_log_bytes", "artefacts_dir",
    "artefact_bytes", "run_artefact_bytes", "policy_file", "otel", "engine", "runners",
    "temporal_host", "temporal_namespace", "temporal_api_key", "temporal_tls", "temporal_tls_ca",
    "temporal_tls_cert", "temporal_tls_key", "temporal_dev_server", "temporal_task_queue",
    "secret_key",
)  # fmt: skip


def _data_home() -> Path:
    home = os.environ.get("XDG_DATA_HOME")  # noqa: TID251
    return (Path(home) if home else Path.home() / ".local" / "share") / "agent-server"


class Settings(EngineSettings):
    """Every setting, with its default, its bounds and what it does."""

    agent: Annotated[
        bool, Field(description="Whether the workflow agent is served; else the gateway alone.")
    ] = True
    workflow_mode: Annotated[
        Literal["run", "plan"],
        Field(description="The most that the agent may do: run workflows, or only plan them."),
    ] = "run"
    max_turns: Annotated[
        int, Field(ge=1, le=1000, description="Model turns of one agent answer.")
    ] = 24
    max_tool_calls: Annotated[
        int, Field(ge=1, le=10_000, description="Tool calls of one agent answer.")
    ] = 64
    max_wall_seconds: Annotated[
        Seconds, Field(description="How long one agent answer may take.")
    ] = 3600.0
    max_tokens: Annotated[
        int, Field(ge=1, description="Tokens of all model turns of one agent answer.")
    ] = 1_000_000

    data_dir: Annotated[
        LocalPath,
        Field(
            default_factory=_data_home,
            description="Where the journal and the lock file are; one server at a time.",
        ),
    ]
    engine: Annotated[
        EngineName,
        Field(description="The engine that new runs go to; a run stays where it began."),
    ] = "journal"
    isolation: Annotated[
        Literal["auto", "bwrap", "none"],
        Field(
            description="What a step may touch. `auto` is bubblewrap where it is installed; with "
            "API keys configured, `none` must be chosen.",
        ),
    ] = "auto"
    http_allow: Annotated[
        Words,
        Field(description="Private hosts or networks that `http` steps may reach."),
    ] = ()
    secrets_file: Annotated[
        LocalPath | None,
        Field(description="File of the secrets that steps may name; readable by its owner alone."),
    ] = None
    policy_file: Annotated[
        LocalPath | None,
        Field(description="File of the [rules](workflows.md#policy) for every plan and run."),
    ] = None
    secret_key: Annotated[
        Secret,
        Field(
            validation_alias="SECRET_KEY",
            description="Key of the [encrypted store of secrets](secrets.md), which lies in the "
            "data folder: 8 characters at least.",
        ),
    ] = None
    max_runs: Annotated[
        int, Field(ge=1, le=1000, description="Workflow runs at the same time; others wait.")
    ] = 32
    max_steps: Annotated[
        int, Field(ge=1, le=1000, description="Steps of all runs at the same time.")
    ] = 16
    step_timeout_seconds: Annotated[
        Seconds, Field(description="Longest time of one attempt at a step.")
    ] = 3600.0
    step_output_bytes: Annotated[
        int, Field(ge=1024, description="Output of one attempt that is kept: its head and tail.")
    ] = 256 * 1024
    step_log_bytes: Annotated[
        int,
        Field(ge=1024, description="Most bytes of an attempt's log, which holds a long output."),
    ] = 64 * 1024 * 1024
    artefacts_dir: Annotated[
        LocalPath | None,
        Field(
            description="Where [artefacts and logs](artefacts.md) are kept; `artefacts` in the "
            "data folder."
        ),
    ] = None
    artefact_bytes: Annotated[
        int, Field(ge=1024, description="Most bytes of one artefact of a step.")
    ] = 256 * 1024 * 1024
    run_artefact_bytes: Annotated[
        int, Field(ge=1024, description="Most bytes of all artefacts and logs of one run.")
    ] = 1024 * 1024 * 1024
    mcp_config: Annotated[
        LocalPath | None,
        Field(description="JSON file of further MCP servers, in the usual `mcpServers` shape."),
    ] = None
    mcp_connect_timeout_seconds: Annotated[
        Seconds, Field(description="How long an MCP server may take to start.")
    ] = 20.0
    mcp_call_timeout_seconds: Annotated[
        Seconds,
        Field(description="How long a tool call may take; a workflow run has limits of its own."),
    ] = 120.0

    otel: Annotated[
        bool,
        Field(
            description="Whether traces and metrics are sent by OTLP over HTTP, as the `OTEL_*` "
            "variables say. Needs `agent-server[otel]`.",
        ),
    ] = False
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        UpperCase,
        Field(
            validation_alias="LOG_LEVEL",
            description="How much is logged. The text of requests appears at DEBUG alone.",
        ),
    ] = "INFO"
    log_format: Annotated[
        Literal["console", "json"],
        Field(validation_alias="LOG_FORMAT", description="Lines for people, or JSON objects."),
    ] = "console"
    mcp_debug: Annotated[
        bool,
        Field(
            validation_alias="MCP_DEBUG",
            description="Whether MCP messages and what MCP servers write to stderr are logged.",
        ),
    ] = False
    mcp_use_anonymized_telemetry: Annotated[
        bool,
        Field(
            validation_alias="MCP_USE_ANONYMIZED_TELEMETRY",
            description="Accepted and without effect: there is no telemetry.",
        ),
    ] = False

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options before the environment before the file."""
        path = init_settings().get("config_file") or env_settings().get("config_file")
        file = InitSettingsSource(settings_cls, _NAMES.read_file(Path(path)) if path else {})
        variables = InitSettingsSource(settings_cls, by_field(os.environ))  # noqa: TID251
        return init_settings, env_settings, variables, file

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host.strip("[]") in LOOPBACK_NAMES or self.host.startswith("127.")

    def secret_values(self) -> tuple[str, ...]:
        """The secrets of this process, for the log to mask."""
        values = [getattr(self, name) for name in type(self).model_fields]
        values += self.provider_keys.values()
        return (
            *(
                value.get_secret_value()
                for value in values
                if isinstance(value, SecretStr) and value.get_secret_value()
            ),
            *secret_variables().values(),
        )

    def backend_environment(
        self, *, is_keyed: bool = False, hidden: Iterable[Path] = ()
    ) -> dict[str, str]:
        """The whole environment of the workflow backend; no key of a provider is in it.

        `is_keyed` tells of keys that are not in the settings, `hidden` of files that no step reads.
        """
        environment = child_environment()
        for name in BACKEND_FIELDS:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            if value is not None:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                environment[variable_of(name)] = text
        environment |= secret_variables()
        if self.engine == "kubiya" and self.kubiya_api_key is not None:
            environment[variable_of("kubiya_api_key")] = self.kubiya_api_key.get_secret_value()
            environment[variable_of("kubiya_base_url")] = self.kubiya_base_url
        if self.otel:
            environment |= telemetry_variables()
        files = (
            self.config_file, self.mcp_config, self.secrets_file, self.policy_file,
            self.gateway_config, self.temporal_tls_key, *self._store_files(), *hidden,
        )  # fmt: skip
        environment[f"{PREFIX}HIDDEN_PATHS"] = os.pathsep.join(str(file) for file in files if file)
        environment[f"{PREFIX}LOG_LEVEL"] = self.log_level
        environment[f"{PREFIX}REQUIRE_ISOLATION"] = str(bool(self.api_keys) or is_keyed).lower()
        return environment

    def _store_files(self) -> tuple[Path, ...]:
        return store_files(self.database_url.get_secret_value() if self.database_url else None)


def load_settings(**options: object) -> Settings:
    """The settings of this process; an option that is None was not given.

    Raises:
        SettingsError: a setting is out of its bounds, or the file cannot be read.
    """
    if f"{SECRET_PREFIX}KEY" in secret_variables():
        raise SettingsError(
            f"{SECRET_PREFIX}KEY: the key of the store of secrets is {variable_of('secret_key')}; "
            "a secret that is to be named KEY goes into the file or the store"
        )
    given = _NAMES.named({name: value for name, value in options.items() if value is not None})
    try:
        return Settings(**given)  # type: ignore[arg-type]  # names are checked by the model
    except ValidationError as exc:
        raise SettingsError("\n".join(_NAMES.complaints(exc))) from None


def variable_of(name: str) -> str:
    """The environment variable of a field."""
    return _NAMES.variable_of(name)


def child_environment() -> dict[str, str]:
    """What any child of ours inherits: the few variables that it cannot do without."""
    return {name: os.environ[name] for name in INHERITED_VARIABLES if os.environ.get(name)}  # noqa: TID251


def telemetry_variables() -> dict[str, str]:
    """The variables that say where telemetry goes."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251
        if name.startswith("OTEL_") and value
    }


def secret_variables() -> dict[str, str]:
    """The variables that are secrets of workflows: no setting, and the backend's alone."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251
        if name.startswith(SECRET_PREFIX) and value
    }


def named_environment() -> Mapping[str, str]:
    """The variables that the operator's files may name as `${NAME}`."""
    return os.environ  # noqa: TID251


def unknown_variables() -> list[str]:
    """Variables that begin like ours but are no setting, such as a misspelt one."""
    known = {variable_of(name) for name in Settings.model_fields}
    return sorted(
        name
        for name in os.environ  # noqa: TID251
        if name.startswith(PREFIX) and name not in known and not name.startswith(SECRET_PREFIX)
    )


_NAMES = SettingNames(Settings.model_fields)
