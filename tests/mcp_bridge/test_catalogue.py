"""Names and descriptions of tools."""

import hashlib
import logging
import re
from typing import Any

import pytest

from mcp_bridge.catalogue import Catalogue, listing_digest, log_changes
from mcp_bridge.listing import ListedTool
from mcp_bridge.server_spec import ServerSpec


def spec(name: str, **fields: Any) -> ServerSpec:
    return ServerSpec(name=name, command=("x",), **fields)


def listed(*names: str, description: str = "") -> list[ListedTool]:
    return [ListedTool(name, description, {"type": "object"}, {}) for name in names]


def names(*listings: tuple[ServerSpec, list[ListedTool]]) -> list[str]:
    return [tool.name for tool in Catalogue(listings).tools]


def hashed(server: str, tool: str) -> str:
    return "_" + hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:8]


def test_own_tools_are_bare_and_others_have_a_prefix() -> None:
    own, other = spec("own", is_own=True), spec("git hub")
    assert names((own, listed("run")), (other, listed("run"))) == ["run", "git_hub__run"]


@pytest.mark.parametrize("raw", ["wf.compile/v1", "ä", "x" * 100, "a b"])
def test_a_name_that_providers_refuse_is_changed_the_same_way_each_time(raw: str) -> None:
    (name,) = names((spec("s"), listed(raw)))
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", name)
    assert name.endswith(hashed("s", raw))
    assert Catalogue([(spec("s"), listed(raw))]).tools[0].server_tool == raw


def test_an_own_tool_wins_every_collision_whatever_the_order() -> None:
    own, other = spec("own", is_own=True), spec("a")
    foreign = "a__run" + hashed("a", "run")
    assert names((own, listed("a__run")), (other, listed("run"))) == ["a__run", foreign]
    assert names((other, listed("run")), (own, listed("a__run"))) == [foreign, "a__run"]


def test_two_foreign_tools_that_would_share_a_name_both_get_a_hash() -> None:
    found = names((spec("a"), listed("b__c")), (spec("a__b"), listed("c")))
    assert found == ["a__b__c" + hashed("a", "b__c"), "a__b__c" + hashed("a__b", "c")]


def test_hidden_and_filtered_tools_are_not_exposed() -> None:
    own = spec("own", is_own=True, hidden_tools=frozenset({"start_run"}))
    other = spec("o", include_tools=("get_*", "list_*"), exclude_tools=("*_secret",))
    tools = listed("get_it", "get_secret", "delete_it", "list_all")
    assert names((own, listed("run", "start_run")), (other, tools)) == [
        "run",
        "o__get_it",
        "o__list_all",
    ]


def test_a_description_is_cleaned_and_capped() -> None:
    (tool,) = Catalogue([(spec("s"), listed("t", description="\x1b[1m\u202e" + "d" * 5000))]).tools
    assert tool.description == "d" * 1023 + "…"


def test_a_tool_whose_schema_refers_elsewhere_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bad = ListedTool("bad", "", {"$ref": "http://127.0.0.1/x"}, {})
    with caplog.at_level(logging.WARNING):
        assert names((spec("s"), [bad, *listed("good")])) == ["s__good"]
    assert "s__bad is left out" in caplog.text


def test_a_tool_is_found_by_its_exposed_name_alone() -> None:
    catalogue = Catalogue([(spec("s"), listed("t"))])
    assert catalogue.find("s__t") is catalogue.tools[0]
    assert catalogue.find("t") is None


def test_the_digest_of_a_listing_ignores_order_and_sees_changes() -> None:
    one, two = listed("a", "b"), listed("b", "a")
    assert listing_digest(one) == listing_digest(two)
    assert listing_digest(one) != listing_digest(listed("a", "b", description="new"))


def test_tools_that_change_behind_our_back_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_changes("s", listed("a", "b"), [*listed("b", description="evil"), *listed("c")])
    rows = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert rows == [
        ("INFO", "MCP server s: tools new: c"),
        ("INFO", "MCP server s: tools gone: a"),
        ("WARNING", "MCP server s: tools changed: b"),
    ]
