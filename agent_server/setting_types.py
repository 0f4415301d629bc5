"""The types of settings: how text of the environment becomes a value."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from agent_server.accounts.keys import ApiKey, parse_api_keys


def is_secret(field: FieldInfo) -> bool:
    """Whether a field's value must not be shown."""
    return not field.repr


def _words(value: object) -> object:
    """Split text at commas and white space; a list, as a file has it, stays one."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _key_entries(value: object) -> object:
    entries = _words(value)
    if not isinstance(entries, list):
        return entries
    if all(isinstance(entry, str) for entry in entries):
        return parse_api_keys(entries)
    raise ValueError("takes a list of entries")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
ApiKeys = Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_key_entries), Field(repr=False)]
LocalPath = Annotated[Path, AfterValidator(_absolute)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Secret = Annotated[SecretStr | None, Field(repr=False)]
UpperCase = BeforeValidator(_upper)
