"""Texts of foreign servers."""

import pytest

from mcp_bridge.plain_text import Redactor, clean_text, shorten


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("dos\r\nlines", "dos\nlines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("bell\x07 null\x00 c1\x9b", "bell null c1"),
        ("safe\u202eexe.txt\u2066x\u2069", "safeexe.txtx"),
        ("hidden\U000e0049\U000e0067\u200b", "hidden"),
        ("\U0001f469\u200d\U0001f4bb a\u200cb", "\U0001f469\u200d\U0001f4bb a\u200cb"),
    ],
)
def test_what_a_person_cannot_see_is_removed(dirty: str, clean: str) -> None:
    assert clean_text(dirty) == clean


def test_a_text_is_shortened_with_an_ellipsis() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


def test_secrets_are_masked_the_longest_first() -> None:
    redact = Redactor(["swordfish", "swordfish2", "short"])
    assert redact("swordfish2 and swordfish and short") == "*** and *** and short"


def test_without_secrets_nothing_is_masked() -> None:
    assert Redactor([])("text") == "text"
