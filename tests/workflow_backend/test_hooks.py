"""Webhook tokens: one for each place, nothing to read in it, and a key that stays."""

import logging
from pathlib import Path

import pytest

from workflow_backend.hooks import HOOKS_PATH, KEY_BYTES, KEY_FILE, HookKeyError, Hooks, HookTarget

TARGET = HookTarget("alice", "run-1", "listen[0]@2")
STARTED = {"type": "wait_started", "kind": "webhook", "step": "listen", "run_id": "run-1"}


def test_a_token_is_the_same_for_a_place_also_after_a_start(tmp_path: Path) -> None:
    token = Hooks(tmp_path).token(TARGET)
    assert Hooks(tmp_path).token(TARGET) == token
    assert Hooks(tmp_path).target(token) == TARGET
    assert Hooks(tmp_path).token(HookTarget("alice", "run-1", "other")) != token


def test_a_token_tells_nothing_and_no_changed_one_opens(tmp_path: Path) -> None:
    hooks = Hooks(tmp_path)
    token = hooks.token(TARGET)
    assert "alice" not in token
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    for place in range(0, len(token) - 1, 5):
        changed = "A" if token[place] != "A" else "B"
        assert hooks.target(token[:place] + changed + token[place + 1 :]) is None
    for wrong in ("", "A", token[:-4], f"{token}AAAA", "é", "a/b", "A" * 5_000):
        assert hooks.target(wrong) is None


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    hooks = Hooks(folder)
    assert not folder.exists()
    hooks.token(TARGET)
    assert [file.name for file in folder.iterdir()] == [KEY_FILE]
    key = folder / KEY_FILE
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == KEY_BYTES
    assert Hooks(tmp_path / "other").target(hooks.token(TARGET)) is None


def test_servers_with_the_same_secret_read_one_anothers_tokens(tmp_path: Path) -> None:
    token = Hooks(tmp_path / "one", "a secret of many").token(TARGET)
    assert Hooks(tmp_path / "two", "a secret of many").target(token) == TARGET
    assert Hooks(tmp_path / "two", "another secret").target(token) is None
    assert not (tmp_path / "one").exists()


def test_only_a_wait_for_a_webhook_is_shown_with_its_path(tmp_path: Path) -> None:
    hooks = Hooks(tmp_path)
    shown = hooks.shown({**STARTED, "hook": "listen@2"}, "alice")
    assert "hook" not in shown
    token = str(shown["url_path"]).removeprefix(f"{HOOKS_PATH}/")
    assert hooks.target(token) == HookTarget("alice", "run-1", "listen@2")
    for other in ({**STARTED, "kind": "signal"}, {"type": "step_running", "step": "listen"}):
        assert hooks.shown(other, "alice") == other


def test_a_key_that_cannot_be_used_costs_the_address_and_not_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    hooks = Hooks(tmp_path)
    with pytest.raises(HookKeyError, match="must hold 64 bytes"):
        hooks.token(TARGET)
    with caplog.at_level(logging.ERROR):
        assert hooks.shown(STARTED, "alice") == STARTED
    assert KEY_FILE in caplog.text
