"""Secrets of all sources: read by name, for who may have them, and shown never."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.secrets import (
    Secrets,
    SecretsError,
    SecretStore,
    SecretVariables,
    load_secrets,
    open_secrets,
)
from workflow_backend.settings import take_secret_variables

KEY = "correct horse battery staple"


def values_of(secrets: Secrets, names: Iterable[str], owner: str = "local") -> dict[str, str]:
    return {name: secret.value for name, secret in secrets.resolve(names, owner).items()}


def test_values_and_files_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = tmp_path / "secrets.yaml"
    path.write_text("PLAIN: 'the value'\nFILED: {file: token}\n")
    secrets = load_secrets(path)
    assert list(secrets.rules("local")) == ["FILED", "PLAIN"]
    assert values_of(secrets, ["FILED", "PLAIN"]) == {"FILED": "from-file", "PLAIN": "the value"}
    assert set(secrets.paths) == {path, tmp_path / "token"}


def test_an_entry_of_the_file_may_list_owners_and_hosts(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = tmp_path / "secrets.yaml"
    path.write_text(
        "A: {value: value-of-a, keys: [alice, bob], hosts: [API.Example.com., '*.test.org']}\n"
        "B: {file: token, keys: [alice]}\n"
    )
    secrets = load_secrets(path)
    assert secrets.rules("alice") == {
        "A": SecretRule(("alice", "bob"), ("api.example.com", "*.test.org")),
        "B": SecretRule(("alice",)),
    }
    assert values_of(secrets, ["A", "B"], "alice") == {"A": "value-of-a", "B": "from-file"}


def test_an_owner_who_may_not_have_a_secret_is_not_told_of_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("OURS: {value: value-of-ours, keys: [alice]}\nALL: value-of-all\n")
    secrets = load_secrets(path)
    assert list(secrets.rules("bob")) == ["ALL"]
    with pytest.raises(SecretsError) as refused:
        secrets.resolve(["OURS"], "bob")
    with pytest.raises(SecretsError) as unknown:
        secrets.resolve(["NONE"], "bob")
    assert str(refused.value) == str(unknown.value).replace("NONE", "OURS")
    assert "the server has: ALL." in str(refused.value)
    # What bob's steps find on their own is masked all the same.
    assert "value-of-ours" in secrets.to_mask({})


def test_a_file_is_read_only_when_its_secret_is_used(tmp_path: Path) -> None:
    secrets = Secrets({"GONE": tmp_path / "gone", "OTHER": "x"})
    assert values_of(secrets, ["OTHER"]) == {"OTHER": "x"}
    with pytest.raises(SecretsError, match="gone of the secret 'GONE' cannot be read: No such"):
        secrets.resolve(["GONE"], "local")


def test_all_values_are_masked_but_short_ones_of_others(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    sources = {"LONG": "long-enough", "FILE": tmp_path / "token", "GONE": tmp_path / "gone"}
    secrets = Secrets({**sources, "PORT": "8080", "USER": "root"})
    assert secrets.to_mask({}) == {"long-enough", "from-a-file"}
    assert secrets.to_mask({"PORT": "8080"}) == {"long-enough", "from-a-file", "8080"}


def test_a_value_that_was_replaced_stays_masked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the-first-value")
    secrets = Secrets({"FILE": tmp_path / "token"})
    assert secrets.to_mask({}) == {"the-first-value"}
    (tmp_path / "token").write_text("the-second-value")
    assert secrets.to_mask({}) == {"the-first-value", "the-second-value"}


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SecretsError, match="no secret 'TOKN'; the server has: TOKEN"):
        Secrets({"TOKEN": "hunter2"}).resolve(["TOKN"], "local")


@pytest.mark.parametrize(
    "text",
    [
        "TOKEN: hunter2-value\n bad: [",
        "- hunter2-value",
        "TOKEN: 12345678",
        "TOKEN: {file: 3}",
        "TOKEN: {value: 12345678}",
        "TOKEN: {value: ''}",
        "TOKEN: {value: hunter2-value, file: token}",
        "TOKEN: {keys: [alice]}",
        "TOKEN: {value: hunter2-value, key: [alice]}",
        "TOKEN: {value: hunter2-value, keys: []}",
        "TOKEN: {value: hunter2-value, keys: alice}",
        "TOKEN: {value: hunter2-value, keys: ['a b']}",
        "TOKEN: {value: hunter2-value, hosts: [3]}",
        "TOKEN: {value: hunter2-value, hosts: ['https://api.example.com']}",
        "'BAD NAME': hunter2-value",
        "TOKEN: ''",
    ],
)
def test_a_file_of_another_shape_is_refused_without_showing_a_value(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text(text)
    with pytest.raises(SecretsError) as raised:
        load_secrets(path)
    assert "hunter2" not in str(raised.value)
    assert "12345678" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_an_empty_file_holds_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("# nothing yet\n")
    assert load_secrets(path).rules("local") == {}
    with pytest.raises(SecretsError, match="cannot be read"):
        load_secrets(tmp_path / "missing.yaml")


def test_variables_become_secrets_and_leave_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENT_SERVER_SECRET_API_TOKEN", "value-of-token")
    monkeypatch.setenv("AGENT_SERVER_SECRET_EMPTY", "")
    monkeypatch.setenv("SECRET_KEY", KEY)
    variables = take_secret_variables()
    assert take_secret_variables() == SecretVariables()
    secrets = open_secrets(tmp_path, variables=variables)
    assert values_of(secrets, ["API_TOKEN"]) == {"API_TOKEN": "value-of-token"}
    assert list(secrets.rules("anybody")) == ["API_TOKEN"]
    # The key of the store is nothing that a step may show either.
    assert secrets.to_mask({}) == {"value-of-token", KEY}
    assert "value-of-token" not in repr(variables)
    assert KEY not in repr(variables)


@pytest.mark.parametrize("name", ["A-B", "", "1A", "KEY", "A" * 129])
def test_a_variable_that_names_no_secret_is_refused(tmp_path: Path, name: str) -> None:
    variables = SecretVariables(values={f"AGENT_SERVER_SECRET_{name}": "hunter2-value"})
    with pytest.raises(SecretsError, match=f"AGENT_SERVER_SECRET_{name}: ") as raised:
        open_secrets(tmp_path, variables=variables)
    assert "hunter2" not in str(raised.value)


def test_a_variable_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for value, reason in {"\udcff": "not UTF-8", "x" * 65_537: "over 65536 bytes"}.items():
        with pytest.raises(SecretsError, match=reason):
            open_secrets(
                tmp_path, variables=SecretVariables(None, {"AGENT_SERVER_SECRET_A": value})
            )


def test_all_three_sources_are_one(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("OF_FILE: value-of-file\n")
    SecretStore(tmp_path, KEY).set("OF_STORE", "value-of-store", SecretRule())
    variables = SecretVariables(KEY, {"AGENT_SERVER_SECRET_OF_ENV": "value-of-env"})
    secrets = open_secrets(tmp_path, path, variables)
    found = values_of(secrets, ["OF_ENV", "OF_FILE", "OF_STORE"])
    assert set(found.values()) == {"value-of-env", "value-of-file", "value-of-store"}
    assert secrets.to_mask({}) == {*found.values(), KEY}
    assert set(secrets.paths) == {path, tmp_path / "secrets.enc"}
    shown = repr(secrets) + repr(secrets.entries()) + repr(secrets.resolve(found, "local"))
    assert "value-of" not in shown
    assert KEY not in shown


@pytest.mark.parametrize("places", [("env", "file"), ("env", "store"), ("file", "store")])
def test_a_name_in_two_places_is_refused_at_the_start_and_names_both(
    tmp_path: Path, places: tuple[str, str]
) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("A: hunter2-value\n" if "file" in places else "B: hunter2-value\n")
    name = "A" if "env" in places else "C"
    variables = SecretVariables(KEY, {f"AGENT_SERVER_SECRET_{name}": "hunter2-value"})
    if "store" in places:
        SecretStore(tmp_path, KEY).set("A", "hunter2-value", SecretRule())
    with pytest.raises(SecretsError) as raised:
        open_secrets(tmp_path, path, variables)
    text = str(raised.value)
    wanted = {"env": "AGENT_SERVER_SECRET_A", "file": str(path), "store": "secrets.enc"}
    assert text.startswith("the secret 'A' is in two places, ")
    assert all(wanted[place] in text for place in places)
    assert "hunter2" not in text


def test_a_name_that_comes_into_two_places_is_given_by_neither(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("A: {value: value-of-file, keys: [alice]}\nB: value-of-b\n")
    secrets = open_secrets(tmp_path, path, SecretVariables(KEY))
    store = SecretStore(tmp_path, KEY)
    store.set("A", "value-of-store", SecretRule())
    with pytest.raises(SecretsError, match="'A' is in two places"):
        secrets.resolve(["A"], "alice")
    assert "A" not in secrets.rules("bob")
    assert values_of(secrets, ["B"]) == {"B": "value-of-b"}
    store.remove("A")
    assert values_of(secrets, ["A"], "alice") == {"A": "value-of-file"}


def test_no_repr_shows_a_value() -> None:
    assert "hunter2" not in repr(Secrets({"TOKEN": "hunter2"}))


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: "\0" not in text))
def test_any_value_of_a_variable_is_taken_as_it_is(value: str) -> None:
    secrets = open_secrets(
        Path("/nowhere"), variables=SecretVariables(values={"AGENT_SERVER_SECRET_A": value})
    )
    assert values_of(secrets, ["A"]) == {"A": value}
