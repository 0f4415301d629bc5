"""Which providers the settings configure, and what is said about the others."""

import re
from collections.abc import AsyncIterator

import pytest

from agent_server.gateway.configured import configured_providers
from agent_server.settings import load_settings
from providers.upstream import Upstream
from streaming.errors import InvalidRequestError

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream()
    yield client
    await client.aclose()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("mistral", {"mistral_api_key": "k"}),
        ("google", {"google_api_key": "k"}),
        ("huggingface", {"hf_token": "k"}),
        ("azure", {"azure_openai_api_key": "k", "azure_openai_endpoint": NOWHERE}),
        ("litellm-gateway", {"litellm_gateway_url": NOWHERE}),
        ("ollama", {"ollama_host": NOWHERE}),
        ("openai", {"openai_base_url": NOWHERE}),
        ("offline", {}),
    ],
)
def test_a_provider_is_there_once_it_has_what_it_needs(
    name: str, given: dict[str, str], upstream: Upstream
) -> None:
    settings = load_settings(provider="offline", **given)
    pool = configured_providers(settings, "offline", upstream)
    assert pool.get(name).name == name


@pytest.mark.parametrize(
    ("name", "given", "mend"),
    [
        ("mistral", {}, "set MISTRAL_API_KEY"),
        ("azure", {"azure_openai_api_key": "k"}, "set AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPO"),
        ("litellm-gateway", {"litellm_api_key": "k"}, "set LITELLM_GATEWAY_URL"),
        ("ollama", {}, "set OLLAMA_HOST"),
        ("custom", {}, "start it with --provider custom"),
        ("lab", {}, "the gateway's file does not name it any more"),
    ],
)
def test_a_provider_that_lacks_something_says_what(
    name: str, given: dict[str, str], mend: str, upstream: Upstream
) -> None:
    settings = load_settings(provider="offline", **given)
    pool = configured_providers(settings, "offline", upstream)
    with pytest.raises(InvalidRequestError, match=re.escape(f"'{name}' is not configured")) as told:
        pool.get(name)
    assert mend in told.value.message
