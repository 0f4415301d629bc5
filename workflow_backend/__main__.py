"""`python -m workflow_backend`: the workflow backend as an MCP server over stdio.

It ends when its standard input ends, at SIGTERM or SIGINT, or when its journal cannot be written
(disk full); runs that are under way then go on at the next start. Exit codes: 0 ended in order;
2 it cannot start or go on, one line on stderr says why.
"""

import asyncio
import logging
import signal
import sys

from workflow_backend.backend import REMOTE, Backend
from workflow_backend.definition.policy import NO_POLICY, PolicyError, read_policy
from workflow_backend.engine_choice import has_temporal, open_engines, step_settings_of, traced_by
from workflow_backend.engines.base import EngineUnavailableError
from workflow_backend.engines.journal import (
    JournalBrokenError,
    JournalLockedError,
    JournalVersionError,
)
from workflow_backend.hooks import Hooks
from workflow_backend.log_mask import mask_log
from workflow_backend.process_guard import end_at_once, guard_process
from workflow_backend.schedules.file import ScheduleFileError
from workflow_backend.secrets import Secrets, SecretsError, open_secrets
from workflow_backend.server import create_server, serve_stdio
from workflow_backend.settings import (
    BackendSettings,
    SettingsError,
    load_settings,
    take_secret_variables,
    take_server_link,
)
from workflow_backend.stdio import StdioError, check_stdio
from workflow_backend.steps.isolation import IsolationError
from workflow_backend.steps.server_link import ServerLink
from workflow_backend.tools.scheduled_starts import keeping_schedules
from workflow_backend.tracing import TracingError

_CANNOT_START = (
    SettingsError,
    SecretsError,
    PolicyError,
    TracingError,
    IsolationError,
    EngineUnavailableError,
    JournalLockedError,
    JournalVersionError,
    JournalBrokenError,
    ScheduleFileError,
    StdioError,
    OSError,
)


def main() -> int:
    """Run the backend; the answer is the exit code."""
    settings = None
    try:
        check_stdio()
        settings, variables = load_settings(), take_secret_variables()
        server = take_server_link(settings, variables.key)
        logging.basicConfig(
            level=settings.log_level,
            stream=sys.stderr,
            format="%(asctime)s - %(levelname)s - %(name)s: %(message)s",
        )
        guard_process()
        secrets = open_secrets(settings.data_dir, settings.secrets_file, variables)
        mask_log(lambda: secrets.seen)
        hooks = Hooks(settings.data_dir, variables.key)
        asyncio.run(run_backend(settings, secrets, hooks, server))
    except _CANNOT_START as error:
        sys.stderr.write(f"workflow backend: {error}\n")
        code = 2
    else:
        code = 0
    if settings is not None and has_temporal(settings):
        end_at_once(code)
    return code


async def run_backend(
    settings: BackendSettings, secrets: Secrets, hooks: Hooks, server: ServerLink | None = None
) -> None:
    """Open the engines and serve until the client or a signal ends it.

    `server` is whom agent steps ask.

    Raises:
        IsolationError: Steps cannot be isolated as the settings demand.
        JournalBrokenError: The journal cannot be read, or not be written any more.
        JournalLockedError: Another process uses the data folder.
        EngineUnavailableError: The dev server of Temporal does not start.
        PolicyError: The file of rules cannot be used.
    """
    policy = read_policy(settings.policy_file) if settings.policy_file else NO_POLICY
    step_settings = step_settings_of(settings, secrets, server)
    async with open_engines(settings, step_settings, traced_by(settings)) as engines:
        backend = Backend(
            engine=engines.engine,
            isolation=engines.executor.isolation if settings.engine != "kubiya" else REMOTE,
            hooks=hooks,
            artefacts=engines.executor.artefacts,
            secrets=secrets,
            policy=policy,
            has_server=server is not None,
            step_path=step_settings.base_env["PATH"],
            http_allow=settings.http_allow,
        )
        failing = asyncio.create_task(engines.failure())
        try:
            async with keeping_schedules(backend, settings.data_dir, server):
                await _serve_until_signal(backend, settings, failing)
        finally:
            failing.cancel()


async def _serve_until_signal(
    backend: Backend, settings: BackendSettings, failing: asyncio.Task[JournalBrokenError]
) -> None:
    serving = asyncio.create_task(serve_stdio(create_server(backend, settings.log_level), backend))

    def stop() -> None:
        backend.is_closing = True
        serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.wait([serving, failing], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        stop()
    try:
        await serving
    except asyncio.CancelledError:
        if not backend.is_closing:
            raise
    if failing.done():
        raise failing.result()


if __name__ == "__main__":
    sys.exit(main())
