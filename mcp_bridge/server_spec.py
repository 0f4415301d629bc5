"""What an MCP server is to the bridge: how to reach it, what it may offer, how long to wait."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["auto", "legacy", "2026-07-28"]

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_NAME: Final = re.compile(r"[^\W_][\w .-]{0,63}", re.ASCII)
_SECRET_NAME: Final = re.compile("KEY|TOKEN|SECRET|PASS|AUTH|CRED|DSN|DATABASE_URL", re.IGNORECASE)
_INHERITED: Final = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
]


class ServerSpecError(ValueError):
    """A server is described wrongly; the message says where, what and how to mend it."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """The waits in the life of a server, in seconds; the defaults suit production.

    A child that is asked to end gets `stdin_grace_seconds` after its stdin closed, then
    `term_grace_seconds` after SIGTERM, then SIGKILL and at most `kill_wait_seconds`; what is left
    of its group gets `sweep_grace_seconds` between SIGTERM and SIGKILL. A server that fails is
    started again after `backoff_first_seconds`, doubled each time up to `backoff_max_seconds`;
    having been ready for `healthy_after_seconds` it begins anew. After more than `fast_failures`
    failures in a row it counts as failed, and is tried every `failed_retry_seconds`.
    """

    stdin_grace_seconds: float = 2.0
    term_grace_seconds: float = 2.0
    kill_wait_seconds: float = 2.0
    sweep_grace_seconds: float = 0.5
    backoff_first_seconds: float = 0.25
    backoff_max_seconds: float = 30.0
    healthy_after_seconds: float = 30.0
    fast_failures: int = 8
    failed_retry_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One MCP server: a child process (`command`) or a URL (streamable HTTP).

    `env` is the whole environment of the child: see `inherited_environment`. `is_own` marks our own
    backend: its tools keep bare names, it alone gets the owner and `_meta`, and it is always
    required for readiness. `hidden_tools` are reached by `call_server` alone; a tool that the
    filters (shell patterns) leave out is not reached at all. A call waits `ready_wait_seconds` for
    a server that is starting; `call_timeout_seconds` bounds the call as a whole. A server is
    replaced if it answers nothing for `heartbeat_timeout_seconds` after a heartbeat. Over stdio no
    line may be longer than `max_line_bytes`, over HTTP no event and no body.
    `tools_sha256` pins the listing: another one is refused.

    Raises:
        ServerSpecError: a field is out of its range.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    is_own: bool = False
    hidden_tools: frozenset[str] = frozenset()
    include_tools: tuple[str, ...] = ("*",)
    exclude_tools: tuple[str, ...] = ()
    required: bool = False
    mode: Mode = "auto"
    connect_timeout_seconds: float = 30.0
    call_timeout_seconds: float = 300.0
    ready_wait_seconds: float = 15.0
    heartbeat_seconds: float = 15.0
    heartbeat_timeout_seconds: float = 20.0
    max_in_flight: int = 64
    max_waiting: int = 1024
    max_line_bytes: int = 1024 * 1024
    tools_sha256: str | None = None
    allow_new_privileges: bool = False
    pacing: Pacing = Pacing()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ServerSpecError(f"MCP server {self.name!r}: {problem}")

    def _problem(self) -> str | None:
        if not _NAME.fullmatch(self.name):
            return (
                "the name must be 1 to 64 letters, digits, spaces or . _ -, a letter or digit first"
            )
        if bool(self.command) == bool(self.url):
            return "give either a command or a url"
        if self.mode not in get_args(Mode):
            return f"mode must be one of {', '.join(get_args(Mode))}, not {self.mode!r}"
        if not 1024 <= self.max_line_bytes <= MAX_LINE_BYTES:
            return f"max_line_bytes must be from 1024 to {MAX_LINE_BYTES}"
        if self.tools_sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.tools_sha256):
            return "tools_sha256 must be 64 lower-case hex digits"
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                return f"{name} must be greater than 0"
        return self._url_problem()

    def _url_problem(self) -> str | None:
        if self.url is None:
            return None
        if not re.match(r"https?://[^/?#]", self.url):
            return "the url must begin with http:// or https://"
        if "@" in re.split("[/?#]", self.url, maxsplit=3)[2]:
            return "the url must hold no credentials: put them into headers"
        return None

    @property
    def is_required(self) -> bool:
        """Whether readiness waits for this server."""
        return self.required or self.is_own

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must never stand in a log or an error.

        Of a foreign server that is its whole environment; of ours, what is named like a secret.
        """
        names = [
            name
            for name in self.env
            if name not in _INHERITED and (not self.is_own or _SECRET_NAME.search(name))
        ]
        headers = [part for value in self.headers.values() for part in (value, *value.split())]
        return (*(self.env[name] for name in names), *headers)


def inherited_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child may inherit: where programs, home and certificates are, and the language."""
    return {name: environment[name] for name in _INHERITED if name in environment}


_POSITIVE: Final = (
    "connect_timeout_seconds",
    "call_timeout_seconds",
    "ready_wait_seconds",
    "heartbeat_seconds",
    "heartbeat_timeout_seconds",
    "max_in_flight",
    "max_waiting",
)
