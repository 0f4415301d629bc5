"""`python -m workflow_backend.engines.temporal.worker`: makes attempts for a server elsewhere.

It polls a task queue until SIGTERM or SIGINT; then it takes nothing more, lets what runs end for a
grace time, ends the rest, which other workers make again, and goes. Its settings are those of the
backend. Exit codes: 0 ended in order; 2 it cannot start, one line on stderr says why.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from dataclasses import replace

from workflow_backend.engine_choice import step_settings_of, temporal_settings, traced_by
from workflow_backend.engines.base import EngineBusyError, EngineUnavailableError, Executor
from workflow_backend.engines.temporal.dev_server import running_cluster
from workflow_backend.engines.temporal.host import WorkerHost
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.options import TemporalSettings
from workflow_backend.engines.temporal.runners import Runners
from workflow_backend.log_mask import mask_log
from workflow_backend.process_guard import end_at_once, guard_process
from workflow_backend.secrets import SecretsError, open_secrets
from workflow_backend.settings import (
    SettingsError,
    load_settings,
    take_secret_variables,
    take_server_link,
)
from workflow_backend.steps.executor import StepExecutor
from workflow_backend.steps.isolation import IsolationError
from workflow_backend.tracing import TracingError

_PAUSE_SECONDS = 0.1
_CANNOT_START = (
    SettingsError,
    SecretsError,
    TracingError,
    IsolationError,
    EngineUnavailableError,
    OSError,
)


def main() -> int:
    """Run the worker; the answer is the exit code."""
    options = _options()
    try:
        given = {} if options.max_steps is None else {"max_steps": options.max_steps}
        settings, variables = load_settings(given), take_secret_variables()
        server = take_server_link(settings, variables.key)
        logging.basicConfig(
            level=settings.log_level,
            stream=sys.stderr,
            format="%(asctime)s - %(levelname)s - %(name)s: %(message)s",
        )
        guard_process()
        secrets = open_secrets(settings.data_dir, settings.secrets_file, variables)
        mask_log(lambda: secrets.seen)
        chosen = replace(
            temporal_settings(settings),
            task_queue=options.task_queue,
            shutdown_grace_seconds=options.grace_seconds,
        )
        executor = StepExecutor(step_settings_of(settings, secrets, server))
        asyncio.run(run_worker(chosen, executor, traced_by(settings)(executor)))
    except _CANNOT_START as error:
        sys.stderr.write(f"workflow worker: {error}\n")
        return 2
    return 0


async def run_worker(settings: TemporalSettings, executor: StepExecutor, steps: Executor) -> None:
    """Poll until a signal ends it; `steps` is the executor, with what may be around it.

    Raises:
        EngineUnavailableError: There is no cluster to poll.
        IsolationError: Steps cannot be isolated as the settings demand.
    """
    cluster = settings.cluster or running_cluster(settings.data_dir)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    await steps.open()
    try:
        link = Link(cluster, settings.artefacts_dir, settings.call_timeout_seconds)
        host = WorkerHost(link, settings, steps, artefacts=executor.artefacts)
        host.start()
        telling = asyncio.create_task(_tell_when_ready(host, settings, link))
        try:
            await ending.wait()
        finally:
            telling.cancel()
            await host.stop()
    finally:
        await steps.close()


async def _tell_when_ready(host: WorkerHost, settings: TemporalSettings, link: Link) -> None:
    """Say so once the cluster knows that the queue is polled: from then on runs may name it."""
    while not await host.ready(60):
        continue
    cluster = link.cluster
    runners = Runners(await link.client(), settings, link.call_timeout)
    is_polled = False
    while not is_polled:
        await asyncio.sleep(_PAUSE_SECONDS)
        with contextlib.suppress(EngineUnavailableError, EngineBusyError):
            is_polled = await link.call(runners.is_polled(settings.task_queue))
    sys.stdout.write(
        f"workflow worker: polls {settings.task_queue!r} in {cluster.namespace!r} of"
        f" {cluster.host}, {settings.max_attempts} steps at a time\n"
    )
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="workflow worker")
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--grace-seconds", type=float, default=20.0)
    return parser.parse_args()


if __name__ == "__main__":
    end_at_once(main())
