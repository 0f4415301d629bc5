"""Every provider as a row of data; what speaks one of OpenAI's formats is nothing but a row.

Nothing here reads the environment; the rows only name its variables. The default models were on
offer on 2026-11-22 without an announced end, or are those of the last recorded traffic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from providers import base_urls
from providers.openai import quirks
from providers.openai.quirks import Quirks
from providers.relay.request import WireFormat

CHAT: frozenset[WireFormat] = frozenset({"chat"})
COMPATIBLE_WIRES: frozenset[WireFormat] = CHAT | {"embeddings"}
RESPONSES_WIRES: frozenset[WireFormat] = COMPATIBLE_WIRES | {"responses"}
MESSAGES_WIRES: frozenset[WireFormat] = frozenset({"messages", "count_tokens"})
NO_WIRES: frozenset[WireFormat] = frozenset()


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One provider as data.

    `key_variables` and `base_url_variables` name the environment variables in the order in which
    they count; the key goes as `Bearer` where `key_header` is None. `wires` are the formats that
    the upstream speaks, `paths` those of them that lie elsewhere below its base URL;
    `keeps_responses` tells that it stores responses for later calls. `factory` is a
    `module:attribute`, imported on first use; None is OpenAI's formats. One that `needs_nothing` is
    called without arguments.
    """

    name: str
    default_model: str | None = None
    base_url: str | None = None
    needs_key: bool = False
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    read_base_url: Callable[[str], str] = base_urls.as_given
    key_header: str | None = None
    quirks: Quirks = quirks.COMPATIBLE
    wires: frozenset[WireFormat] = COMPATIBLE_WIRES
    keeps_responses: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)
    factory: str | None = None
    needs_nothing: bool = False


OPENAI_HOST = "api.openai.com"
OPENAI_ROW = ProviderRow(
    "openai",
    default_model="gpt-5.4-mini",
    base_url=f"https://{OPENAI_HOST}/v1",
    needs_key=True,
    key_variables=("OPENAI_API_KEY",),
    base_url_variables=("OPENAI_BASE_URL",),
    quirks=quirks.OPENAI,
    wires=RESPONSES_WIRES,
    keeps_responses=True,
)
ROWS: Mapping[str, ProviderRow] = {
    row.name: row
    for row in (
        OPENAI_ROW,
        ProviderRow(
            "anthropic",
            default_model="claude-sonnet-5-5",
            base_url="https://api.anthropic.com",
            needs_key=True,
            key_variables=("ANTHROPIC_API_KEY",),
            base_url_variables=("ANTHROPIC_BASE_URL",),
            wires=MESSAGES_WIRES,
            factory="providers.anthropic.adapter:AnthropicProvider",
        ),
        ProviderRow(
            "together",
            default_model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
            base_url="https://api.together.ai/v1",
            needs_key=True,
            key_variables=("TOGETHER_API_KEY",),
            base_url_variables=("TOGETHER_BASE_URL",),
            read_base_url=base_urls.with_v1,
            quirks=quirks.TOGETHER,
        ),
        ProviderRow(
            "groq",
            default_model="llama-3.3-70b-versatile",
            base_url="https://api.groq.com/openai/v1",
            needs_key=True,
            key_variables=("GROQ_API_KEY",),
            base_url_variables=("GROQ_BASE_URL",),
            read_base_url=base_urls.with_openai_v1,
            quirks=quirks.GROQ,
            wires=CHAT,
        ),
        ProviderRow(
            "ollama",
            default_model="llama3.2",
            base_url=f"http://127.0.0.1:{base_urls.OLLAMA_PORT}/v1",
            key_variables=("OLLAMA_API_KEY",),
            base_url_variables=("OLLAMA_HOST",),
            read_base_url=base_urls.ollama,
            quirks=quirks.OLLAMA,
        ),
        ProviderRow(
            "azure",
            default_model="gpt-5-nano",
            needs_key=True,
            key_variables=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
            base_url_variables=("AZURE_OPENAI_ENDPOINT",),
            read_base_url=base_urls.azure,
            key_header="api-key",
            quirks=quirks.AZURE,
            wires=RESPONSES_WIRES,
            keeps_responses=True,
        ),
        ProviderRow(
            "cerebras",
            default_model="gpt-oss-120b",
            base_url="https://api.cerebras.ai/v1",
            needs_key=True,
            key_variables=("CEREBRAS_API_KEY",),
            base_url_variables=("CEREBRAS_BASE_URL",),
            read_base_url=base_urls.with_v1,
            quirks=quirks.CEREBRAS,
            wires=CHAT,
        ),
        ProviderRow(
            "deepseek",
            default_model="deepseek-v4-flash",
            base_url="https://api.deepseek.com",
            needs_key=True,
            key_variables=("DEEPSEEK_API_KEY",),
            base_url_variables=("DEEPSEEK_BASE_URL",),
            wires=CHAT | {"responses"},
        ),
        ProviderRow(
            "google",
            default_model="gemini-2.5-pro",
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            needs_key=True,
            key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            base_url_variables=("GEMINI_BASE_URL",),
        ),
        ProviderRow(
            "huggingface",
            default_model="meta-llama/Llama-3.1-8B-Instruct",
            base_url="https://router.huggingface.co/v1",
            needs_key=True,
            key_variables=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
            base_url_variables=("HUGGINGFACE_BASE_URL",),
            read_base_url=base_urls.with_v1,
            wires=CHAT,
        ),
        ProviderRow(
            "mistral",
            default_model="mistral-small-latest",
            base_url="https://api.mistral.ai/v1",
            needs_key=True,
            key_variables=("MISTRAL_API_KEY",),
            base_url_variables=("MISTRAL_BASE_URL",),
            read_base_url=base_urls.with_v1,
            quirks=quirks.MISTRAL,
        ),
        ProviderRow(
            "openrouter",
            default_model="openai/gpt-5.6-sol",
            base_url="https://openrouter.ai/api/v1",
            needs_key=True,
            key_variables=("OPENROUTER_API_KEY",),
            base_url_variables=("OPENROUTER_BASE_URL",),
            read_base_url=base_urls.with_v1,
            quirks=quirks.OPENROUTER,
            wires=RESPONSES_WIRES,
        ),
        ProviderRow(
            "perplexity",
            default_model="sonar",
            base_url="https://api.perplexity.ai",
            needs_key=True,
            key_variables=("PERPLEXITY_API_KEY",),
            base_url_variables=("PERPLEXITY_BASE_URL",),
            quirks=quirks.PERPLEXITY,
            paths={"embeddings": "/v1/embeddings", "models": "/v1/models"},
        ),
        ProviderRow(
            "xai",
            default_model="grok-4.3",
            base_url="https://api.x.ai/v1",
            needs_key=True,
            key_variables=("XAI_API_KEY",),
            base_url_variables=("XAI_BASE_URL",),
            read_base_url=base_urls.with_v1,
            quirks=quirks.XAI,
            wires=CHAT | {"responses"},
            keeps_responses=True,
        ),
        ProviderRow(
            "litellm-gateway",
            default_model="gpt-5.4-mini",
            key_variables=("LITELLM_API_KEY",),
            base_url_variables=("LITELLM_GATEWAY_URL",),
            read_base_url=base_urls.with_v1,
            quirks=quirks.GATEWAY,
            wires=RESPONSES_WIRES | MESSAGES_WIRES,
        ),
        ProviderRow("custom"),
        ProviderRow(
            "offline", wires=NO_WIRES, factory="providers.offline.adapter:create_offline_provider"
        ),
        ProviderRow("litellm", wires=NO_WIRES, factory="providers.litellm.adapter:LiteLLMProvider"),
    )
}
