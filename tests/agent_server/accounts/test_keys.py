import hashlib
import re
from dataclasses import replace

import pytest

from agent_server.accounts.keys import (
    ApiKey,
    api_key_from_fields,
    digest_of,
    make_raw_key,
    parse_api_keys,
)

DIGEST = "0123456789abcdef" * 4
OTHER = "f" * 64


def test_an_entry_holds_name_digest_scopes_and_owner() -> None:
    (key,) = parse_api_keys([f"alice=sha256:{DIGEST};scopes=run+admin;owner=team"])
    assert key == ApiKey("alice", DIGEST, frozenset({"run", "admin"}), "team")


def test_an_entry_without_options_may_chat_and_run_under_its_own_name() -> None:
    (key,) = parse_api_keys([f"alice=sha256:{DIGEST.upper()}"])
    assert key == ApiKey("alice", DIGEST, frozenset({"chat", "run"}), "alice")


def test_an_entry_reads_back_as_it_was_written() -> None:
    key = ApiKey("ops", DIGEST, frozenset({"admin", "chat"}), "team")
    assert key.entry() == f"ops=sha256:{DIGEST};scopes=chat+admin;owner=team"
    assert parse_api_keys([key.entry()]) == (key,)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["sk-live-0123456789"], "hash-key"),
        (["alice=sk-live-0123456789"], "hash-key"),
        (["alice=sha256:sk-live-0123456789"], "64 hex digits"),
        ([f"=sha256:{DIGEST}"], "the name of a key is"),
        ([f"alice=sha256:{DIGEST};scopes=fly"], "'fly' is no scope"),
        ([f"alice=sha256:{DIGEST};scopes="], "is no scope"),
        ([f"alice=sha256:{DIGEST};role=x"], "takes scopes=, owner="),
        ([f"alice=sha256:{DIGEST};scopes=run;scopes=chat"], "once each"),
        ([f"alice=sha256:{DIGEST};rpm=0"], "requests_per_minute takes a whole number"),
        ([f"alice=sha256:{DIGEST};tpm=many"], "tokens_per_minute takes a whole number"),
        ([f"alice=sha256:{DIGEST};parallel=1.5"], "parallel takes a whole number"),
        ([f"alice=sha256:{DIGEST};budget_day=-1"], "budget_per_day takes an amount in USD"),
        ([f"alice=sha256:{DIGEST};budget_month=nan"], "budget_per_month takes an amount in USD"),
        ([f"alice=sha256:{DIGEST};models="], "models takes names"),
        ([f"alice=sha256:{DIGEST};expires=soon"], "expires_at takes a date"),
        ([f"alice=sha256:{DIGEST};owner=a b"], "the owner of a key is"),
        ([f"a=sha256:{DIGEST}", f"a=sha256:{OTHER}"], "same name"),
        ([f"a=sha256:{DIGEST}", f"b=sha256:{DIGEST}"], "same digest"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_reason_and_without_its_key(
    entries: list[str], reason: str
) -> None:
    with pytest.raises(ValueError, match="entr") as raised:
        parse_api_keys(entries)
    assert reason in str(raised.value)
    assert "sk-live" not in str(raised.value)


def test_a_new_key_is_long_and_never_the_same() -> None:
    first, second = make_raw_key(), make_raw_key()
    assert first != second
    assert len(first) >= 40
    assert digest_of(first) == hashlib.sha256(first.encode()).hexdigest()


def test_an_entry_may_carry_limits_budgets_models_and_a_last_day() -> None:
    options = "rpm=60;tpm=100000;parallel=4;budget_day=0.05;budget_month=50"
    (key,) = parse_api_keys(
        [f"alice=sha256:{DIGEST};{options};models=gpt-*+fast;expires=2027-01-01"]
    )
    assert (key.requests_per_minute, key.tokens_per_minute, key.parallel) == (60, 100_000, 4)
    assert (key.budget_per_day, key.budget_per_month) == (50_000_000, 50_000_000_000)
    assert [key.allows_model(name) for name in ("gpt-6", "fast", "Fast", "claude-6")] == [
        *(True, True),
        *(False, False),
    ]
    assert key.expires_at == 1_798_761_600
    assert [key.is_expired(key.expires_at + late) for late in (-1, 0)] == [False, True]
    assert parse_api_keys([key.entry()]) == (key,)


def test_a_key_of_a_file_has_the_same_fields_as_lists_and_numbers() -> None:
    fields = {
        "name": "alice",
        "sha256": f"sha256:{DIGEST}",
        "models": ["gpt-*", "fast"],
        "requests_per_minute": 60,
        "budget_per_day": 0.05,
        "owner": None,
        "expires_at": "2027-01-01T12:00:00+02:00",
    }
    key = api_key_from_fields(fields, key_id="key_1")
    (same,) = parse_api_keys(
        [
            f"alice=sha256:{DIGEST};rpm=60;budget_day=0.05;models=gpt-*+fast"
            ";expires=2027-01-01T10:00:00Z"
        ]
    )
    assert key == replace(same, key_id="key_1")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "the name of a key is"),
        ({"name": "a", "sha256": "sk-live-0123456789"}, "64 hex digits"),
        ({"name": "a", "sha256": DIGEST, "rpm": 5}, "'rpm' is no field of a key"),
        ({"name": "a", "sha256": DIGEST, "scopes": "chat fly"}, "is no scope"),
        ({"name": "a", "sha256": DIGEST, "models": []}, "at least one"),
        ({"name": "a", "sha256": DIGEST, "models": [1]}, "models takes a list of texts"),
        ({"name": "a", "sha256": DIGEST, "parallel": True}, "parallel takes a whole number"),
    ],
)
def test_a_wrong_field_is_named_and_no_key_repeated(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        api_key_from_fields(fields)
    assert "sk-live" not in str(raised.value)
