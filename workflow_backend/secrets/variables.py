"""Secrets of environment variables: `AGENT_SERVER_SECRET_NAME` is the secret `NAME`."""

from collections.abc import Mapping

from workflow_backend.secrets.entries import MAX_VALUE_BYTES, Entry, SecretsError, is_name
from workflow_backend.secrets.store import KEY_VARIABLE

PREFIX = "AGENT_SERVER_SECRET_"


def read_variables(variables: Mapping[str, str]) -> dict[str, Entry]:
    """The secrets of these variables, of which each begins with the prefix.

    Raises:
        SecretsError: One is no name of a secret, or its value cannot be one.
    """
    return {
        _name(variable): Entry(_value(variable, value), "environment", f"the variable {variable}")
        for variable, value in variables.items()
        if value
    }


def _name(variable: str) -> str:
    name = variable.removeprefix(PREFIX)
    if name == "KEY":
        raise SecretsError(
            f"{variable}: the key of the encrypted store is {KEY_VARIABLE}; a secret that is to be"
            " named KEY goes into the file or the store"
        )
    if not is_name(name):
        raise SecretsError(
            f"{variable}: after {PREFIX} a name of letters, digits and _ is needed, no digit first"
        )
    return name


def _value(variable: str, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise SecretsError(f"{variable}: the value is not UTF-8 text") from None
    if size > MAX_VALUE_BYTES:
        raise SecretsError(f"{variable}: the value is over {MAX_VALUE_BYTES} bytes")
    return value
