"""Masking: what a step writes, with the values of its secrets replaced by `***`.

Guarantee: a value does not leave an attempt in its exact form, nor as base64 (any of the three
alignments, both alphabets), hex, URL escape or JSON escape, also where two chunks of output part
it, or `base64` and `xxd -p` break the lines. A step that encodes it in another way is not caught.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from os.path import commonprefix
from urllib.parse import quote, quote_plus

MASK = "***"

_MIN_ENCODED_CHARACTERS = 4
_MIN_LINE_CHARACTERS = 6
_HEAD_CHARACTERS = 8


class Masker:
    """Replaces the given values, and their usual encodings, in texts and JSON values."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value)}
        self.forms = tuple(sorted(forms, key=len, reverse=True))
        self.longest = len(self.forms[0]) if self.forms else 0
        self._pattern = re.compile(_any_of(self.forms)) if self.forms else None
        self._by_head: dict[str, list[str]] = {}
        for form in self.forms:
            for length in range(1, min(len(form), _HEAD_CHARACTERS) + 1):
                self._by_head.setdefault(form[:length], []).append(form)

    def mask(self, text: str) -> str:
        """The text without the values."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def mask_json(self, value: object) -> object:
        """The JSON value with every text in it, keys too, masked."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, Mapping):
            return {self.mask(str(key)): self.mask_json(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.mask_json(item) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return MASK if self._pattern.fullmatch(str(value)) else value
        return value

    def stream(self) -> "MaskedStream":
        """A masker for one text that comes in chunks."""
        return MaskedStream(self)

    def split(self, text: str) -> tuple[str, str]:
        """The masked text that is safe to show, and the end of it that may begin a value."""
        if self._pattern is None:
            return text, ""
        cut = self._first_possible_start(text)
        for match in self._pattern.finditer(text):
            if match.start() < cut < match.end():
                cut = match.start()
        return self.mask(text[:cut]), text[cut:]

    def _first_possible_start(self, text: str) -> int:
        """Where the longest end of the text stands that is the beginning of a form."""
        for start in range(max(0, len(text) - self.longest + 1), len(text)):
            head = text[start : start + _HEAD_CHARACTERS]
            if head in self._by_head:
                end = text[start:]
                if any(form.startswith(end) for form in self._by_head[head]):
                    return start
        return len(text)


class MaskedStream:
    """One text in chunks: `feed` gives what is safe to show, `finish` the rest."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = ""

    def feed(self, text: str) -> str:
        """The masked text so far, but for an end that may yet turn out to be a value."""
        shown, self._held = self._masker.split(self._held + text)
        return shown

    def finish(self) -> str:
        """The rest of the text, masked."""
        rest, self._held = self._held, ""
        return self._masker.mask(rest)


def _any_of(forms: Iterable[str]) -> str:
    """A regular expression for any of the forms, the longest first, that shares their beginnings.

    A key of fifty lines has hundreds of forms, and a step may write them a flood: trying each form
    at each character would stop the engine for seconds.
    """
    groups: dict[str, list[str]] = {}
    for form in forms:
        groups.setdefault(form[:1], []).append(form)
    is_end = groups.pop("", None) is not None
    branches = []
    for group in groups.values():
        shared = commonprefix(group)  # noqa: RUF071 - character by character is meant
        branches.append(re.escape(shared) + _any_of(form[len(shared) :] for form in group))
    return f"(?:{'|'.join(branches)}){'?' if is_end else ''}" if branches else ""


def _forms(value: str) -> set[str]:
    """The value as it may appear in output; a value of several lines also line by line."""
    forms = {value}
    lines = [line.strip() for line in value.splitlines()]
    forms.update(line for line in lines if len(line) >= _MIN_LINE_CHARACTERS)
    for text in tuple(forms):
        forms.update(form for form in _encodings(text) if len(form) >= _MIN_ENCODED_CHARACTERS)
    return forms - {""}


def _encodings(text: str) -> Iterable[str]:
    data = text.encode("utf-8", "surrogateescape")
    yield from _base64_forms(data)
    yield from _lines(base64.b64encode(data).decode("ascii"), 76)
    yield from _lines(data.hex(), 60)
    yield data.hex()
    yield data.hex().upper()
    yield quote(data, safe="")
    yield quote(data)
    yield quote_plus(data)
    yield re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), quote(data, safe=""))
    for in_ascii in (True, False):
        escaped = json.dumps(text, ensure_ascii=in_ascii)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")


def _lines(text: str, width: int) -> Iterable[str]:
    """The lines into which a program breaks the text, if they are several."""
    starts = range(0, len(text), width) if len(text) > width else ()
    lines = (text[start : start + width] for start in starts)
    return (line for line in lines if len(line) >= _MIN_LINE_CHARACTERS)


def _base64_forms(data: bytes) -> Iterable[str]:
    """The characters that only this value decides, for each place in a group of three bytes."""
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + data).decode("ascii").rstrip("=")
        first = (0, 2, 3)[lead]
        last = len(encoded) - (1 if (lead + len(data)) % 3 else 0)
        text = encoded[first:last]
        yield text
        yield text.replace("+", "-").replace("/", "_")
