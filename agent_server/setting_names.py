"""The names of settings: as variables, in the file, as options; and complaints that use them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from agent_server.provider_variables import PROVIDER_FIELDS, PROVIDER_NAMES, by_field

PREFIX = "AGENT_SERVER_"
# Settings whose names begin so may also stand in a table of the file.
TABLES = ("temporal",)
CONFIG_VARIABLE = f"{PREFIX}CONFIG_FILE"


class SettingsError(Exception):
    """A setting is wrong: one line for each, naming the variable and the reason."""


class SettingNames:
    """The names of the fields of a model of settings."""

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self._fields = fields

    def variable_of(self, name: str) -> str:
        """The environment variable of a field."""
        alias = self._fields[name].validation_alias
        return alias if isinstance(alias, str) else PREFIX + name.upper()

    def named(self, values: Mapping[str, object]) -> dict[str, object]:
        """Values by the names of settings, as the model takes them."""
        plain = {self._key_of(name): values[name] for name in values if name in self._fields}
        return plain | by_field({name.upper(): value for name, value in values.items()})

    def read_file(self, path: Path) -> dict[str, object]:
        """The values of a TOML file, as the model takes them.

        Raises:
            SettingsError: it cannot be read, or names what is no setting.
        """
        try:
            content = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise SettingsError(f"{CONFIG_VARIABLE}: cannot read {path}: {exc}") from None
        content = _flattened(content)
        known = {*self._fields, *PROVIDER_NAMES} - {"config_file", *PROVIDER_FIELDS}
        if unknown := sorted(set(content) - known):
            raise SettingsError(f"{path}: no such setting: {', '.join(unknown)}")
        return self.named(content)

    def complaints(self, error: ValidationError) -> list[str]:
        """A line for each setting that is wrong, without its value."""
        names = {self._key_of(name): name for name in self._fields}
        return [
            f"{self._variable_at(problem['loc'], names)}: {_reason(problem['msg'])}"
            for problem in error.errors(include_input=False, include_url=False)
        ]

    def _key_of(self, name: str) -> str:
        alias = self._fields[name].validation_alias
        return alias if isinstance(alias, str) else name

    def _variable_at(self, place: tuple[int | str, ...], names: Mapping[str, str]) -> str:
        name = names[str(place[0])]
        is_listed = name in PROVIDER_FIELDS and len(place) > 1
        return str(place[1]) if is_listed else self.variable_of(name)


def _flattened(content: Mapping[str, object]) -> dict[str, object]:
    """The values, where `dev_server` of a table `temporal` is the setting `temporal_dev_server`."""
    flat = {name: value for name, value in content.items() if name not in TABLES}
    for table in TABLES:
        values = content.get(table, {})
        values = values if isinstance(values, dict) else {"": values}
        flat |= {f"{table}_{name}": value for name, value in values.items()}
    return flat


def _reason(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
