"""The connection to the cluster, and its faults in our own words.

Guarantees: every call is bounded in time; what temporalio raises for a cluster that is away, slow
or refuses us becomes an `EngineUnavailableError` that names the host and the mend.
"""

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import temporalio.api.workflowservice.v1 as workflow_service
import temporalio.converter
from temporalio.client import Client
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import (
    ConnectConfig,
    GrpcCompression,
    RetryConfig,
    RPCError,
    RPCStatusCode,
    TLSConfig,
)

from workflow_backend.engines.base import EngineBusyError, EngineUnavailableError
from workflow_backend.engines.temporal.claims import ClaimCodec, ClaimError
from workflow_backend.engines.temporal.options import Cluster
from workflow_backend.engines.temporal.payloads import JsonConverter

T = TypeVar("T")

# How often workers tell the cluster that they are there.
WORKER_BEAT_SECONDS = 10.0
_CORE_LOGGER = "temporalio.core"
_AWAY = frozenset(
    {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}
)
_CAUSE = re.compile(r'message: "([^"]+)"')
_REFUSED = frozenset({RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED})


class Link:
    """A cluster and, once it was reached, the client for it."""

    def __init__(self, cluster: Cluster, artefacts_dir: Path, call_timeout_seconds: float) -> None:
        self.cluster = cluster
        self.call_timeout = timedelta(seconds=call_timeout_seconds)
        self._artefacts_dir = artefacts_dir
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    @property
    def is_connected(self) -> bool:
        """Whether the cluster was reached once; the client itself connects again later."""
        return self._client is not None

    async def client(self) -> Client:
        """The client.

        Raises:
            EngineUnavailableError: The cluster cannot be reached, or has no such namespace.
        """
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def call(self, answer: Awaitable[T]) -> T:
        """The answer, within the time of one call.

        Raises:
            EngineUnavailableError: The cluster is away, or refuses us.
            RPCError: It answered that the call is wrong.
        """
        with self.explained():
            async with asyncio.timeout(2 * self.call_timeout.total_seconds()):
                return await answer

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Say of a cluster's fault what it is and how to mend it."""
        try:
            yield
        except TimeoutError as error:
            raise self._unavailable("it does not answer in time") from error
        except ClaimError as error:
            raise EngineUnavailableError(str(error)) from error
        except RPCError as error:
            raise self._explain(error) from error

    async def _connect(self) -> Client:
        cluster = self.cluster
        config = await asyncio.to_thread(self._config)
        try:
            async with asyncio.timeout(self.call_timeout.total_seconds()):
                client = await Client.connect(
                    cluster.host,
                    namespace=cluster.namespace,
                    api_key=cluster.api_key,
                    tls=config.tls or False,
                    retry_config=config.retry_config,
                    grpc_compression=config.grpc_compression,
                    connect_timeout=self.call_timeout,
                    data_converter=data_converter(self._artefacts_dir, cluster.namespace),
                    runtime=core_runtime(),
                )
        except (RuntimeError, TimeoutError) as error:
            raise self._unavailable(_first_cause(str(error))) from error
        request = workflow_service.DescribeNamespaceRequest(namespace=cluster.namespace)
        answer = client.workflow_service.describe_namespace(request, timeout=self.call_timeout)
        try:
            await self.call(answer)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise self._unavailable(error.message) from error
            raise EngineUnavailableError(
                f"the Temporal cluster at {cluster.host} has no namespace {cluster.namespace!r}:"
                " set TEMPORAL_NAMESPACE, or make it with"
                f" `temporal operator namespace create {cluster.namespace}`"
            ) from error
        return client

    def _config(self) -> ConnectConfig:
        """What the files of the settings hold; they are read at each try."""
        cluster = self.cluster
        tls = None
        if cluster.has_tls:
            tls = TLSConfig(
                server_root_ca_cert=_read(cluster.tls_ca, "TEMPORAL_TLS_CA"),
                client_cert=_read(cluster.tls_cert, "TEMPORAL_TLS_CERT"),
                client_private_key=_read(cluster.tls_key, "TEMPORAL_TLS_KEY"),
            )
        millis = int(self.call_timeout.total_seconds() * 1000)
        return ConnectConfig(
            cluster.host,
            tls=tls,
            retry_config=RetryConfig(max_elapsed_time_millis=millis),
            grpc_compression=GrpcCompression.NONE if cluster.is_loopback else GrpcCompression.GZIP,
        )

    def _explain(self, error: RPCError) -> Exception:
        if error.status in _AWAY:
            return self._unavailable(error.message)
        if error.status in _REFUSED:
            return EngineUnavailableError(
                f"the Temporal cluster at {self.cluster.host} refuses us in the namespace"
                f" {self.cluster.namespace!r} ({error.message}): check TEMPORAL_API_KEY,"
                " TEMPORAL_NAMESPACE and the certificates of TEMPORAL_TLS_*"
            )
        if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
            return EngineBusyError(
                f"the Temporal cluster is busy ({error.message}); try again in a moment"
            )
        return error

    def _unavailable(self, reason: str) -> EngineUnavailableError:
        return EngineUnavailableError(
            f"the Temporal cluster at {self.cluster.host} cannot be reached ({reason}): start it,"
            " or set TEMPORAL_HOST and the variables TEMPORAL_TLS* as it needs them"
        )


def data_converter(artefacts_dir: Path, namespace: str) -> temporalio.converter.DataConverter:
    """How values become payloads: JSON, compressed where that helps, large ones by reference."""
    return replace(
        temporalio.converter.default(),
        payload_converter_class=JsonConverter,
        payload_codec=ClaimCodec.of(artefacts_dir, namespace),
    )


@functools.cache
def core_runtime() -> Runtime:
    """The threads of the SDK, one set for a process; its log goes to ours.

    By default it writes to standard output, which belongs to MCP.
    """
    forwarding = LogForwardingConfig(logging.getLogger(_CORE_LOGGER))
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return Runtime(
        telemetry=TelemetryConfig(logging=LoggingConfig(levels, forwarding)),
        worker_heartbeat_interval=timedelta(seconds=WORKER_BEAT_SECONDS),
        disable_environment_info=True,
    )


def _first_cause(text: str) -> str:
    """What lies at the bottom of the SDK's nested text of an error."""
    causes = _CAUSE.findall(text)
    return causes[-1] if causes else text.strip()[:200] or "no answer in time"


def _read(path: Path | None, variable: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineUnavailableError(f"{variable}: cannot read {path}: {error.strerror}") from error
