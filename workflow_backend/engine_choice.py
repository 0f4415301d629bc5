"""The engines of a backend, as its settings choose them, and the executors of their steps.

The journal is always opened: its runs go on there, whatever the default is now. `temporalio` is
imported only where a cluster is configured.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_backend.artefacts import ArtefactLimits
from workflow_backend.engines.base import Engine, Executor
from workflow_backend.engines.journal import JournalBrokenError, JournalEngine, JournalSettings
from workflow_backend.engines.router import EngineRouter
from workflow_backend.secrets import Secrets
from workflow_backend.settings import BackendSettings, SettingsError
from workflow_backend.steps.executor import StepExecutor, StepSettings
from workflow_backend.steps.limits import StepLimits
from workflow_backend.steps.server_link import ServerLink
from workflow_backend.tracing import traced
from workflow_backend.version import VERSION

if TYPE_CHECKING:
    from workflow_backend.engines.kubiya.engine import KubiyaEngine
    from workflow_backend.engines.temporal.options import TemporalSettings

# As in `engines.kubiya.engine`, which is not imported to look for it.
KUBIYA_FILE = "kubiya.db"
Wrap = Callable[[StepExecutor], Executor]
_EXTRA = "Temporal needs its SDK: pip install 'agent-server[temporal]'"


@dataclass(frozen=True, slots=True)
class Engines:
    """What was opened: the engines as one, the journal, and an executor of this machine."""

    engine: Engine
    journal: JournalEngine
    executor: StepExecutor
    kubiya: "KubiyaEngine | None" = None

    async def failure(self) -> JournalBrokenError:
        """Wait until a file of runs cannot be written any more, and give the reason."""
        kept = [self.journal.failure(), *([self.kubiya.failure()] if self.kubiya else [])]
        tasks = [asyncio.ensure_future(failure) for failure in kept]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def open_engines(
    settings: BackendSettings, step_settings: StepSettings, wrap: Wrap = lambda executor: executor
) -> AsyncIterator[Engines]:
    """The engines, open; `wrap` puts something around each executor.

    Raises:
        SettingsError: The default engine has no cluster, or lacks its package.
        EngineUnavailableError: The dev server of Temporal does not start.
        IsolationError: Steps cannot be isolated as the settings demand.
        JournalBrokenError: The journal cannot be read.
        JournalLockedError: Another process uses the data folder.
    """
    executor = StepExecutor(step_settings)
    journal = JournalEngine(
        JournalSettings(
            data_dir=settings.data_dir,
            max_running_runs=settings.max_runs,
            max_running_attempts=settings.max_steps,
            artefacts=executor.artefacts,
        ),
        wrap(executor),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(journal)
        engines: list[Engine] = [journal]
        if has_temporal(settings):
            module = _temporal("engine")
            temporal = module.TemporalEngine(
                temporal_settings(settings),
                wrap(StepExecutor(step_settings)),
                executor.artefacts,
            )
            engines.append(await stack.enter_async_context(temporal))
        elif settings.engine == "temporal":
            raise SettingsError(
                "AGENT_SERVER_ENGINE: temporal needs TEMPORAL_HOST, or"
                " AGENT_SERVER_TEMPORAL_DEV_SERVER=true"
            )
        kubiya = None
        if has_kubiya(settings):
            kubiya = await stack.enter_async_context(_kubiya(settings))
            engines.append(kubiya)
        engines.sort(key=lambda engine: engine.name != settings.engine)
        yield Engines(EngineRouter(engines[0], engines[1:]), journal, executor, kubiya)


def step_settings_of(
    settings: BackendSettings, secrets: Secrets, server: ServerLink | None
) -> StepSettings:
    """How steps run on this machine; `server` is whom agent steps ask."""
    return StepSettings(
        data_dir=settings.data_dir,
        isolation=settings.isolation,
        require_explicit_none=settings.require_isolation,
        hidden_paths=(*settings.hidden_paths, *filter(None, [settings.policy_file])),
        allowed_hosts=settings.http_allow,
        secrets=secrets,
        server=server,
        limits=StepLimits(
            timeout_seconds=settings.step_timeout_seconds,
            stdout_characters=settings.step_output_bytes,
            log_bytes=settings.step_log_bytes,
        ),
        artefacts_dir=settings.artefacts_dir,
        artefact_limits=ArtefactLimits(settings.artefact_bytes, settings.run_artefact_bytes),
    )


def traced_by(settings: BackendSettings) -> Wrap:
    """What puts a span around each attempt, where spans are sent.

    Raises:
        TracingError: The packages of OpenTelemetry are missing.
    """
    if not settings.otel:
        return lambda executor: executor
    return lambda executor: traced(executor, VERSION)


def has_kubiya(settings: BackendSettings) -> bool:
    """Whether new runs go to Kubiya, or runs from before are kept that went there."""
    return settings.engine == "kubiya" or (settings.data_dir / KUBIYA_FILE).exists()


def has_temporal(settings: BackendSettings) -> bool:
    """Whether a cluster of Temporal is configured."""
    return settings.temporal_host is not None or settings.temporal_dev_server


def temporal_settings(settings: BackendSettings) -> "TemporalSettings":
    """The settings of the engine on Temporal, or of a worker.

    Raises:
        SettingsError: Its package is not installed.
    """
    options = _temporal("options")
    cluster = None
    if settings.temporal_host is not None:
        key = settings.temporal_api_key
        cluster = options.Cluster(
            host=settings.temporal_host,
            namespace=settings.temporal_namespace,
            api_key=key.get_secret_value() if key else None,
            tls=settings.temporal_tls,
            tls_ca=settings.temporal_tls_ca,
            tls_cert=settings.temporal_tls_cert,
            tls_key=settings.temporal_tls_key,
        )
    chosen: TemporalSettings = options.TemporalSettings(
        data_dir=settings.data_dir,
        artefacts_dir=artefacts_dir_of(settings),
        cluster=cluster,
        task_queue=settings.temporal_task_queue,
        runners=settings.runners,
        max_attempts=settings.max_steps,
    )
    return chosen


def artefacts_dir_of(settings: BackendSettings) -> Path:
    """The folder of artefacts, logs and large payloads."""
    return (settings.artefacts_dir or settings.data_dir / "artefacts").absolute()


def _kubiya(settings: BackendSettings) -> "KubiyaEngine":
    """The engine on Kubiya's API; without its key the runs from before can be read.

    Raises:
        SettingsError: New runs go there, and there is no key, or the address is none.
    """
    # Imported only where it is used: it brings an HTTP client.
    from workflow_backend.engines.kubiya.engine import (  # noqa: PLC0415
        KubiyaEngine,
        KubiyaSettings,
    )
    from workflow_backend.engines.kubiya.errors import KubiyaError  # noqa: PLC0415

    is_chosen = settings.engine == "kubiya"
    key = settings.kubiya_api_key.get_secret_value() if settings.kubiya_api_key else ""
    if is_chosen and not key:
        raise SettingsError("AGENT_SERVER_ENGINE: kubiya needs KUBIYA_API_KEY")
    try:
        return KubiyaEngine(
            KubiyaSettings(
                data_dir=settings.data_dir,
                base_url=settings.kubiya_base_url,
                api_key=key if is_chosen else "",
                max_running_runs=settings.max_runs,
            )
        )
    except KubiyaError as error:
        raise SettingsError(str(error)) from None


def _temporal(name: str) -> Any:
    try:
        return importlib.import_module(f"workflow_backend.engines.temporal.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "temporalio":
            raise
        raise SettingsError(f"AGENT_SERVER_ENGINE: {_EXTRA}") from None
