"""The last lines that a child wrote to stderr: cleaned, masked, limited."""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mcp_bridge.lines import LineAssembler, OversizeLine
from mcp_bridge.plain_text import Redactor, clean_text, shorten

KEPT_LINES: Final = 200
KEPT_CHARACTERS: Final = 500
LOGGED_LINES_PER_SECOND: Final = 50

_LOGGER: Final = logging.getLogger(__name__)


class StderrTail:
    """Takes whatever a child writes to stderr, keeps the last lines and logs some of them.

    Keeps 200 lines of 500 characters. At most 50 lines a second go to the log, at `level`; the
    next line after a flood says how many did not.
    """

    def __init__(
        self,
        name: str,
        redact: Redactor,
        level: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._redact = redact
        self._level = level
        self._clock = clock
        self._assembler = LineAssembler(4 * KEPT_CHARACTERS)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._second = 0
        self._in_second = 0
        self._unlogged = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The kept lines, oldest first."""
        return tuple(self._lines)

    @property
    def last_line(self) -> str:
        """The last line that is not blank, or ""."""
        return next((line for line in reversed(self._lines) if line.strip()), "")

    def feed(self, data: bytes) -> None:
        """Take some bytes of stderr."""
        for line in self._assembler.feed(data):
            raw = line.head if isinstance(line, OversizeLine) else line
            text = self._redact(clean_text(raw.decode(errors="replace")))
            self._lines.append(shorten(text, KEPT_CHARACTERS))
            self._log(self._lines[-1])

    def end(self) -> None:
        """Take the last line even if it has no newline: it may be the one that tells why."""
        self.feed(b"\n")

    def _log(self, line: str) -> None:
        second = int(self._clock())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > LOGGED_LINES_PER_SECOND:
            self._unlogged += 1
            return
        if self._unlogged:
            _LOGGER.log(self._level, "%s: %d lines were not logged", self._name, self._unlogged)
            self._unlogged = 0
        _LOGGER.log(self._level, "%s: %s", self._name, line)
