"""All secrets of one server, from its environment, its file and its encrypted store.

Guarantee: a value is given only by `resolve`, for the names it is given and an owner who may have
them, and by what masks; no `repr`, error or log of this package holds one. A name that two sources
have is given by neither.
"""

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from typing_extensions import override

from workflow_backend.definition.secret_rules import NO_LIMITS, SecretRule
from workflow_backend.secrets.entries import Entry, SecretsError
from workflow_backend.secrets.store import KEY_VARIABLE, SecretStore
from workflow_backend.secrets.variables import read_variables
from workflow_backend.secrets.yaml_file import read_secrets_file

MIN_MASKED_CHARACTERS = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SecretVariables:
    """What the environment holds of secrets: the key of the store, and variables with values."""

    key: str | None = field(default=None, repr=False)
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class GrantedSecret:
    """A value for one attempt, and the limits that the attempt is held to."""

    value: str = field(repr=False)
    rule: SecretRule = NO_LIMITS


class Secrets:
    """The secrets of one server: names for everyone, values for the attempt that needs them."""

    def __init__(
        self,
        entries: Mapping[str, str | Path | Entry] | None = None,
        path: Path | None = None,
        store: SecretStore | None = None,
        also_masked: Iterable[str] = (),
    ) -> None:
        """`path` is the file of secrets; `also_masked` are further values that nobody may see."""
        self._fixed = {
            name: entry if isinstance(entry, Entry) else Entry(entry, "file", "the file")
            for name, entry in (entries or {}).items()
        }
        self._path = path
        self._store = store
        # Values that were replaced meanwhile stay masked: what a step kept of them is still there.
        self._seen = {value for value in also_masked if len(value) >= MIN_MASKED_CHARACTERS}

    @override
    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self.entries()))})"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold values."""
        files = [entry.value for entry in self._fixed.values() if isinstance(entry.value, Path)]
        found = (self._path, self._store.path if self._store else None, *files)
        return tuple(path for path in found if path)

    def entries(self) -> Mapping[str, Entry]:
        """Every secret as its source has it; a name of two sources has its fault."""
        if self._store is None:
            return self._fixed
        stored = self._store.current()
        return {**stored, **self._fixed, **_clashes(stored, self._fixed)}

    def rules(self, owner: str) -> dict[str, SecretRule]:
        """The limits of each secret that the owner may have, by its name, sorted."""
        entries = sorted(self.entries().items())
        return {name: entry.rule for name, entry in entries if entry.rule.allows_owner(owner)}

    def resolve(self, names: Iterable[str], owner: str) -> dict[str, GrantedSecret]:
        """The secrets of these names for an attempt of the owner's run, read now.

        Raises:
            SecretsError: The owner has no such secret, or its value cannot be had.
        """
        entries = self.entries()
        return {name: self._granted(name, entries, owner) for name in names}

    def to_mask(self, named: Mapping[str, str]) -> frozenset[str]:
        """What an attempt must not show: the values that it was given, and all others.

        A secret that another step left in a file of the run, or that a step without isolation
        found, is no less secret. Short values of others are left out: a port would mask all texts.
        """
        for name, entry in self.entries().items():
            value = named.get(name)
            with contextlib.suppress(SecretsError):
                value = entry.read(name) if value is None else value
                if len(value) >= MIN_MASKED_CHARACTERS:
                    self._seen.add(value)
        return self.seen.union(named.values())

    @property
    def seen(self) -> frozenset[str]:
        """The values, but for short ones, that were read so far."""
        return frozenset(self._seen)

    def _granted(self, name: str, entries: Mapping[str, Entry], owner: str) -> GrantedSecret:
        entry = entries.get(name)
        if entry is None or not entry.rule.allows_owner(owner):
            known = ", ".join(self.rules(owner)) or "none"
            raise SecretsError(
                f"there is no secret {name!r}; the server has: {known}. Add it by"
                f" `agent-server secrets set {name}`, or to the secrets file"
            )
        return GrantedSecret(entry.read(name), entry.rule)


def open_secrets(
    data_dir: Path, secrets_file: Path | None = None, variables: SecretVariables | None = None
) -> Secrets:
    """The secrets of a server, from all three sources.

    Raises:
        SecretsError: A source cannot be used, or two of them have the same name.
    """
    variables = variables or SecretVariables()
    store = SecretStore(data_dir, variables.key)
    stored, fixed = store.load(), fixed_entries(secrets_file, variables)
    for entry in _clashes(stored, fixed).values():
        raise SecretsError(entry.fault)
    if stored and not variables.key:
        _log.warning("%s is not set: the secrets in %s cannot be used", KEY_VARIABLE, store.path)
    secrets = Secrets(fixed, secrets_file, store, [variables.key] if variables.key else [])
    secrets.to_mask({})
    return secrets


def load_secrets(path: Path) -> Secrets:
    """The secrets of a YAML file alone.

    Raises:
        SecretsError: The file cannot be used.
    """
    return Secrets(read_secrets_file(path), path)


def fixed_entries(secrets_file: Path | None, variables: SecretVariables) -> dict[str, Entry]:
    """The secrets of file and environment, which stay as they are while a server runs.

    Raises:
        SecretsError: One of the two cannot be used, or both have the same name.
    """
    of_environment = read_variables(variables.values)
    of_file = read_secrets_file(secrets_file) if secrets_file else {}
    for entry in _clashes(of_file, of_environment).values():
        raise SecretsError(entry.fault)
    return {**of_environment, **of_file}


def _clashes(some: Mapping[str, Entry], others: Mapping[str, Entry]) -> dict[str, Entry]:
    """The names that two sources have."""
    found = {}
    for name in sorted(some.keys() & others.keys()):
        places = f"{others[name].place} and {some[name].place}"
        fault = f"the secret {name!r} is in two places, {places}; keep one of them"
        found[name] = replace(others[name], value="", fault=fault)
    return found
