import json
import sqlite3
from pathlib import Path

from agent_server.accounts.keys import digest_of
from tests.agent_server.command_line import run_command


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    none = run_command(tmp_path, "keys", "list", *data)
    assert (none.returncode, none.stdout) == (2, "")
    assert "keys create" in none.stderr

    made = run_command(
        *(tmp_path, "keys", "create", "--name", "alice", "--scopes", "chat+admin", "--json"),
        *("--rpm", "60", "--budget-day", "0.5", "--model", "gpt-*", "--model", "fast", *data),
    )
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert (key["name"], key["status"], key["owner"]) == ("alice", "active", "alice")
    assert (key["scopes"], key["models"]) == (["chat", "admin"], ["gpt-*", "fast"])
    assert (key["requests_per_minute"], key["budget_per_day"]) == (60, 0.5)
    with sqlite3.connect(tmp_path / "data" / "server.db") as connection:
        (digest,) = connection.execute("SELECT sha256 FROM api_keys").fetchone()
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert digest == digest_of(key["key"])
    assert key["key"] not in dump

    shown = run_command(tmp_path, "keys", "list", *data)
    assert "alice" in shown.stdout
    assert key["key"] not in shown.stdout

    revoked = run_command(tmp_path, "keys", "revoke", "alice", *data)
    assert revoked.stdout == f"{key['id']} alice revoked\n"
    listed = json.loads(run_command(tmp_path, "keys", "list", "--json", *data).stdout)
    assert [one["status"] for one in listed["data"]] == ["revoked"]


def test_what_cannot_be_a_key_or_a_store_is_said_in_one_line(tmp_path: Path) -> None:
    wrong = run_command(tmp_path, "keys", "create", "--name", "a b")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == ("Error: the name of a key is letters, digits and . _ @ -, at most 64\n")
    url = {"AGENT_SERVER_DATABASE_URL": "mysql://me:secret-word@host/name"}
    store = run_command(tmp_path, "keys", "list", variables=url)
    assert store.returncode == 2
    assert "AGENT_SERVER_DATABASE_URL: The store is 'sqlite'" in store.stderr
    assert "secret-word" not in store.stderr
