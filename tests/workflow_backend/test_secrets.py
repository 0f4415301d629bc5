"""Secrets: read by name, shown never."""

from pathlib import Path

import pytest

from workflow_backend.secrets import Secrets, SecretsError, load_secrets


def test_values_and_files_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = tmp_path / "secrets.yaml"
    path.write_text("PLAIN: 'the value'\nFILED: {file: token}\n")
    secrets = load_secrets(path)
    assert secrets.names == ("FILED", "PLAIN")
    assert secrets.resolve(["FILED", "PLAIN"]) == {"FILED": "from-file", "PLAIN": "the value"}
    assert set(secrets.paths) == {path, tmp_path / "token"}


def test_a_file_is_read_only_when_its_secret_is_used(tmp_path: Path) -> None:
    secrets = Secrets({"GONE": tmp_path / "gone", "OTHER": "x"})
    assert secrets.resolve(["OTHER"]) == {"OTHER": "x"}
    with pytest.raises(SecretsError, match="gone of the secret 'GONE' cannot be read: No such"):
        secrets.resolve(["GONE"])


def test_all_values_are_masked_but_short_ones_of_others(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    sources = {"LONG": "long-enough", "FILE": tmp_path / "token", "GONE": tmp_path / "gone"}
    secrets = Secrets({**sources, "PORT": "8080", "USER": "root"})
    assert secrets.to_mask({}) == {"long-enough", "from-a-file"}
    assert secrets.to_mask({"PORT": "8080"}) == {"long-enough", "from-a-file", "8080"}


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SecretsError, match="no secret 'TOKN'; the server has: TOKEN"):
        Secrets({"TOKEN": "hunter2"}).resolve(["TOKN"])


@pytest.mark.parametrize(
    "text",
    [
        "TOKEN: hunter2-value\n bad: [",
        "- hunter2-value",
        "TOKEN: 12345678",
        "TOKEN: {file: 3}",
        "TOKEN: {value: hunter2-value}",
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
    assert load_secrets(path).names == ()
    with pytest.raises(SecretsError, match="cannot be read"):
        load_secrets(tmp_path / "missing.yaml")


def test_no_repr_shows_a_value() -> None:
    assert "hunter2" not in repr(Secrets({"TOKEN": "hunter2"}))
