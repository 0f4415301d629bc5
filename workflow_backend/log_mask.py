"""The backend's own log, without the values of secrets."""

import functools
import logging
from collections.abc import Callable

from typing_extensions import override

from workflow_backend.masking import Masker


class MaskingFormatter(logging.Formatter):
    """Formats as another formatter does, and masks the values that are known at that time."""

    def __init__(
        self, formatter: logging.Formatter, known_values: Callable[[], frozenset[str]]
    ) -> None:
        super().__init__()
        self._formatter = formatter
        self._known_values = known_values

    @override
    def format(self, record: logging.LogRecord) -> str:
        return _masker(self._known_values()).mask(self._formatter.format(record))


def mask_log(known_values: Callable[[], frozenset[str]]) -> None:
    """Mask the values in whatever the log of this process writes from now on."""
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter or logging.Formatter()
        handler.setFormatter(MaskingFormatter(formatter, known_values))


@functools.lru_cache(maxsize=4)
def _masker(values: frozenset[str]) -> Masker:
    return Masker(values)
