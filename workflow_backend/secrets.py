"""Secrets by name, from one YAML file: `NAME: value` or `NAME: {file: path}`.

Guarantee: a value is given only by `resolve`, for the names it is given, and by `to_mask`; no
`repr`, error or log of this module holds one. The environment of the server is never a source.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

MAX_FILE_BYTES = 1024 * 1024
MAX_VALUE_BYTES = 64 * 1024
MIN_MASKED_CHARACTERS = 8

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class SecretsError(Exception):
    """The file of secrets, or a secret that a step names, cannot be used; no value is shown."""


class Secrets:
    """The secrets of one server: names for everyone, values for the attempt that needs them."""

    def __init__(
        self, sources: Mapping[str, str | Path] | None = None, path: Path | None = None
    ) -> None:
        self._sources = dict(sources or {})
        self._path = path

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._sources))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold values."""
        files = [source for source in self._sources.values() if isinstance(source, Path)]
        return (self._path, *files) if self._path else tuple(files)

    def resolve(self, names: Iterable[str]) -> dict[str, str]:
        """The values of these secrets. One that is kept in a file is read now.

        Raises:
            SecretsError: A name is unknown, or its file cannot be read.
        """
        return {name: self._resolve_one(name) for name in names}

    def to_mask(self, named: Mapping[str, str]) -> frozenset[str]:
        """What an attempt must not show: the values that it was given, and all others.

        A secret that another step left in a file of the run, or that a step without isolation
        found, is no less secret. Short values of others are left out: a port would mask all texts.
        """
        values = set(named.values())
        for name in self._sources.keys() - named.keys():
            with contextlib.suppress(SecretsError):
                value = self._resolve_one(name)
                if len(value) >= MIN_MASKED_CHARACTERS:
                    values.add(value)
        return frozenset(values)

    def _resolve_one(self, name: str) -> str:
        source = self._sources.get(name)
        if source is None:
            known = ", ".join(self.names) or "none"
            raise SecretsError(
                f"there is no secret {name!r}; the server has: {known}. Add it to the secrets file"
            )
        if isinstance(source, str):
            return source
        try:
            with source.open("rb") as file:
                data = file.read(MAX_VALUE_BYTES + 1)
            value = data.decode().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SecretsError(
                f"the file {source} of the secret {name!r} cannot be read: {reason}"
            ) from None
        if len(data) > MAX_VALUE_BYTES:
            raise SecretsError(f"the file of the secret {name!r} is over {MAX_VALUE_BYTES} bytes")
        return value


def load_secrets(path: Path) -> Secrets:
    """The secrets that the YAML file names.

    A relative `file:` is meant from the folder of the YAML file.

    Raises:
        SecretsError: The file cannot be read, or an entry has another shape.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SecretsError(f"the secrets file {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise SecretsError(f"the secrets file {path} is over {MAX_FILE_BYTES} bytes")
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        # The library's own message quotes the line, which may hold a value.
        raise SecretsError(f"the secrets file {path} is no valid YAML{where}") from None
    if document is None:
        return Secrets(path=path)
    if not isinstance(document, dict):
        raise SecretsError(f"the secrets file {path} must be a mapping from name to value")
    sources = {_name(name, path): _source(name, entry, path) for name, entry in document.items()}
    return Secrets(sources, path)


def _name(name: object, path: Path) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise SecretsError(
        f"the secrets file {path} has a name that is not made of letters, digits and _: {name!r}"
    )


def _source(name: object, entry: object, path: Path) -> str | Path:
    if isinstance(entry, str) and entry:
        return entry
    if isinstance(entry, dict) and set(entry) == {"file"} and isinstance(entry["file"], str):
        return path.parent / entry["file"]
    raise SecretsError(f"the secret {name!r} in {path} must be a quoted text, or {{file: path}}")
