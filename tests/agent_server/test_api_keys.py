import hashlib

import pytest

from agent_server.api_keys import ApiKey, digest_of, make_raw_key, parse_api_keys

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
        ([f"=sha256:{DIGEST}"], "a name is"),
        ([f"alice=sha256:{DIGEST};scopes=fly"], "'fly' is no scope"),
        ([f"alice=sha256:{DIGEST};scopes="], "is no scope"),
        ([f"alice=sha256:{DIGEST};role=x"], "takes scopes= and owner="),
        ([f"alice=sha256:{DIGEST};scopes=run;scopes=chat"], "once each"),
        ([f"alice=sha256:{DIGEST};owner=a b"], "an owner"),
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
