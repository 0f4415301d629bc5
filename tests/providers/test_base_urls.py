"""Base URLs as people write them."""

import pytest

from providers import base_urls
from providers.base_urls import BaseUrlError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.groq.com", "https://api.groq.com/openai/v1"),
        ("https://api.groq.com/", "https://api.groq.com/openai/v1"),
        ("https://api.groq.com/openai", "https://api.groq.com/openai/v1"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1"),
        ("http://127.0.0.1:1/proxy/v1/", "http://127.0.0.1:1/proxy/v1"),
    ],
)
def test_groq_is_found_with_and_without_its_path(given: str, url: str) -> None:
    assert base_urls.with_openai_v1(given) == url


@pytest.mark.parametrize("given", ["https://api.together.xyz", "https://api.together.xyz/v1/"])
def test_together_is_found_with_and_without_v1(given: str) -> None:
    assert base_urls.with_v1(given) == "https://api.together.xyz/v1"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("gpu-box", "http://gpu-box:11434/v1"),
        ("gpu-box:8080", "http://gpu-box:8080/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),  # noqa: S104
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("::1", "http://[::1]:11434/v1"),
        ("[::1]:8080", "http://[::1]:8080/v1"),
        ("http://gpu-box", "http://gpu-box/v1"),
        ("http://gpu-box:11434/", "http://gpu-box:11434/v1"),
        ("https://ollama.com/v1", "https://ollama.com/v1"),
        (" gpu-box ", "http://gpu-box:11434/v1"),
    ],
)
def test_ollama_is_found_by_host_port_or_url(given: str, url: str) -> None:
    assert base_urls.ollama(given) == url


@pytest.mark.parametrize(
    ("given", "url"),
    [("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1"), (" https://a/b ", "https://a/b")],
)
def test_other_urls_are_taken_as_they_are(given: str, url: str) -> None:
    assert base_urls.as_given(given) == url


@pytest.mark.parametrize(
    "text",
    [
        "localhost:8000/v1",
        "ftp://a/v1",
        "http://",
        "http://a:port/v1",
        "http://a:99999/v1",
        "https://user:hunter2@a/v1",
        "https://a/v1?key=hunter2",
        "https://a/v1#hunter2",
    ],
)
def test_what_is_no_base_url_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(BaseUrlError) as raised:
        base_urls.as_given(text)
    assert "hunter2" not in str(raised.value)
