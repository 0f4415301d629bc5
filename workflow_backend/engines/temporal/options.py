"""What the Temporal engine is told: where the cluster is, and what this machine may do for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

DEFAULT_NAMESPACE = "default"
DEFAULT_TASK_QUEUE = "agent-server"
# Timers of the dev server are late by up to this, where a cluster takes a second.
DEV_SERVER_OPTIONS = MappingProxyType({"history.timerProcessorMaxTimeShift": '"1ms"'})
# What `runner` may say for the server's own queue.
OWN_RUNNERS = frozenset({"local", "default"})


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Temporal cluster or Temporal Cloud, and how to speak to it.

    With an API key or a certificate, TLS is on; `tls` says so where there is neither.
    """

    host: str
    namespace: str = DEFAULT_NAMESPACE
    api_key: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return bool(self.tls or self.api_key or self.tls_ca or self.tls_cert)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        name = self.host.rpartition(":")[0].strip("[]")
        return name in {"localhost", "::1"} or name.startswith("127.")


@dataclass(frozen=True, slots=True)
class TemporalSettings:
    """One engine or worker: its cluster, its task queue and its bounds.

    `cluster` is None where the dev server on this machine is used, whose data and port are in
    `data_dir`. `artefacts_dir` holds large payloads and is the same folder for all who share the
    cluster. `runners` are task queues that exist though nobody polls them yet.

    A worker that is silent for `heartbeat_timeout_seconds` has lost its attempts; workflow code
    goes to another one after `sticky_seconds`, or `task_timeout_seconds` if it was under way.
    """

    data_dir: Path
    artefacts_dir: Path
    cluster: Cluster | None = None
    task_queue: str = DEFAULT_TASK_QUEUE
    runners: tuple[str, ...] = ()
    max_attempts: int = 16
    heartbeat_timeout_seconds: float = 4.0
    sticky_seconds: float = 5.0
    task_timeout_seconds: float = 10.0
    call_timeout_seconds: float = 10.0
    cancel_wait_seconds: float = 10.0
    shutdown_grace_seconds: float = 0.0
    retention_days: float = 30.0
    dev_server_options: Mapping[str, str] = field(default_factory=lambda: DEV_SERVER_OPTIONS)
