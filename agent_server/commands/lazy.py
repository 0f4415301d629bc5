"""A group of commands whose modules are imported when one is called, and a failure in one line.

Help texts of the list stand in the table, so that `--help` imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from typing_extensions import override

Row = tuple[str, str]


class CommandError(click.ClickException):
    """What a user can mend: one line on stderr and exit code 2, no traceback."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group over rows of `name: ("module:attribute", short help)`."""

    def __init__(self, *args: Any, rows: Mapping[str, Row], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows = rows

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._rows]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._rows:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._rows[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        return command if isinstance(command, click.Command) else None

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: Sequence[Row] = [
            (name, command.get_short_help_str(limit=80))
            for name, command in sorted(self.commands.items())
        ]
        with formatter.section("Commands"):
            formatter.write_dl([*((name, row[1]) for name, row in self._rows.items()), *own])
