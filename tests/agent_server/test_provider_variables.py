"""Which variables say what about which provider."""

from agent_server.provider_variables import PROVIDER_FIELDS, PROVIDER_NAMES, by_field
from agent_server.settings import Settings


def test_the_variables_that_are_set_go_to_the_field_that_holds_them() -> None:
    assert by_field({"HF_TOKEN": "k", "OLLAMA_HOST": "h", "XAI_API_KEY": "", "HOME": "/"}) == {
        "provider_keys": {"HF_TOKEN": "k"},
        "provider_urls": {"OLLAMA_HOST": "h"},
    }
    assert by_field({}) == {}


def test_no_variable_is_of_two_providers_or_the_name_of_another_setting() -> None:
    keys, urls = PROVIDER_FIELDS.values()
    assert not set(keys) & set(urls)
    assert len(PROVIDER_NAMES) == len(keys) + len(urls)
    assert not PROVIDER_NAMES & set(Settings.model_fields)
    assert set(PROVIDER_FIELDS) <= set(Settings.model_fields)
