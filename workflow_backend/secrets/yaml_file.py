"""Secrets of a YAML file: `NAME: value`, or `NAME: {value or file, keys, hosts}`."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from workflow_backend.definition.secret_rules import SecretRule, SecretRuleError, secret_rule
from workflow_backend.secrets.entries import Entry, SecretsError, is_name

MAX_FILE_BYTES = 1024 * 1024

_FIELDS = frozenset({"value", "file", "keys", "hosts"})


def read_secrets_file(path: Path) -> dict[str, Entry]:
    """The secrets that the YAML file names.

    A relative `file:` is meant from the folder of the YAML file.

    Raises:
        SecretsError: The file cannot be read, or an entry has another shape.
    """
    document = _document(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SecretsError(f"the secrets file {path} must be a mapping from name to value")
    return {_name(name, path): _entry(name, given, path) for name, given in document.items()}


def _document(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SecretsError(f"the secrets file {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise SecretsError(f"the secrets file {path} is over {MAX_FILE_BYTES} bytes")
    try:
        document: object = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        # The library's own message quotes the line, which may hold a value.
        raise SecretsError(f"the secrets file {path} is no valid YAML{where}") from None
    return document


def _name(name: object, path: Path) -> str:
    if isinstance(name, str) and is_name(name):
        return name
    raise SecretsError(
        f"the secrets file {path} has a name that is not made of letters, digits and _: {name!r}"
    )


def _entry(name: object, given: object, path: Path) -> Entry:
    place = f"the file {path}"
    if isinstance(given, str) and given:
        return Entry(given, "file", place)
    if not isinstance(given, dict) or not set(given) <= _FIELDS:
        raise _misshapen(name, path)
    return Entry(_value(name, given, path), "file", place, _rule(name, given, path))


def _value(name: object, given: Mapping[str, object], path: Path) -> str | Path:
    value, file = given.get("value"), given.get("file")
    if isinstance(value, str) and value and "file" not in given:
        return value
    if isinstance(file, str) and file and "value" not in given:
        return path.parent / file
    raise _misshapen(name, path)


def _rule(name: object, given: Mapping[str, object], path: Path) -> SecretRule:
    lists: dict[str, list[object]] = {}
    for field in ("keys", "hosts"):
        names = given.get(field)
        if field in given and not (isinstance(names, list) and names):
            raise SecretsError(
                f"the secret {name!r} in {path}: `{field}` must be a list of at least one name;"
                " leave it out to set no limit"
            )
        lists[field] = names if isinstance(names, list) else []
    try:
        return secret_rule(lists["keys"], lists["hosts"])
    except SecretRuleError as error:
        raise SecretsError(f"the secret {name!r} in {path}: {error}") from None


def _misshapen(name: object, path: Path) -> SecretsError:
    return SecretsError(
        f"the secret {name!r} in {path} must be a quoted text, or a mapping with `value` (a quoted"
        " text) or `file` (a path), and `keys` and `hosts` if it is to be limited"
    )
