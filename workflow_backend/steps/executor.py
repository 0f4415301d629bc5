"""Runs attempts: the one place where steps have effects.

Guarantees: every attempt ends with a result, within its timeout and the time it takes to end it;
texts in the result are masked; a cancelled attempt has ended its processes before it answers.
"""

import functools
import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from workflow_backend.artefacts import ArtefactLimits, ArtefactStore
from workflow_backend.definition.expression_tokens import ExpressionError
from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.engines.base import Artefact, AttemptResult, AttemptSpec, AttemptWatch
from workflow_backend.masking import Masker
from workflow_backend.secrets import Secrets, SecretsError
from workflow_backend.steps.addresses import AddressPolicy
from workflow_backend.steps.attempt import AttemptContext, AttemptEnd, AttemptRunner
from workflow_backend.steps.commands import CommandRunner
from workflow_backend.steps.isolation import Isolation, IsolationName, choose_isolation
from workflow_backend.steps.kept_files import KeptFiles
from workflow_backend.steps.limits import StepLimits
from workflow_backend.steps.reaper_link import ReaperLink
from workflow_backend.steps.run_folder import StepSetupError
from workflow_backend.steps.server_link import ServerLink

DEFAULT_BASE_ENV = MappingProxyType(
    {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
)


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How steps run on this machine.

    `hidden_paths` are hidden from `bwrap` steps besides the usual ones, such as the file of keys.
    `allowed_hosts`: host names, addresses or networks that `http` steps may reach though they are
    not public. `base_env`: PATH, LANG and TZ of every step; nothing else is inherited.
    `artefacts_dir`: where files are kept; without it `artefacts` in the data folder. `server` is
    whom `agent` steps ask.
    """

    data_dir: Path
    isolation: IsolationName = "auto"
    require_explicit_none: bool = False
    hidden_paths: tuple[Path, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    secrets: Secrets = field(default_factory=Secrets)
    base_env: Mapping[str, str] = field(default_factory=lambda: DEFAULT_BASE_ENV)
    limits: StepLimits = field(default_factory=StepLimits)
    artefacts_dir: Path | None = None
    server: ServerLink | None = None
    artefact_limits: ArtefactLimits = field(default_factory=ArtefactLimits)


class StepExecutor:
    """Runs the attempts of one engine: `open`, any number at once, `close`."""

    def __init__(self, settings: StepSettings) -> None:
        self._settings = settings
        self._reaper = ReaperLink()
        self._isolation: Isolation | None = None
        self._runners: dict[str, AttemptRunner] = {}
        folder = settings.artefacts_dir or settings.data_dir / "artefacts"
        self.artefacts = ArtefactStore(folder.absolute(), settings.artefact_limits)
        self._files = KeptFiles(settings.data_dir, self.artefacts)

    @property
    def isolation(self) -> str:
        """The name of the profile in use; empty before `open`."""
        return self._isolation.name if self._isolation else ""

    async def open(self) -> None:
        """Choose the isolation and start the reaper.

        Raises:
            IsolationError: The isolation that was asked for does not work here.
        """
        settings = self._settings
        _make_private(settings.data_dir)
        # That it can be made is found out now, and not by the first step that keeps a file.
        self.artefacts.prepare()
        self._isolation = await choose_isolation(
            settings.isolation,
            settings.data_dir,
            require_explicit_none=settings.require_explicit_none,
            hidden_paths=(
                *settings.hidden_paths,
                *settings.secrets.paths,
                self.artefacts.folder,
            ),
        )
        self._reaper.start()
        commands = CommandRunner(
            settings.data_dir.resolve(), settings.base_env, self._isolation, self._reaper
        )
        self._runners = {"run": commands.run, "python": commands.run}

    async def close(self) -> None:
        """End the reaper, and with it whatever it still watches."""
        self._reaper.close()
        self._runners.clear()

    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        """One attempt. Cancelling the task ends it, and the answer says `cancelled`."""
        started = time.monotonic()
        masker = _masker(self._settings.secrets.to_mask({}))
        log = self._files.log(self._settings.limits)
        artefacts: tuple[Artefact, ...] = ()
        try:
            names = (*spec.secrets, *((spec.sign_with,) if spec.sign_with else ()))
            granted = self._settings.secrets.resolve(names, spec.owner)
            secrets = {name: secret.value for name, secret in granted.items()}
            masker = _masker(self._settings.secrets.to_mask(secrets))
            rules = {name: secret.rule for name, secret in granted.items()}
            self._check_rules(spec, rules)
            limits = self._settings.limits
            timeout_seconds = min(
                spec.timeout_seconds or limits.timeout_seconds, limits.timeout_seconds
            )
            context = AttemptContext(
                spec, secrets, masker, limits, watch, timeout_seconds, log, rules
            )
            end = await self._runner(spec.step.kind)(context)
            end, artefacts = await self._files.keep(context, end)
        except (StepSetupError, SecretsError, ExpressionError) as error:
            end = AttemptEnd("failed", {"stdout": ""}, error=masker.mask(str(error)))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            end = AttemptEnd("failed", {"stdout": ""}, error=masker.mask(reason))
        finally:
            log.discard()
        return AttemptResult(
            status=end.status,
            outputs=end.outputs,
            exit_code=end.exit_code,
            error=end.error,
            duration_seconds=time.monotonic() - started,
            artefacts=artefacts,
        )

    def _check_rules(self, spec: AttemptSpec, rules: Mapping[str, SecretRule]) -> None:
        """Refuse a step that cannot be held to the limits of a secret that it names.

        Raises:
            StepSetupError: It is one; `http` steps are held to them request by request.
        """
        is_offline = self.isolation != "none" and not spec.step.network
        for name, rule in rules.items():
            if refusal := rule.refusal(spec.step.kind, is_offline=is_offline):
                raise StepSetupError(f"the secret {name!r} is withheld: {refusal}")

    def _runner(self, kind: str) -> AttemptRunner:
        if kind == "http" and kind not in self._runners:
            # At the first use: aiohttp costs every other start 15 MB and 0.15 s.
            module = importlib.import_module("workflow_backend.steps.http_step")
            policy = AddressPolicy(self._settings.allowed_hosts)
            runner: AttemptRunner = module.HttpRunner(policy, self._settings.server).run
            self._runners[kind] = runner
        if kind == "agent" and kind not in self._runners:
            module = importlib.import_module("workflow_backend.steps.agent_step")
            agents: AttemptRunner = module.AgentRunner(self._settings.server).run
            self._runners[kind] = agents
        try:
            return self._runners[kind]
        except KeyError:
            raise StepSetupError(
                "the step says what to do in words only (`needs_command`); give it `run`,"
                " `python`, `http` or `agent`"
            ) from None


@functools.lru_cache(maxsize=32)
def _masker(values: frozenset[str]) -> Masker:
    """The masker of these values; a key of many lines takes 0.1 s to prepare."""
    return Masker(values)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
