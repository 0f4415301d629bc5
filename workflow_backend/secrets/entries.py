"""One secret as a source of secrets gives it, and what every source agrees on."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workflow_backend.definition.secret_rules import NO_LIMITS, SecretRule

MAX_VALUE_BYTES = 64 * 1024

Source = Literal["environment", "file", "store"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class SecretsError(Exception):
    """A source of secrets, or a secret that a step names, cannot be used; no value is shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A secret of one source. The value is a text, or a file that is read when it is needed.

    `place` says for people where it is kept. `fault`: why the value cannot be had.
    """

    value: str | Path = field(repr=False)
    source: Source
    place: str
    rule: SecretRule = NO_LIMITS
    fault: str = ""

    def read(self, name: str) -> str:
        """The value, now.

        Raises:
            SecretsError: It cannot be had.
        """
        if self.fault:
            raise SecretsError(self.fault)
        return self.value if isinstance(self.value, str) else _read_file(self.value, name)


def is_name(name: object) -> bool:
    """Whether a secret can be called so."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _read_file(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_VALUE_BYTES + 1)
        value = data.decode().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SecretsError(
            f"the file {path} of the secret {name!r} cannot be read: {reason}"
        ) from None
    if len(data) > MAX_VALUE_BYTES:
        raise SecretsError(f"the file of the secret {name!r} is over {MAX_VALUE_BYTES} bytes")
    return value
