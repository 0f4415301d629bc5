"""The settings of the server as a gateway: its doors, the providers, keys, usage and money."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agent_server.setting_names import PREFIX
from agent_server.setting_types import ApiKeys, LocalPath, Seconds, Secret, Words


class GatewaySettings(BaseSettings):
    """The first part of `Settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
    )

    config_file: Annotated[
        LocalPath | None,
        Field(description="A TOML file of settings, each by its name in lower case."),
    ] = None

    host: Annotated[
        str,
        Field(description="Address to listen on. `kubiya mcp agent` listens on 0.0.0.0 instead."),
    ] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    ] = 8000
    allowed_hosts: Annotated[
        Words,
        Field(description="Names, besides loopback's, by which clients may call the server."),
    ] = ()
    cors_origins: Annotated[
        Words, Field(description="Origins of web pages that may call the server.")
    ] = ()
    api_keys: Annotated[
        ApiKeys,
        Field(
            description="Who may call, as `name=sha256:<hex>;scopes=chat+run` entries; made by "
            "`agent-server hash-key`. Without any, everyone may, but only a server on loopback "
            "executes workflows.",
        ),
    ] = ()
    client_key: Annotated[
        Secret,
        Field(description="The key with which `chat`, `run` and `runs` call a server with keys."),
    ] = None
    max_body_bytes: Annotated[int, Field(ge=1024, description="Largest request body.")] = (
        10 * 1024 * 1024
    )
    max_concurrent_requests: Annotated[
        int, Field(ge=1, le=100_000, description="Requests at once; a further one gets a 503.")
    ] = 1000
    receive_timeout_seconds: Annotated[
        Seconds,
        Field(description="How long a client may take to send a request's head, and its body."),
    ] = 60.0
    keep_alive_seconds: Annotated[
        Seconds, Field(description="Silence in a stream after which a keep-alive is sent.")
    ] = 10.0
    stream_grace_seconds: Annotated[
        Seconds,
        Field(description="How long a stream's status is held back for an upstream's error."),
    ] = 10.0
    shutdown_grace_seconds: Annotated[
        Seconds, Field(description="How long running answers may go on after SIGTERM.")
    ] = 20.0

    provider: Annotated[
        str,
        Field(
            min_length=1,
            description="The default provider: one of [these](providers.md), or `auto`, which "
            "takes the first that is there.",
        ),
    ] = "auto"
    model: Annotated[
        str | None, Field(description="The default provider's model; else the provider's own.")
    ] = None
    base_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/]+",
            description="Where the default provider answers; with `openai`, any service that "
            "speaks OpenAI's format.",
        ),
    ] = None
    provider_api_key: Annotated[
        Secret, Field(description="Key of the default provider, instead of its own variable.")
    ] = None
    provider_keys: Annotated[
        dict[str, SecretStr],
        NoDecode,
        Field(repr=False, default_factory=dict, description="Keys by their own variables."),
    ]
    kubiya_api_key: Annotated[
        Secret,
        Field(
            validation_alias="KUBIYA_API_KEY",
            description="Kubiya's key, for the engine `kubiya`. It alone never moves execution "
            "away from this machine.",
        ),
    ] = None
    provider_urls: Annotated[
        dict[str, str],
        NoDecode,
        Field(default_factory=dict, description="Addresses by their own variables."),
    ]
    connect_timeout_seconds: Annotated[
        Seconds, Field(description="How long a connection to a provider may take.")
    ] = 10.0
    first_byte_timeout_seconds: Annotated[
        Seconds, Field(description="How long a provider may take until its answer begins.")
    ] = 120.0
    idle_timeout_seconds: Annotated[
        Seconds, Field(description="How long a provider may be silent within an answer.")
    ] = 120.0
    total_timeout_seconds: Annotated[
        Seconds, Field(description="How long one answer of a provider may take.")
    ] = 900.0
    max_retries: Annotated[
        int,
        Field(ge=0, le=10, description="Repeats of a provider's call before its first byte."),
    ] = 2
    gateway_config: Annotated[
        LocalPath | None,
        Field(description="YAML file of named models, their routes, providers, keys and prices."),
    ] = None

    database_url: Annotated[
        Secret,
        Field(
            description="The store of keys, usage and responses: `sqlite` for `server.db` in the "
            "data folder, or `postgresql://user:password@host/name`. Without it the store is that "
            "file if it is there, else there is none.",
        ),
    ] = None
    usage_retention_days: Annotated[
        int, Field(ge=1, le=3650, description="How long the usage of each call is kept.")
    ] = 90
    unknown_price: Annotated[
        Literal["block", "charge"],
        Field(
            description="What becomes of a model whose price is not known: a key with a budget may "
            "not call it, or it is charged as a dear one.",
        ),
    ] = "block"
    redis_url: Annotated[
        Secret,
        Field(
            description="Redis, by which several servers hold their limits and their response "
            "cache together: `redis://host:6379/0`. Without it each holds its own.",
        ),
    ] = None
    cache: Annotated[
        Literal["off", "memory", "redis"],
        Field(description="Where answers are kept for the same request of the same owner."),
    ] = "off"
    cache_ttl_seconds: Annotated[
        Seconds, Field(description="How long an answer is kept in the cache.")
    ] = 3600.0
    cache_max_bytes: Annotated[
        int, Field(ge=1024, description="Size of the cache in memory; the oldest answers go.")
    ] = 64 * 1024 * 1024
