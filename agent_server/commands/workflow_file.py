"""A workflow file as an argument of a command, and the inputs beside it."""

from collections.abc import Sequence
from pathlib import Path

import click

from agent_server.commands.lazy import CommandError

MAX_FILE_BYTES = 1024 * 1024

file_argument = click.argument("file", type=click.Path(path_type=Path))
inputs_option = click.option(
    "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="An input; may be repeated."
)


def read_workflow(file: Path) -> str:
    """The text of a workflow file."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise CommandError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"cannot read {file}: {exc}") from None


def read_inputs(inputs: Sequence[str], option: str = "--input") -> dict[str, object]:
    """The inputs by name, as text: the definition says what type each has."""
    values: dict[str, object] = {}
    for given in inputs:
        name, equals, text = given.partition("=")
        if not equals or not name:
            raise CommandError(f"{option} takes NAME=VALUE, not {given!r}")
        values[name] = text
    return values
