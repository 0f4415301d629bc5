"""The rows of providers, and what is made of them."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.chat_request import ChatRequest, Message, TextPart
from providers.registry import (
    ENTRY_POINT_GROUP,
    ROWS,
    ProviderConfig,
    ProviderConfigError,
    create_provider,
    provider_names,
    provider_row,
)
from providers.upstream import RetryPolicy, Timeouts, Upstream
from tests.servers import Scripted, scripted

KEY = "sk-very-secret"
ASKED = ChatRequest("m", (Message("user", (TextPart("Hi"),)),))
STREAM = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
BUILT_IN = (
    "openai", "anthropic", "together", "groq", "ollama", "custom", "offline",
    "litellm",
)  # fmt: skip


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream()
    yield client
    await client.aclose()


def test_the_built_in_providers_are_known() -> None:
    assert provider_names()[: len(BUILT_IN)] == BUILT_IN
    assert [row.name for row in ROWS.values()] == list(ROWS)


@pytest.mark.parametrize("name", ["openai", "anthropic", "together", "groq"])
def test_a_provider_without_its_key_names_the_variable(name: str, upstream: Upstream) -> None:
    with pytest.raises(
        ProviderConfigError, match=f"{name} needs a key; set {name.upper()}_API_KEY"
    ):
        create_provider(name, ProviderConfig(), upstream)


@pytest.mark.parametrize("name", ["openai", "anthropic", "together", "groq", "ollama"])
def test_a_provider_has_a_default_model_unless_one_is_configured(
    name: str, upstream: Upstream
) -> None:
    made = create_provider(name, ProviderConfig(api_key=KEY), upstream)
    assert (made.name, made.default_model) == (name, ROWS[name].default_model)
    assert made.default_model
    chosen = create_provider(name, ProviderConfig(api_key=KEY, default_model="mine"), upstream)
    assert chosen.default_model == "mine"


@pytest.mark.parametrize(
    ("name", "suffix", "path"),
    [
        ("openai", "/v1", "/v1/chat/completions"),
        ("openai", "/anything/", "/anything/chat/completions"),
        ("custom", "/v1", "/v1/chat/completions"),
        ("custom", "", "/chat/completions"),
        ("together", "", "/v1/chat/completions"),
        ("together", "/v1", "/v1/chat/completions"),
        ("groq", "", "/openai/v1/chat/completions"),
        ("groq", "/openai/v1/", "/openai/v1/chat/completions"),
        ("ollama", "", "/v1/chat/completions"),
    ],
)
async def test_a_request_goes_to_the_configured_address(
    name: str, suffix: str, path: str, upstream: Upstream
) -> None:
    async with scripted(Scripted(pieces=(STREAM,))) as server:
        url = server.url.removeprefix("http://") if name == "ollama" else server.url
        config = ProviderConfig(api_key=KEY, base_url=url + suffix, default_model="m")
        events = [event async for event in create_provider(name, config, upstream).chat(ASKED)]
    assert events
    assert server.requests[0].path == path
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_timeouts_and_repeats_reach_the_calls(upstream: Upstream) -> None:
    async with scripted(Scripted(503)) as server:
        config = ProviderConfig(
            base_url=server.url,
            default_model="m",
            timeouts=Timeouts(total_seconds=5),
            retry=RetryPolicy(limit=1, base_seconds=0.0),
        )
        with pytest.raises(Exception, match="no capacity"):
            await create_provider("custom", config, upstream).models()
        assert len(server.requests) == 2


async def test_openai_at_another_address_is_a_service_that_imitates_it(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM,))) as server:
        config = ProviderConfig(base_url=server.url)
        made = create_provider("openai", config, upstream)
        cached = TextPart("Hi", {"cache_control": {"type": "ephemeral"}})
        request = ChatRequest("m", (Message("user", (cached,)),))
        assert [event async for event in made.chat(request)]
    [message] = server.requests[0].json["messages"]
    assert "cache_control" in message["content"][0]
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_openai_at_its_own_addresses_needs_its_key(url: str, upstream: Upstream) -> None:
    with pytest.raises(ProviderConfigError, match="OPENAI_API_KEY"):
        create_provider("openai", ProviderConfig(base_url=url), upstream)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("grok", ProviderConfig(), "unknown provider 'grok'; did you mean groq? known are openai,"),
        ("zzz", ProviderConfig(), "unknown provider 'zzz'; known are openai, anthropic, together"),
        ("custom", ProviderConfig(default_model="m"), "custom needs a base URL; give --base-url"),
        (
            "custom",
            ProviderConfig(base_url="http://a/v1"),
            "custom has no default model; give --model",
        ),
        (
            "groq",
            ProviderConfig(api_key=KEY, base_url="groq.com"),
            "the base URL of groq (--base-url or GROQ_BASE_URL): it must be a URL",
        ),
    ],
)
def test_a_configuration_that_will_not_do_says_how_to_mend_it(
    name: str, config: ProviderConfig, message: str, upstream: Upstream
) -> None:
    with pytest.raises(ProviderConfigError, match=f"^{re.escape(message)}"):
        create_provider(name, config, upstream)


def test_offline_needs_nothing(upstream: Upstream) -> None:
    assert create_provider("offline", ProviderConfig(), upstream).name == "offline"


def test_a_key_is_in_no_repr() -> None:
    assert KEY not in repr(ProviderConfig(api_key=KEY))


def test_rows_name_the_variables_of_keys_and_addresses() -> None:
    assert {name: row.key_variables for name, row in ROWS.items() if row.key_variables} == {
        "openai": ("OPENAI_API_KEY",),
        "anthropic": ("ANTHROPIC_API_KEY",),
        "together": ("TOGETHER_API_KEY",),
        "groq": ("GROQ_API_KEY",),
        "ollama": ("OLLAMA_API_KEY",),
    }
    assert provider_row("ollama").base_url_variables == ("OLLAMA_HOST",)


PLUGIN = '''
"""A third party's provider."""


class AcmeProvider:
    """Keeps what it was made of."""

    def __init__(self, **given):
        self.name = given["name"]
        self.default_model = given["default_model"] or "acme-1"
        self.given = given
'''


@pytest.fixture
def plugin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with a distribution that has two entry points, one of them broken."""
    (tmp_path / "acme_provider.py").write_text(PLUGIN)
    info = tmp_path / "acme_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\n"
        "acme = acme_provider:AcmeProvider\n"
        "broken = acme_provider:Missing\n"
        "groq = acme_provider:AcmeProvider\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("acme_provider", None)


@pytest.mark.usefixtures("plugin_folder")
def test_a_plugin_is_known_and_loaded_only_when_it_is_made(upstream: Upstream) -> None:
    assert "acme" in provider_names()
    assert provider_row("acme").name == "acme"
    assert "acme_provider" not in sys.modules
    made: Any = create_provider(
        "acme", ProviderConfig(api_key=KEY, base_url="https://acme.test/"), upstream
    )
    assert (made.name, made.default_model) == ("acme", "acme-1")
    assert made.given["upstream"] is upstream
    assert made.given["base_url"] == "https://acme.test"
    assert made.given["api_key"] == KEY


@pytest.mark.usefixtures("plugin_folder")
def test_a_plugin_does_not_replace_a_provider_of_ours(upstream: Upstream) -> None:
    made = create_provider("groq", ProviderConfig(api_key=KEY), upstream)
    assert type(made).__module__ == "providers.openai.adapter"
    assert provider_names().count("groq") == 1


@pytest.mark.usefixtures("plugin_folder")
def test_a_plugin_that_cannot_be_loaded_is_named(upstream: Upstream) -> None:
    with pytest.raises(ProviderConfigError, match="broken cannot be loaded"):
        create_provider("broken", ProviderConfig(), upstream)
