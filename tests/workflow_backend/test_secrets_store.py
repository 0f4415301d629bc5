"""The encrypted store: useless without its key, whole at any moment, and read anew when changed."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.secrets import (
    Secrets,
    SecretsError,
    SecretStore,
    SecretVariables,
    open_secrets,
)
from workflow_backend.secrets.sealing import SealBrokenError, Sealer

KEY = "correct horse battery staple"
VALUE = "hunter2 is the value"
RULE = SecretRule(("alice",), ("api.example.com",))
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=2_000)
SEALER = Sealer(KEY, b"0" * 16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with A, which is limited, and B, which is not."""
    folder = tmp_path_factory.mktemp("store")
    store = SecretStore(folder, KEY)
    store.set("A", VALUE, RULE)
    store.set("B", "another value", SecretRule())
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> SecretStore:
    """A store like that, for one test."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return SecretStore(tmp_path, KEY)


def read(store: SecretStore, name: str) -> str:
    return store.current()[name].read(name)


def changed(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def test_what_is_set_is_read_with_its_limits_by_whoever_has_the_key(store: SecretStore) -> None:
    entries = SecretStore(store.path.parent, KEY).load()
    assert {name: (entry.read(name), entry.rule) for name, entry in entries.items()} == {
        "A": (VALUE, RULE),
        "B": ("another value", SecretRule()),
    }
    assert {entry.source for entry in entries.values()} == {"store"}


def test_setting_again_replaces_value_and_limits(store: SecretStore) -> None:
    store.set("A", "the second value", SecretRule())
    assert read(store, "A") == "the second value"
    assert store.current()["A"].rule == SecretRule()
    assert store.remove("A")
    assert not store.remove("A")
    assert list(store.current()) == ["B"]


def test_the_file_is_its_users_alone_and_shows_no_value(store: SecretStore) -> None:
    data = store.path.read_bytes()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    for value in (VALUE.encode(), b"another value", KEY.encode()):
        assert value not in data
        assert base64.b64encode(value)[:-4] not in data
    assert [path.name for path in sorted(store.path.parent.iterdir())] == [
        "secrets.enc",
        "secrets.lock",
    ]


def test_the_same_value_is_never_the_same_bytes(store: SecretStore) -> None:
    before = json.loads(store.path.read_bytes())["secrets"]
    store.set("B", VALUE, RULE)
    after = json.loads(store.path.read_bytes())["secrets"]
    assert len({before["A"]["sealed"], after["B"]["sealed"], before["B"]["sealed"]}) == 3


@pytest.mark.parametrize("key", ["another key than that", KEY.upper(), KEY + " "])
def test_another_key_opens_nothing_and_changes_nothing(store: SecretStore, key: str) -> None:
    before = store.path.read_bytes()
    other = SecretStore(store.path.parent, key)
    with pytest.raises(SecretsError, match="was made with another SECRET_KEY"):
        other.load()
    with pytest.raises(SecretsError, match="was made with another SECRET_KEY"):
        other.set("C", "value", SecretRule())
    assert store.path.read_bytes() == before


def test_without_a_key_names_are_known_and_no_value_is(store: SecretStore) -> None:
    keyless = SecretStore(store.path.parent)
    assert {name: entry.rule for name, entry in keyless.load().items()} == {
        "A": RULE,
        "B": SecretRule(),
    }
    secrets = open_secrets(store.path.parent)
    with pytest.raises(SecretsError, match=r"'A' is in .*secrets\.enc, and SECRET_KEY is not set"):
        secrets.resolve(["A"], "alice")
    with pytest.raises(SecretsError, match="SECRET_KEY is not set; make a key by"):
        keyless.set("C", "value", SecretRule())
    assert keyless.remove("A")


@pytest.mark.parametrize("key", ["", "short", "1234567"])
def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(SecretsError, match=r"SECRET_KEY (is not set|has fewer than 8 characters)"):
        SecretStore(tmp_path, key).set("A", "value", SecretRule())
    assert not (tmp_path / "secrets.enc").exists()


def flip(document: Any) -> None:
    sealed = bytearray(base64.b64decode(document["secrets"]["A"]["sealed"]))
    sealed[-1] ^= 1
    document["secrets"]["A"]["sealed"] = base64.b64encode(sealed).decode()


def swap(document: Any) -> None:
    a, b = document["secrets"]["A"], document["secrets"]["B"]
    a["sealed"], b["sealed"] = b["sealed"], a["sealed"]


@pytest.mark.parametrize(
    "change",
    [
        flip,
        swap,
        lambda document: document["secrets"].update(C=document["secrets"].pop("A")),
        lambda document: document["secrets"]["A"].update(keys=[]),
        lambda document: document["secrets"]["A"].update(keys=["alice", "mallory"]),
        lambda document: document["secrets"]["A"].update(hosts=["evil.test"]),
        lambda document: document["secrets"]["A"].update(keys=RULE.hosts, hosts=["alice"]),
        lambda document: document["secrets"]["A"].update(sealed=""),
    ],
    ids=["flipped", "swapped", "renamed", "unlimited", "owner", "host", "exchanged", "emptied"],
)
def test_an_entry_that_was_changed_is_refused_and_named(
    store: SecretStore, change: Callable[[Any], object]
) -> None:
    assert read(store, "A") == VALUE
    changed(store.path, change)
    with pytest.raises(SecretsError, match=r"is damaged: the entry '[ABC]' was changed") as raised:
        SecretStore(store.path.parent, KEY).load()
    assert VALUE not in str(raised.value)
    # A server that knew the file before it was changed gives no value of it either.
    with pytest.raises(SecretsError, match="is damaged"):
        read(store, "A")


def test_a_damaged_entry_is_mended_as_the_message_says(store: SecretStore) -> None:
    changed(store.path, flip)
    store.remove("A")
    store.set("A", "mended value", SecretRule())
    assert read(store, "A") == "mended value"
    assert read(store, "B") == "another value"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged: it is no JSON object with a version"),
        (b"\xff", "is damaged"),
        (b"[]", "is damaged"),
        (b"{}", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"version": 2}', "has version 2, and this server reads version 1; use the release"),
        (b'{"version": "1"}', "has version '1'"),
        (b'{"version": 1}', "a field of it is missing or malformed"),
        (b'{"version": 1, "salt": "?", "check": "", "secrets": {}}', "missing or malformed"),
        (b'{"version": 1, "salt": "", "check": "", "secrets": []}', "missing or malformed"),
        (b'{"version": 1, "salt": "", "check": "", "secrets": {}}', "another SECRET_KEY"),
        (
            b'{"version": 1, "salt": "", "check": "", "secrets":'
            b' {"A B": {"sealed": "", "keys": [], "hosts": []}}}',
            "missing or malformed",
        ),
        (
            b'{"version": 1, "salt": "", "check": "", "secrets":'
            b' {"A": {"sealed": "", "keys": ["a", "a"], "hosts": []}}}',
            "missing or malformed",
        ),
    ],
)
def test_a_file_that_is_no_store_of_this_version_is_refused_and_kept(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "secrets.enc").write_bytes(content)
    store = SecretStore(tmp_path, KEY)
    for attempt in (store.load, lambda: store.set("A", "value", SecretRule())):
        with pytest.raises(SecretsError) as raised:
            attempt()
        assert reason in str(raised.value)
        assert "\n" not in str(raised.value)
    assert (tmp_path / "secrets.enc").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("A B", "value", "a secret's name is letters, digits and _"),
        ("1A", "value", "a secret's name is letters"),
        ("A", "", "is empty"),
        ("A", "x" * 65_537, "is over 65536 bytes"),
        ("A", "ü" * 32_769, "is over 65536 bytes"),
        ("A", "\udcff", "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_a_secret_is_refused(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:
    with pytest.raises(SecretsError, match=reason):
        SecretStore(tmp_path, KEY).set(name, value, SecretRule())
    assert not (tmp_path / "secrets.enc").exists()


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretsError, match=r"secrets\.enc cannot be changed: "):
        SecretStore(tmp_path / "file", KEY).set("A", "value", SecretRule())
    (tmp_path / "secrets.enc").mkdir()
    with pytest.raises(SecretsError, match=r"secrets\.enc cannot be read: Is a directory"):
        SecretStore(tmp_path, KEY).load()


def test_a_running_server_takes_every_change_at_once(tmp_path: Path) -> None:
    secrets = open_secrets(tmp_path, variables=SecretVariables(KEY))
    other = SecretStore(tmp_path, KEY)
    assert secrets.rules("alice") == {}
    other.set("A", VALUE, RULE)
    assert secrets.rules("alice") == {"A": RULE}
    assert secrets.rules("bob") == {}
    assert VALUE in secrets.to_mask({})
    other.set("A", "a new value of it", SecretRule())
    assert secrets.resolve(["A"], "bob")["A"].value == "a new value of it"
    assert {VALUE, "a new value of it"} <= secrets.to_mask({})
    other.remove("A")
    with pytest.raises(SecretsError, match="there is no secret 'A'"):
        secrets.resolve(["A"], "bob")


def test_a_store_that_breaks_meanwhile_gives_no_value_and_masks_those_it_gave(
    store: SecretStore, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = open_secrets(store.path.parent, variables=SecretVariables(KEY))
    good = store.path.read_bytes()
    shutil.copy(store.path, store.path.with_name("copy"))
    store.path.write_bytes(b"{}")
    for _ in range(3):
        with pytest.raises(SecretsError, match="is damaged"):
            secrets.resolve(["A"], "alice")
    assert list(secrets.rules("alice")) == ["A", "B"]
    assert {VALUE, "another value"} <= secrets.to_mask({})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    store.path.write_bytes(good)
    assert secrets.resolve(["A"], "alice")["A"].value == VALUE


def test_changes_at_the_same_time_all_last(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from workflow_backend.secrets import SecretStore;"
        "from workflow_backend.definition.secret_rules import SecretRule;"
        "store = SecretStore(Path(sys.argv[1]), sys.argv[2]);"
        "[store.set(f'{sys.argv[3]}_{n}', 'value', SecretRule()) for n in range(20)]"
    )
    command = [sys.executable, "-c", script, str(tmp_path), KEY]
    children = [subprocess.Popen([*command, f"P{number}"]) for number in range(4)]
    reader = SecretStore(tmp_path, KEY)
    while any(child.poll() is None for child in children):
        reader.load()
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert sorted(reader.load()) == sorted(f"P{p}_{n}" for p in range(4) for n in range(20))
    assert not list(tmp_path.glob(".secrets*"))


def test_a_full_store_takes_no_more_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_backend.secrets.store.MAX_SECRETS", 2)
    store = SecretStore(tmp_path, KEY)
    store.set("A", "value", SecretRule())
    store.set("B", "value", SecretRule())
    with pytest.raises(SecretsError, match="which is the most"):
        store.set("C", "value", SecretRule())
    store.set("B", "replaced", SecretRule())
    assert read(store, "B") == "replaced"


def test_a_write_that_fails_leaves_the_store_as_it_was(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SecretsError, match="cannot be written: No space left on device"):
        store.set("C", "value", SecretRule())
    assert store.path.read_bytes() == before
    assert not list(store.path.parent.glob(".secrets*"))


@given(TEXTS, st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True))
def test_any_text_comes_back_under_its_own_name_and_no_other(value: str, name: str) -> None:
    sealed = SEALER.seal(value, name, RULE)
    assert SEALER.open(sealed, name, RULE) == value
    for other_name, rule in ((f"{name}X", RULE), (name, SecretRule())):
        with pytest.raises(SealBrokenError):
            SEALER.open(sealed, other_name, rule)


def test_any_text_comes_back_from_the_file(tmp_path: Path) -> None:
    store = SecretStore(tmp_path, KEY)

    @given(TEXTS)
    def check(value: str) -> None:
        store.set("A", value, RULE)
        secrets = Secrets(store=store)
        assert secrets.resolve(["A"], "alice")["A"].value == value

    check()
