from dataclasses import replace
from pathlib import Path

import pytest

from agent_server.accounts.keys import digest_of
from agent_server.gateway.breakers import BreakerPolicy
from agent_server.gateway.budgets import Budgets
from agent_server.gateway.config_file import (
    ConfigFileError,
    GatewayFile,
    Surroundings,
    load_gateway_file,
    read_gateway_file,
)
from agent_server.gateway.config_nodes import MAX_BYTES
from providers.retry import RetryPolicy
from tests.doc_pages import Block, blocks

SECRET = "sk-canary-0123456789abcdef"
AROUND = Surroundings(
    environment={"LAB_KEY": SECRET, "LAB_HOST": "lab.example:9000", "EMPTY": ""},
    usable=("openai", "anthropic"),
    mends={"openai": "", "anthropic": "", "groq": "set GROQ_API_KEY"},
    rows=("openai", "anthropic", "groq", "custom"),
    budgets=Budgets(total_seconds=500),
    retry=RetryPolicy(limit=2, base_seconds=0.25),
)
WHOLE = f"""
providers:
  lab:
    base_url: http://${{LAB_HOST}}/v1
    api_key: ${{LAB_KEY}}
    timeouts: {{first_token: 9, idle: 30}}
  claude-eu:
    like: anthropic
    api_key_file: eu.key
    default_model: claude-sonnet-5-5
models:
  smart:
    strategy: weighted
    retries: 0
    patience_seconds: 0
    hedge_after_seconds: 1.5
    timeouts: {{total: 60, idle: 20}}
    routes:
      - {{provider: openai, model: gpt-5.4, weight: 3, context_window: 400000}}
      - provider: lab
        model: meta-llama/Llama-3.3-70B
        max_in_flight: 8
        timeouts: {{idle: 5}}
    fallbacks:
      - cheap
      - {{model: long, on: [context_length, content_filter]}}
  cheap:
    routes: [{{provider: claude-eu, model: claude-haiku-5}}]
    fallbacks: [long]
  long:
    routes:
      - {{provider: anthropic, model: claude-sonnet-5-5, context_window: 1000000}}
keys:
  - {{name: alice, sha256: {digest_of("a")}, requests_per_minute: 5}}
  - {{name: bob, sha256: {digest_of("b")}}}
limits: {{requests_per_minute: 60, parallel: 4}}
prices:
  lab/*: {{input: 0.1, output: 0.2}}
breaker: {{failures: 3, probe_seconds: 2}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "eu.key").write_text(f"{SECRET}-eu\n")
    return tmp_path / "gateway.yaml"


def read(text: str, path: Path) -> GatewayFile:
    return read_gateway_file(text.encode(), path, AROUND)


def complaints(text: str, path: Path) -> list[str]:
    with pytest.raises(ConfigFileError) as caught:
        read(text, path)
    assert SECRET not in str(caught.value) + repr(caught.value)
    return str(caught.value).splitlines()


def test_a_whole_file_is_read(path: Path) -> None:
    file = read(WHOLE, path)
    lab, claude = file.providers["lab"], file.providers["claude-eu"]
    assert (lab.like, lab.base_url) == ("custom", "http://lab.example:9000/v1")
    assert (lab.api_key, claude.api_key) == (SECRET, f"{SECRET}-eu")
    assert lab.budgets == replace(AROUND.budgets, first_token_seconds=9, idle_seconds=30)
    assert file.breaker == BreakerPolicy(failures=3, probe_seconds=2)
    assert file.files == (path, path.parent / "eu.key")
    assert file.prices["lab/*"].rates.input > 0
    smart = file.plans["smart"]
    assert (smart.strategy, smart.is_named, smart.hedge_after_seconds) == ("weighted", True, 1.5)
    assert smart.retry == replace(AROUND.retry, limit=0)
    assert (smart.patience_seconds, smart.budgets.total_seconds) == (0, 60)
    openai, local = smart.routes
    assert (openai.route_id, openai.weight, openai.context_window) == ("openai/gpt-5.4", 3, 400000)
    assert (openai.budgets.idle_seconds, openai.origin) == (20, "")
    # The route's own bounds before the model's, before the provider's, before the settings'.
    assert (local.budgets.idle_seconds, local.budgets.first_token_seconds) == (5, 9)
    assert (local.max_in_flight, local.origin) == (8, lab.origin)


def test_fallbacks_are_linked_with_their_own(path: Path) -> None:
    smart = read(WHOLE, path).plans["smart"]
    cheap, long = smart.fallbacks
    assert (cheap.plan.name, cheap.on) == ("cheap", {"error"})
    assert (long.plan.name, long.on) == ("long", {"context_length", "content_filter"})
    assert cheap.plan.fallbacks[0].plan == long.plan
    assert cheap.plan.retry.limit == 1


def test_a_key_has_the_files_limits_where_it_says_nothing(path: Path) -> None:
    alice, bob = read(WHOLE, path).keys
    assert (alice.requests_per_minute, alice.parallel) == (5, 4)
    assert (bob.requests_per_minute, bob.parallel) == (60, 4)


def test_no_key_is_shown_by_what_was_read(path: Path) -> None:
    file = read(WHOLE, path)
    assert SECRET not in repr(file)
    assert SECRET not in file.providers["lab"].origin


def test_another_key_or_address_is_another_origin(path: Path) -> None:
    lab = read(WHOLE, path).providers["lab"]
    origins = {lab.origin, replace(lab, api_key="x").origin, replace(lab, base_url="x").origin}
    assert len(origins) == 3
    assert lab.origin == read(WHOLE, path).providers["lab"].origin


def test_a_provider_of_the_servers_own_may_be_configured_here(path: Path) -> None:
    file = read("providers:\n  groq: {api_key: '${LAB_KEY}'}\nmodels: {}", path)
    assert file.providers["groq"].like == "groq"


MODEL = "models:\n  m:\n    routes: [{provider: openai, model: x}]\n"
FAULTS = [
    ("", "the file: it is empty; write at least `models: {}`"),
    ("# nothing\n", "the file: it is empty"),
    ("- a\n", "line 1: is no mapping"),
    ("model:\n  m: 1\n", "line 1: model: is no field here; did you mean `models`?"),
    ("models:\n  m: {}\n", "line 2: models.m.routes: needs from 1 to 32 routes"),
    ("models:\n  m:\n    routes: x\n", "line 3: models.m.routes: must be a list"),
    ("models:\n  m:\n    routes: [{}]\n", "line 3: models.m.routes[0]: needs `provider`"),
    (
        "models:\n  m:\n    routes:\n      - {provider: opnai, model: x}\n",
        "line 4: models.m.routes[0].provider: no such provider; did you mean openai?",
    ),
    (
        "models:\n  m:\n    routes:\n      - {provider: groq, model: x}\n",
        "line 4: models.m.routes[0].provider: groq is not configured on this server: set GROQ",
    ),
    (MODEL + "    strategy: random\n", "line 4: models.m.strategy: must be one of priority"),
    (MODEL + "    retries: -1\n", "line 4: models.m.retries: must be a whole number from 0 to 10"),
    (MODEL + "    retries: yes\n", "line 4: models.m.retries: must be a whole number"),
    (MODEL + "    retries: true\n", "line 4: models.m.retries: must be a whole number"),
    (
        MODEL + "    retrys: 1\n",
        "line 4: models.m.retrys: is no field here; did you mean `retries`",
    ),
    (
        MODEL + "    timeouts: {total: 0}\n",
        "line 4: models.m.timeouts.total: must be a number over",
    ),
    (MODEL + "    timeouts: {total: .inf}\n", "models.m.timeouts.total: must be a number over 0"),
    (MODEL + "    timeouts: {first: 1}\n", "models.m.timeouts.first: is no field here"),
    (
        MODEL + "    fallbacks: [n]\n",
        "line 4: models.m.fallbacks[0]: no such model; name a model of",
    ),
    (
        MODEL + "    fallbacks: [m]\n",
        "line 4: models.m.fallbacks[0]: goes round in a circle: m > m",
    ),
    (
        MODEL + "    fallbacks: [{model: m, on: [always]}]\n",
        "must be a list of error, context_length",
    ),
    (
        "models:\n  a:\n    routes: [{provider: openai, model: x}]\n    fallbacks: [b]\n"
        "  b:\n    routes: [{provider: openai, model: y}]\n    fallbacks: [a]\n",
        "line 7: models.b.fallbacks[0]: goes round in a circle: a > b > a",
    ),
    (
        "models:\n  m:\n    routes:\n      - {provider: openai, model: x}\n"
        "      - {provider: openai, model: x}\n",
        "line 5: models.m.routes[1]: openai/x is there twice",
    ),
    (
        "models:\n  m:\n    strategy: weighted\n"
        "    routes: [{provider: openai, model: x, weight: 0}]",
        "needs a route with a weight over 0",
    ),
    (MODEL + "  m:\n    routes: []\n", "line 4: the key `m` is there twice; keep one"),
    (
        "models:\n  workflow-agent: {}\n",
        "line 2: models.workflow-agent: is the workflow agent's own",
    ),
    ("models:\n  'kubiya-workflow-agent:x': {}\n", "is the workflow agent's own name"),
    ("models:\n  'a b': {}\n", "a model's name has no spaces"),
    ("models: &a {}\n", "line 1: anchors and aliases"),
    ("models: !!map {}\n", "line 1: tags (`!!type`) are not read"),
    ("models: {}\n---\nmodels: {}\n", "line 2: there is a second document"),
    ("models: {<<: {}}\n", "line 1: a key is no plain text"),
    ("models: {\n", "line 2: this is not YAML"),
    ("models: " + "[" * 20 + "]" * 20, "line 1: it is nested over 12 levels"),
    ("models: \x00", "this is not"),
    ("providers:\n  lab: {}\n", "line 2: providers.lab: needs `base_url`, or `like`"),
    (
        "providers:\n  lab: {like: opnai}\n",
        "providers.lab.like: no such provider; did you mean openai?",
    ),
    ("providers:\n  a/b: {}\n", "line 2: providers.a/b: a provider's name is letters"),
    (
        f"providers:\n  lab:\n    base_url: http://h\n    api_key: {SECRET}\n",
        "line 4: providers.lab.api_key: a key is never written into this file",
    ),
    (
        "providers:\n  lab: {base_url: http://h, api_key: '${NOWHERE}'}\n",
        "line 2: providers.lab.api_key: the variable NOWHERE is not set",
    ),
    ("providers:\n  lab: {base_url: '${EMPTY}'}\n", "the variable EMPTY is not set"),
    (f"providers:\n  lab: {{base_url: 'ftp://{SECRET}'}}\n", "must be an address such as"),
    (f"providers:\n  lab: {{base_url: [{SECRET}]}}\n", "providers.lab.base_url: must be a text"),
    (
        "providers:\n  lab: {base_url: http://h, api_key_file: gone}\n",
        "api_key_file: the file cannot",
    ),
    ("keys:\n  - {name: a}\n", "line 2: keys[0]:"),
    ("keys:\n  - {name: a, sha256: " + SECRET + "}\n", "line 2: keys[0]:"),
    ("prices:\n  a/b: {input: -1, output: 1}\n", "line 2: prices.a/b:"),
    ("breaker: {failures: 0}\n", "line 1: breaker.failures: must be a whole number from 1"),
]


@pytest.mark.parametrize(("text", "complaint"), FAULTS, ids=[row[1] for row in FAULTS])
def test_a_fault_names_its_line_its_field_and_the_mend(
    text: str, complaint: str, path: Path
) -> None:
    found = complaints(text, path)
    assert any(complaint in line for line in found), found


def test_all_faults_are_told_at_once_in_the_order_of_the_file(path: Path) -> None:
    found = complaints(MODEL + "    retries: x\n    strategy: y\nbreaker: 3\n", path)
    assert [line.split(":")[0] for line in found] == ["line 4", "line 5", "line 6"]


def test_the_number_of_faults_that_are_told_is_bounded(path: Path) -> None:
    text = "models:\n" + "".join(f"  m{number}: 1\n" for number in range(1000))
    assert len(complaints(text, path)) == 20


def test_fallbacks_have_a_bounded_depth(path: Path) -> None:
    routes = "    routes: [{provider: openai, model: x}]\n"
    rows = "".join(f"  m{n}:\n{routes}    fallbacks: [m{n + 1}]\n" for n in range(2000))
    found = complaints(f"models:\n{rows}  m2000:\n{routes}", path)
    assert any("deep; list them at one model" in line for line in found)


def test_a_file_that_is_too_large_or_not_there_is_refused(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigFileError, match="over 1024 KiB"):
        load_gateway_file(path, AROUND)
    with pytest.raises(ConfigFileError, match="cannot be read: No such file"):
        load_gateway_file(path.with_name("gone"), AROUND)


EXAMPLES = [block for block in blocks("yaml") if block.page == "docs/routing.md"]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.where)
def test_a_file_of_the_docs_is_taken(block: Block, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "claude-eu").write_text(SECRET)
    around = replace(AROUND, usable=("openai", "anthropic", "offline"))
    path = tmp_path / "gateway.yaml"
    assert "smart" in read_gateway_file(block.text.encode(), path, around).plans
