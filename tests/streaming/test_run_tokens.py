from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.run_tokens import (
    CLOCK_SKEW_SECONDS,
    KEY_BYTES,
    MARK,
    MAX_AGE_SECONDS,
    MAX_DEPTH,
    MAX_TOKEN_CHARACTERS,
    ExpiredRunTokenError,
    RunClaims,
    RunTokenError,
    expiry,
    key_from_text,
    key_of_phrase,
    key_to_text,
    new_key,
    read_claims,
    sign_claims,
)
from workflow_backend.engines import base

NOW = 1_795_305_600.0
KEY, OTHER_KEY = b"k" * KEY_BYTES, b"o" * KEY_BYTES
CLAIMS = RunClaims("alice", "run-1", "report", 1, 50_000, 8, ("list_runs",), int(NOW) + 60)

texts = st.text(st.characters(codec="utf-8"), max_size=60)
numbers = st.integers(-(2**53), 2**53)
claims_of_any_run = st.builds(
    RunClaims,
    owner=texts,
    run_id=texts,
    step=texts,
    depth=numbers,
    tokens=numbers,
    turns=numbers,
    tools=st.lists(texts, max_size=5).map(tuple),
    expires_at=st.integers(int(NOW) + 1, int(NOW) + MAX_AGE_SECONDS),
)


@given(claims_of_any_run)
def test_what_was_signed_is_what_is_read(claims: RunClaims) -> None:
    token = sign_claims(claims, KEY)
    assert read_claims(token, KEY, NOW) == claims
    assert token.startswith(MARK)
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_none(data: st.DataObject) -> None:
    token = sign_claims(CLAIMS, KEY)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda letter: letter != token[place]))
    how = data.draw(st.sampled_from(["replace", "insert", "drop"]))
    rest = token[place + 1 :] if how != "insert" else token[place:]
    changed = token[:place] + ("" if how == "drop" else other) + rest
    if changed != token:
        with pytest.raises(RunTokenError):
            read_claims(changed, KEY, NOW)


@given(st.text(max_size=300), st.booleans())
def test_no_text_is_read_as_a_token(text: str, has_prefix: bool) -> None:
    with pytest.raises(RunTokenError):
        read_claims(MARK * has_prefix + text, KEY, NOW)


def test_a_token_of_another_key_is_none() -> None:
    with pytest.raises(RunTokenError, match="has not signed"):
        read_claims(sign_claims(CLAIMS, OTHER_KEY), KEY, NOW)


def test_claims_cannot_be_put_under_the_signature_of_others() -> None:
    mine, theirs = (sign_claims(replace(CLAIMS, owner=owner), KEY) for owner in ("alice", "bobby"))
    with pytest.raises(RunTokenError, match="has not signed"):
        read_claims(theirs[:-43] + mine[-43:], KEY, NOW)


def test_a_token_ends_with_its_time() -> None:
    token = sign_claims(CLAIMS, KEY)
    assert read_claims(token, KEY, NOW + 59.9) == CLAIMS
    with pytest.raises(ExpiredRunTokenError, match="time is over"):
        read_claims(token, KEY, NOW + 60)


def test_no_token_is_valid_for_longer_than_a_quarter_of_an_hour() -> None:
    latest = int(NOW) + MAX_AGE_SECONDS + CLOCK_SKEW_SECONDS
    assert read_claims(sign_claims(replace(CLAIMS, expires_at=latest), KEY), KEY, NOW)
    with pytest.raises(RunTokenError, match="clocks"):
        read_claims(sign_claims(replace(CLAIMS, expires_at=latest + 1), KEY), KEY, NOW)


def test_a_token_lives_as_long_as_its_call_may_and_no_longer_than_it_may_itself() -> None:
    assert expiry(NOW, 30.5) == int(NOW) + 31
    assert expiry(NOW, 86_400) == int(NOW) + MAX_AGE_SECONDS


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": "1"},
        {"tokens": 1.5},
        {"turns": True},
        {"owner": 7},
        {"tools": (7,)},
        {"tools": 7},
        {"expires_at": None},
    ],
    ids=str,
)
def test_claims_of_another_shape_are_refused_though_they_are_signed(
    wrong: dict[str, object],
) -> None:
    with pytest.raises(RunTokenError, match="cannot be read"):
        read_claims(sign_claims(replace(CLAIMS, **wrong), KEY), KEY, NOW)  # type: ignore[arg-type]


def test_a_token_that_no_proxy_would_let_through_is_refused() -> None:
    many = replace(CLAIMS, tools=tuple("t" * 60 for _ in range(200)))
    token = sign_claims(many, KEY)
    assert len(token) > MAX_TOKEN_CHARACTERS
    with pytest.raises(RunTokenError, match="shape"):
        read_claims(token, KEY, NOW)


def test_no_error_repeats_the_token() -> None:
    token = sign_claims(CLAIMS, OTHER_KEY)
    with pytest.raises(RunTokenError) as raised:
        read_claims(token, KEY, NOW)
    assert token[10:30] not in str(raised.value)


def test_keys_by_chance_differ_and_survive_the_environment() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert len(first) == KEY_BYTES
    assert key_from_text(key_to_text(first)) == first


@pytest.mark.parametrize("text", ["", "short", key_to_text(KEY) + "AAAA", "!" * 43, "ü" * 43])
def test_what_is_no_key_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        key_from_text(text)


def test_machines_with_the_same_phrase_have_the_same_key() -> None:
    assert key_of_phrase("a phrase") == key_of_phrase("a phrase")
    assert key_of_phrase("a phrase") != key_of_phrase("a phrasf")
    assert len(key_of_phrase("a phrase")) == KEY_BYTES


def test_engines_count_to_the_same_depth() -> None:
    assert base.MAX_DEPTH == MAX_DEPTH
