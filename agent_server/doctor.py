"""What can be wrong with an installation, and the mend: each cause of the guide and of ours.

Every check is a function from the settings to findings; `LOCAL_CHECKS` lists those that ask this
machine alone. Nothing is changed but for a file that is written and taken away again.
"""

import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, TypeAlias

from agent_server.data_dir import LOCK_NAME, owner_of
from agent_server.gateway.config_nodes import ConfigFileError
from agent_server.gateway.configured import GatewayMaker
from agent_server.listener import StartError, bind
from agent_server.mcp_servers import McpConfigError, mcp_servers
from agent_server.provider_choice import ProviderChoiceError, choose_provider
from agent_server.settings import (
    Settings,
    child_environment,
    unknown_variables,
    variable_of,
)
from providers.registry import ProviderConfigError
from providers.upstream import Upstream

State: TypeAlias = Literal["ok", "note", "broken"]
Check: TypeAlias = Callable[[Settings], "Iterator[Finding]"]

COMMAND_SECONDS = 10.0
OLDEST_PYTHON = (3, 11)
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `mend` says what to do, and is empty where nothing is wrong."""

    title: str
    state: State
    detail: str
    mend: str = ""


def check_python(_settings: Settings) -> Iterator[Finding]:
    """The interpreter and the packages that the server needs."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("Python", "broken", found, "use Python 3.11 or newer")
    missing = []
    for line in requires("agent-server") or []:
        name = _REQUIREMENT.match(line)
        if name is None or ";" in line:
            continue
        try:
            version(name[0])
        except PackageNotFoundError:
            missing.append(name[0])
    if missing:
        yield Finding("Packages", "broken", f"missing: {', '.join(missing)}", "run `make setup`")
    else:
        yield Finding("Python", "ok", f"{found}, all packages installed")


def check_variables(_settings: Settings) -> Iterator[Finding]:
    """Variables that look like ours and are not."""
    for name in unknown_variables():
        mend = "correct its name, see docs/configuration.md, or unset it"
        yield Finding("Settings", "note", f"{name} is no setting", mend)


def check_provider(settings: Settings) -> Iterator[Finding]:
    """Which provider it is, and whether its key is set ("Failed to initialize MCP agent")."""
    try:
        choice = choose_provider(settings)
    except ProviderChoiceError as exc:
        yield Finding("Provider", "broken", str(exc), "mend what the line says, or use auto")
        return
    yield Finding("Provider", "ok", f"{choice.provider} ({choice.reason})")
    if settings.kubiya_api_key and settings.engine != "kubiya":
        detail = f"{variable_of('kubiya_api_key')} is set; workflows still run on this machine"
        yield Finding("Kubiya", "note", detail)


def check_access(settings: Settings) -> Iterator[Finding]:
    """Whether workflows may be executed for those who can call."""
    if settings.api_keys:
        names = ", ".join(key.name for key in settings.api_keys)
        yield Finding("Access", "ok", f"keys of {names}")
    elif settings.is_loopback:
        yield Finding("Access", "ok", "without keys, from this machine alone")
    else:
        yield Finding(
            "Access",
            "note",
            f"listens on {settings.host} without keys: workflows are planned, never run",
            f"set {variable_of('api_keys')} (agent-server hash-key makes an entry)",
        )
    if settings.workflow_mode == "plan":
        detail = f"{variable_of('workflow_mode')}=plan: workflows are planned, never run"
        yield Finding("Access", "note", detail)


def check_port(settings: Settings) -> Iterator[Finding]:
    """Whether the port can be had."""
    owner = owner_of(settings.data_dir)
    try:
        bind(settings.host, settings.port).close()
    except StartError as exc:
        if owner and owner.url.endswith(f":{settings.port}"):
            yield Finding("Port", "ok", f"{settings.port} is our running server's ({owner.url})")
        else:
            mend = "stop what listens there, or choose another --port"
            yield Finding("Port", "broken", str(exc), mend)
    else:
        yield Finding("Port", "ok", f"{settings.port} on {settings.host} is free")


def check_data_dir(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written, and who holds it."""
    data_dir = settings.data_dir
    mend = "choose another with --data-dir or AGENT_SERVER_DATA_DIR"
    place = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as exc:
        yield Finding("Data folder", "broken", f"cannot write {place}: {exc.strerror}", mend)
        return
    owner = owner_of(data_dir)
    if owner is None:
        yield Finding("Data folder", "ok", f"{data_dir} is writable and free")
    else:
        detail = f"{data_dir} is held by the server with pid {owner.pid} at {owner.url}"
        yield Finding("Data folder", "note", f"{detail} ({LOCK_NAME})", "start no second one on it")


def check_isolation(settings: Settings) -> Iterator[Finding]:
    """Whether steps can be isolated as configured."""
    if settings.isolation == "none":
        detail = "none: steps may do whatever this user may"
        yield Finding("Isolation", "note", detail, "install bubblewrap and set auto")
        return
    wanted = settings.isolation == "bwrap" or bool(settings.api_keys)
    state: State = "broken" if wanted else "note"
    if shutil.which("bwrap") is None:
        mend = "install bubblewrap (Debian: apt-get install bubblewrap)"
        if wanted:
            mend += f", or set {variable_of('isolation')}=none if all callers are trusted"
        yield Finding("Isolation", state, "bwrap is not installed: steps are not isolated", mend)
        return
    # A container that masks parts of /proc lets all of this work but a /proc of one's own.
    view = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    bwrap = ["bwrap", *view, "--unshare-all", "true"]
    try:
        run = subprocess.run(  # noqa: S603 - a fixed command
            bwrap,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            env=child_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        yield Finding("Isolation", state, f"bwrap cannot be run: {exc}", "reinstall bubblewrap")
        return
    if run.returncode:
        said = run.stderr.decode("utf-8", "replace").strip()
        mend = (
            "allow unprivileged user namespaces (kernel.unprivileged_userns_clone, AppArmor); in a "
            "container see docs/deployment.md"
        )
        yield Finding("Isolation", state, f"bwrap does not work here: {said}", mend)
    else:
        yield Finding("Isolation", "ok", "bubblewrap works")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Whether the files that the settings name can be read."""
    try:
        names = [spec.name for spec in mcp_servers(settings)]
    except McpConfigError as exc:
        mend = 'write {"mcpServers": {"name": {"command": "...", "args": []}}}'
        yield Finding("MCP servers", "broken", str(exc), mend)
    else:
        yield Finding("MCP servers", "ok", ", ".join(names))
    if settings.secrets_file:
        yield _check_secrets_file(settings.secrets_file)
    if settings.gateway_config:
        yield _check_gateway_file(settings)


def _check_gateway_file(settings: Settings) -> Finding:
    path = settings.gateway_config
    try:
        maker = GatewayMaker(settings, Upstream())
        file = maker.read()
        maker.make(file)
    except (ConfigFileError, ProviderChoiceError, ProviderConfigError) as exc:
        mend = "correct it; docs/routing.md tells every field"
        return Finding(
            "Gateway file", "broken", f"{path}: {'; '.join(str(exc).splitlines())}", mend
        )
    names = ", ".join(file.plans) or "no models"
    return Finding("Gateway file", "ok", f"{names} ({path})")


def _check_secrets_file(path: Path) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        path.open("rb").close()
    except OSError as exc:
        mend = f"correct {variable_of('secrets_file')}, or make the file readable for this user"
        return Finding("Secrets file", "broken", f"cannot read {path}: {exc.strerror}", mend)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        mend = f"chmod 600 {path}"
        return Finding("Secrets file", "broken", f"{path} is open to others ({mode:o})", mend)
    return Finding("Secrets file", "ok", str(path))


LOCAL_CHECKS: tuple[Check, ...] = (
    check_python,
    check_variables,
    check_provider,
    check_access,
    check_port,
    check_data_dir,
    check_isolation,
    check_files,
)
