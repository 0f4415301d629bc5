"""The settings of the engines beside the journal: Temporal's cluster and queues, Kubiya's API.

The backend reads the same variables; values are checked here, so that the server names a wrong one
before it starts anything.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo

from agent_server.gateway_settings import GatewaySettings
from agent_server.setting_types import LocalPath, Secret, Words


def _alone(is_wanted: bool, info: ValidationInfo) -> bool:
    if is_wanted and info.data.get("temporal_host") is not None:
        raise ValueError("a dev server and TEMPORAL_HOST exclude each other")
    return is_wanted


def _paired(key: Path | None, info: ValidationInfo) -> Path | None:
    if (key is None) != (info.data.get("temporal_tls_cert") is None):
        raise ValueError("TEMPORAL_TLS_CERT and TEMPORAL_TLS_KEY belong together")
    return key


def _reachable(engine: str, info: ValidationInfo) -> str:
    is_there = info.data.get("temporal_host") or info.data.get("temporal_dev_server")
    if engine == "temporal" and not is_there:
        raise ValueError(
            "temporal needs TEMPORAL_HOST, or AGENT_SERVER_TEMPORAL_DEV_SERVER=true for a server "
            "of its own"
        )
    if engine == "kubiya" and info.data.get("kubiya_api_key") is None:
        raise ValueError("kubiya needs KUBIYA_API_KEY")
    return engine


def _api_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise ValueError("must be an address such as https://api.kubiya.ai")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ValueError("must begin with https://, so that nobody reads the key")
    return url


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# Which engine new runs go to.
EngineName = Annotated[Literal["journal", "temporal", "kubiya"], AfterValidator(_reachable)]


class EngineSettings(GatewaySettings):
    """The second part of `Settings`."""

    temporal_host: Annotated[
        str | None,
        Field(
            validation_alias="TEMPORAL_HOST",
            pattern=r"^[^\s/:]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$",
            description="Temporal's cluster as `host:port`; see [temporal.md](temporal.md).",
        ),
    ] = None
    temporal_namespace: Annotated[
        str,
        Field(
            validation_alias="TEMPORAL_NAMESPACE",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            description="Namespace of the cluster.",
        ),
    ] = "default"
    temporal_api_key: Annotated[
        Secret,
        Field(
            validation_alias="TEMPORAL_API_KEY",
            description="Key of Temporal Cloud, or of a cluster that takes one. With it TLS is on.",
        ),
    ] = None
    temporal_tls: Annotated[
        bool,
        Field(validation_alias="TEMPORAL_TLS", description="Whether TLS is on without a key."),
    ] = False
    temporal_tls_ca: Annotated[
        LocalPath | None,
        Field(
            validation_alias="TEMPORAL_TLS_CA",
            description="PEM file of the authority that signed the cluster's certificate.",
        ),
    ] = None
    temporal_tls_cert: Annotated[
        LocalPath | None,
        Field(validation_alias="TEMPORAL_TLS_CERT", description="PEM file of our certificate."),
    ] = None
    temporal_tls_key: Annotated[
        LocalPath | None,
        AfterValidator(_paired),
        Field(validation_alias="TEMPORAL_TLS_KEY", description="PEM file of its private key."),
    ] = None
    temporal_dev_server: Annotated[
        bool,
        AfterValidator(_alone),
        Field(
            description="Whether the backend starts Temporal's dev server for itself, on this "
            "machine. Needs `agent-server[temporal-local]`.",
        ),
    ] = False
    temporal_task_queue: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="Task queue of the server itself; servers with the same one share runs.",
        ),
    ] = "agent-server"
    runners: Annotated[
        Words,
        Field(description="Further task queues that `runner` may name though nobody polls them."),
    ] = ()
    kubiya_base_url: Annotated[
        str,
        AfterValidator(_api_address),
        Field(
            validation_alias="KUBIYA_BASE_URL",
            description="Kubiya's API, for the engine `kubiya`; see [kubiya.md](kubiya.md).",
        ),
    ] = "https://api.kubiya.ai"
