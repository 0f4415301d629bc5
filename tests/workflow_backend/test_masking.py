"""Masking: no form of a secret's value gets through, wherever the chunks part it."""

import base64
import json
import shutil
import subprocess
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workflow_backend.masking import MASK, Masker

SECRET = 'p@ss/w"rd+42é?'
FORMS = {
    "exact": SECRET,
    "hex": SECRET.encode().hex(),
    "upper hex": SECRET.encode().hex().upper(),
    "url": quote(SECRET, safe=""),
    "url path": quote(SECRET),
    "form": quote_plus(SECRET),
    "json": json.dumps(SECRET),
    "json utf-8": json.dumps(SECRET, ensure_ascii=False),
    "json with slashes": json.dumps(SECRET).replace("/", "\\/"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_each_usual_encoding_of_a_secret_is_masked(form: str) -> None:
    shown = Masker([SECRET]).mask(f"before {form} after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert form.strip('"') not in shown
    assert MASK in shown


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("lead", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("tail", [0, 1, 2])
def test_base64_is_masked_at_every_alignment(encode: object, lead: int, tail: int) -> None:
    assert callable(encode)
    text = encode(b"u" * lead + SECRET.encode() + b"t" * tail).decode()
    shown = Masker([SECRET]).mask(text)
    assert MASK in shown
    # At most one group of four on each side may hold bits of the secret beside its neighbours.
    assert len(shown.replace(MASK, "").strip("=")) <= 4 * ((lead + 2) // 3 + (tail + 2) // 3) + 4


def test_lines_of_a_long_secret_are_masked_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nMIIBOgIBAAJBAK\nk3FGH12345\n-----END KEY-----"
    assert "k3FGH12345" not in Masker([key]).mask("out: k3FGH12345 .")


def test_values_and_keys_inside_json_are_masked() -> None:
    masked = Masker(["topsecret", "123456"]).mask_json(
        {"a": ["x topsecret"], "topsecret": {"b": 123456}, "c": [True, None, 1.5]}
    )
    assert masked == {"a": [f"x {MASK}"], MASK: {"b": MASK}, "c": [True, None, 1.5]}


def test_without_secrets_nothing_changes() -> None:
    assert Masker().mask("plain *** text") == "plain *** text"
    assert Masker([""]).mask("plain") == "plain"


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(sorted(FORMS.values())),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    around=st.text(st.sampled_from("p@70ab \n"), max_size=8),
)
@example(form=SECRET, cuts=[1, 2, 3, 4, 5, 6], around="p@")
def test_a_secret_parted_by_chunks_is_masked(form: str, cuts: list[int], around: str) -> None:
    text = f"{around}{form}{around}{form}"
    stream = Masker([SECRET]).stream()
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    shown = "".join(stream.feed(text[start:end]) for start, end in pairwise(borders))
    shown += stream.finish()
    assert shown == Masker([SECRET]).mask(text)
    assert form.strip('"') not in shown


def test_a_chunk_that_cannot_begin_a_secret_is_shown_at_once() -> None:
    stream = Masker(["hunter2"]).stream()
    assert stream.feed("progress 50%\n") == "progress 50%\n"
    assert stream.feed("the word is hunt") == "the word is "
    assert stream.feed("ing season") == "hunting season"


def test_overlapping_secrets_do_not_leak_each_others_beginning() -> None:
    stream = Masker(["1xabcd", "abcdqrs"]).stream()
    shown = stream.feed("--1xabcdq") + stream.feed("z--") + stream.finish()
    assert shown == f"--{MASK}qz--"


@pytest.mark.parametrize("command", [["base64"], ["xxd", "-p"]], ids=lambda words: words[0])
def test_encodings_are_masked_where_programs_break_their_lines(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    value = "".join(f"{number:04x}" for number in range(25, 60))
    ran = subprocess.run(command, input=value.encode(), capture_output=True, check=True)
    shown = Masker([value]).mask(ran.stdout.decode())
    assert len(ran.stdout.splitlines()) > 2
    assert set(shown) <= set("*\n=")


def test_the_longest_of_values_that_begin_alike_is_masked() -> None:
    masker = Masker(["token", "token-of-alice", "tokens"])
    assert masker.mask("token tokens token-of-alice token-of-ali") == "*** *** *** ***-of-ali"


def test_a_flood_beside_a_key_of_many_lines_does_not_stop_the_engine() -> None:
    # Hundreds of forms: trying each at each place takes longer than a test may.
    stream = Masker(["\n".join(f"{n:03}{SECRET * 4}" for n in range(60))]).stream()
    chunk = "".join(chr(33 + n % 90) for n in range(65_536))
    assert sum(len(stream.feed(chunk)) for _ in range(100)) + len(stream.finish()) == 100 * 65_536
