"""The rows of providers, and what is made of them."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from providers.anthropic.adapter import AnthropicProvider
from providers.chat_request import ChatRequest, Message, TextPart
from providers.openai.adapter import OpenAIProvider
from providers.openai.addresses import PATHS, Addresses
from providers.registry import (
    ENTRY_POINT_GROUP,
    ROWS,
    ProviderConfig,
    ProviderConfigError,
    create_provider,
    provider_names,
    provider_row,
)
from providers.relay.request import RelayRequest, WireFormat
from providers.upstream import RetryPolicy, Timeouts, Upstream
from streaming.errors import UnsupportedFieldError, UpstreamError
from tests.recordings import Replay, exchanges_of, needs_recordings, provider_folders
from tests.servers import Scripted, scripted

KEY = "sk-very-secret"
ASKED = ChatRequest("m", (Message("user", (TextPart("Hi"),)),))
STREAM = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
BUILT_IN = (
    "openai", "anthropic", "together", "groq", "ollama", "azure", "cerebras", "deepseek", "google",
    "huggingface", "mistral", "openrouter", "perplexity", "xai", "litellm-gateway", "custom",
    "offline", "litellm",
)  # fmt: skip


OLD = "?api-version=2024-10-21"
ANSWERS: dict[WireFormat, bytes] = {
    "chat": b'{"id":"1","model":"m","choices":[{"index":0,"message":{"content":"Hi"},'
    b'"finish_reason":"stop"}]}',
    "responses": b'{"id":"r","object":"response","status":"completed","output":[]}',
    "messages": b'{"id":"m","type":"message","model":"m","content":[],"stop_reason":"end_turn"}',
    "embeddings": b'{"object":"list","data":[]}',
    "count_tokens": b'{"input_tokens":3}',
}
WIRES: dict[str, WireFormat] = {
    "chat.completions": "chat",
    "responses": "responses",
    "messages": "messages",
    "embeddings": "embeddings",
    "count_tokens": "count_tokens",
}
# Recorded at another address than the row's: an SDK's beta or native API, a path with two slashes,
# the addresses of single services behind HuggingFace's router, and OpenRouter's behind a proxy.
OTHER_ADDRESSES = {
    ("azure", "/chat/completions"),
    ("azure", "//openai/deployments/test-openai/chat/completions"),
    ("azure", "//openai/deployments/test-openai/embeddings"),
    ("deepseek", "/beta/chat/completions"),
    ("huggingface", "/nebius/v1/chat/completions"),
    ("huggingface", "/together/v1/chat/completions"),
    ("ollama", "/api/embeddings"),
    ("openrouter", "/v1/chat/completions"),
}


def recorded_rows() -> list[tuple[str, str]]:
    """The rows that have recordings, with the endpoints of these."""
    pairs = [(name, endpoint) for endpoint in WIRES for name in provider_folders(endpoint)]
    return [pair for pair in pairs if pair != ("ollama", "embeddings")]


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
            "azure",
            ProviderConfig(api_key=KEY),
            "azure needs a base URL; set AZURE_OPENAI_ENDPOINT or give --base-url",
        ),
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
        "azure": ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        "cerebras": ("CEREBRAS_API_KEY",),
        "deepseek": ("DEEPSEEK_API_KEY",),
        "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        "mistral": ("MISTRAL_API_KEY",),
        "openrouter": ("OPENROUTER_API_KEY",),
        "perplexity": ("PERPLEXITY_API_KEY",),
        "xai": ("XAI_API_KEY",),
        "litellm-gateway": ("LITELLM_API_KEY",),
    }
    assert provider_row("ollama").base_url_variables == ("OLLAMA_HOST",)


@needs_recordings
@pytest.mark.parametrize(("name", "endpoint"), recorded_rows())
def test_a_row_asks_where_its_recorded_traffic_asked(
    name: str, endpoint: str, replay: Replay
) -> None:
    row = ROWS[name]
    asked = {
        (exchange.request["path"], (exchange.request.get("body") or {}).get("model") or "")
        for exchange in exchanges_of(replay, name, endpoint)
        if (name, exchange.request["path"]) not in OTHER_ADDRESSES
    }
    assert asked
    for path, model in asked:
        if name == "anthropic":
            assert path == "/v1" + PATHS[WIRES[endpoint]]
            continue
        base_url = row.base_url or row.read_base_url(_azure_endpoint(path))
        addresses = Addresses(base_url, row.paths)
        deployment = path.split("/")[3] if "/deployments/" in path else model
        sent = urlsplit(addresses.root).path + addresses.path(WIRES[endpoint], deployment)
        assert sent.partition("?")[0] == path


def _azure_endpoint(path: str) -> str:
    if path.startswith("/openai/v1/"):
        return "https://resource.openai.azure.com/"
    if path.startswith("/openai/deployments/"):
        return "https://resource.openai.azure.com/?api-version=2024-10-21"
    return "https://resource.services.ai.azure.com/models?api-version=2024-05-01-preview"


@pytest.mark.parametrize(
    ("endpoint", "wire", "path"),
    [
        ("", "chat", "/openai/v1/chat/completions"),
        ("/openai", "responses", "/openai/v1/responses"),
        ("/openai/v1/", "embeddings", "/openai/v1/embeddings"),
        (OLD, "chat", "/openai/deployments/my%20own/chat/completions" + OLD),
        (OLD, "embeddings", "/openai/deployments/my%20own/embeddings" + OLD),
        (OLD, "responses", "/openai/responses" + OLD),
        ("/models" + OLD, "chat", "/models/chat/completions" + OLD),
    ],
)
async def test_azure_is_asked_with_its_own_header_and_addresses(
    endpoint: str, wire: WireFormat, path: str, upstream: Upstream
) -> None:
    async with scripted(Scripted(pieces=(ANSWERS[wire],))) as server:
        config = ProviderConfig(api_key=KEY, base_url=server.url + endpoint)
        azure = create_provider("azure", config, upstream)
        assert isinstance(azure, OpenAIProvider)
        async with await azure.relay(RelayRequest(wire, "my own", {}, stream=False)) as answer:
            assert await answer.read() == ANSWERS[wire]
    (asked,) = server.requests
    assert asked.path == path
    assert asked.headers["api-key"] == KEY
    assert "authorization" not in asked.headers


async def test_azures_older_api_is_asked_with_its_version_everywhere(upstream: Upstream) -> None:
    failure = b'{"error":{"message":"no","code":"503"}}'
    async with scripted(Scripted(503, (failure,))) as server:
        config = ProviderConfig(api_key=KEY, base_url=server.url + OLD, retry=RetryPolicy(limit=0))
        azure = create_provider("azure", config, upstream)
        assert isinstance(azure, OpenAIProvider)
        for model in ("m", "o3-pro"):
            with pytest.raises(UpstreamError):
                await anext(azure.chat(replace(ASKED, model=model)))
        for path in ("/responses/r", "/responses/r?stream=true"):
            with pytest.raises(UpstreamError):
                await azure.fetch("GET", path)
        with pytest.raises(UpstreamError):
            await azure.models()
    assert [request.path for request in server.requests] == [
        "/openai/deployments/m/chat/completions" + OLD,
        "/openai/responses" + OLD,
        "/openai/responses/r" + OLD,
        "/openai/responses/r?stream=true&" + OLD[1:],
        "/openai/models" + OLD,
    ]


def test_an_endpoint_of_azure_takes_no_other_query(upstream: Upstream) -> None:
    config = ProviderConfig(api_key=KEY, base_url="https://a.openai.azure.com/?code=secret")
    with pytest.raises(ProviderConfigError, match="AZURE_OPENAI_ENDPOINT") as caught:
        create_provider("azure", config, upstream)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wire", ["chat", "responses", "messages", "embeddings", "count_tokens"])
async def test_a_litellm_gateway_is_asked_in_every_format(
    wire: WireFormat, upstream: Upstream
) -> None:
    async with scripted(Scripted(pieces=(ANSWERS[wire],))) as server:
        config = ProviderConfig(api_key=KEY, base_url=server.url)
        gateway = create_provider("litellm-gateway", config, upstream)
        assert isinstance(gateway, OpenAIProvider)
        request = RelayRequest(wire, "claude", {"messages": []}, stream=False)
        async with await gateway.relay(request) as answer:
            assert await answer.read() == ANSWERS[wire]
    (asked,) = server.requests
    assert asked.path == "/v1" + PATHS[wire]
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert ("anthropic-version" in asked.headers) == (wire in {"messages", "count_tokens"})


async def test_a_service_that_imitates_openai_is_not_asked_for_responses(
    upstream: Upstream,
) -> None:
    imitation = create_provider("openai", ProviderConfig(base_url="http://127.0.0.1:9"), upstream)
    assert isinstance(imitation, OpenAIProvider)
    assert imitation.relays == {"chat", "embeddings"}
    with pytest.raises(UnsupportedFieldError, match="does not take m in the responses format"):
        await imitation.relay(RelayRequest("responses", "m", {}, stream=False))


def test_the_formats_of_a_row_are_those_that_its_provider_relays(upstream: Upstream) -> None:
    for name, row in ROWS.items():
        if row.wires:
            config = ProviderConfig(api_key=KEY, base_url="http://127.0.0.1:9", default_model="m")
            if name == "openai":
                config = ProviderConfig(api_key=KEY)
            provider = create_provider(name, config, upstream)
            assert isinstance(provider, OpenAIProvider | AnthropicProvider)
            assert provider.relays == row.wires


def test_a_model_that_knows_one_format_alone_is_relayed_in_that(upstream: Upstream) -> None:
    openai = create_provider("openai", ProviderConfig(api_key=KEY), upstream)
    assert isinstance(openai, OpenAIProvider)
    assert "chat" in openai.relays_for("gpt-5.4-mini")
    assert openai.relays_for("gpt-5.4-pro") == {"responses", "embeddings"}


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
