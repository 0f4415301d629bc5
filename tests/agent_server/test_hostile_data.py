"""A server on data that it cannot use: it says so, and shows nobody its inside."""

from pathlib import Path

from tests.running_server import ask, running_server


def test_a_damaged_journal_is_named_in_the_log_alone(tmp_path: Path) -> None:
    journal = tmp_path / "data" / "journal.db"
    journal.parent.mkdir()
    journal.write_bytes(b"no database" * 1_000)
    with running_server(tmp_path) as server:
        while str(journal) not in server.log:
            ready = ask(server.url, "GET", "/health/ready")
            assert ready.status == 503
        ready = ask(server.url, "GET", "/health/ready")
        assert [missing.keys() for missing in ready.json["missing"]] == [{"mcp_server", "state"}]
        assert str(tmp_path) not in ready.body.decode()
        assert ask(server.url, "GET", "/health").json["status"] == "healthy"
        assert "Traceback" not in server.log
    assert journal.read_bytes() == b"no database" * 1_000
