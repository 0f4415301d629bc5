"""The `$OUTPUT` file: `KEY=value` lines, or `KEY<<DELIMITER`, lines, `DELIMITER`.

Source: GitHub Actions, "Workflow commands", sections "Setting an output parameter" and "Multiline
strings", 2026-10.
"""

import re
from collections.abc import Iterator

RESERVED = frozenset({"stdout", "json", "status", "headers", "body"})
MAX_KEYS = 200

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")


class OutputFileError(ValueError):
    """The file has another form; the message names the line."""


def parse_output_file(text: str) -> dict[str, str]:
    """The values by key; a later line for a key wins.

    Raises:
        OutputFileError: A line has another form, or a key is reserved.
    """
    outputs: dict[str, str] = {}
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not line.strip():
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if heredoc != -1 and (equals == -1 or heredoc < equals):
            key, delimiter = line[:heredoc], line[heredoc + 2 :]
            value = _heredoc(lines, delimiter, number)
        elif equals != -1:
            key, value = line[:equals], line[equals + 1 :]
        else:
            raise OutputFileError(
                f"$OUTPUT, line {number}: write KEY=value, or KEY<<EOF for several lines"
            )
        outputs[_checked(key, number)] = value
        if len(outputs) > MAX_KEYS:
            raise OutputFileError(f"$OUTPUT holds over {MAX_KEYS} keys")
    return outputs


def _heredoc(lines: Iterator[tuple[int, str]], delimiter: str, number: int) -> str:
    if not delimiter:
        raise OutputFileError(f"$OUTPUT, line {number}: a delimiter must follow `<<`")
    value: list[str] = []
    for _, line in lines:
        if line == delimiter:
            return "\n".join(value)
        value.append(line)
    raise OutputFileError(f"$OUTPUT, line {number}: no line `{delimiter}` ends the value")


def _checked(key: str, number: int) -> str:
    if not _KEY.fullmatch(key):
        raise OutputFileError(
            f"$OUTPUT, line {number}: the key {key[:40]!r} must be letters, digits, `_` and `-`"
        )
    if key in RESERVED:
        raise OutputFileError(f"$OUTPUT, line {number}: the key {key!r} is set by the engine")
    return key
