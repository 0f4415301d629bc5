"""What is looked at before litellm is loaded, and what may reach it; no test needs litellm."""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest

from providers.chat_request import ChatRequest, ImagePart, Message, OpaquePart, Part, TextPart
from providers.litellm.adapter import LiteLLMProvider
from providers.litellm.arguments import chat_to_arguments
from providers.litellm.errors import library_error_to_error
from providers.litellm.library import MALICIOUS_VERSIONS
from providers.registry import ProviderConfig, ProviderConfigError, create_provider
from providers.upstream import Upstream
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedFieldError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamOverloadedError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)


def user(*parts: Part) -> Message:
    return Message("user", parts or (TextPart("Hi"),))


def install(folder: Path, version: str) -> None:
    """Make a folder that looks like one into which a version of litellm was installed."""
    package = folder / "litellm"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('litellm was imported')\n")
    info = folder / f"litellm-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: litellm\nVersion: {version}\n")


def test_without_the_package_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ProviderConfigError, match=r"pip install 'agent-server\[litellm\]'"):
        create_provider("litellm", ProviderConfig(default_model="openai/x"), Upstream())


@pytest.mark.parametrize("version", sorted(MALICIOUS_VERSIONS))
def test_a_malicious_release_is_never_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    install(tmp_path, version)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProviderConfigError, match=f"litellm {version} is a malicious release"):
        LiteLLMProvider(default_model="openai/x")
    assert "litellm" not in sys.modules or sys.modules["litellm"].__file__ != str(tmp_path)


def test_a_provider_is_made_without_an_import(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(tmp_path, "1.109.1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    assert LiteLLMProvider(default_model="openai/x").default_model == "openai/x"
    assert "litellm" not in sys.modules
    with pytest.raises(ProviderConfigError, match="--model"):
        LiteLLMProvider(default_model=None)


@pytest.mark.parametrize(
    "model",
    ["huggingface/https://evil.example/x", "oobabooga/http://127.0.0.1:1", "HTTPS://evil.example"],
)
def test_a_model_cannot_be_an_address(model: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        chat_to_arguments(ChatRequest(model, (user(),)), "litellm")
    assert caught.value.param == "model"


def test_a_caller_cannot_say_where_a_request_goes() -> None:
    hostile = {
        "api_base": "https://evil.example",
        "base_url": "https://evil.example",
        "api_key": "k",
        "extra_headers": {"a": "b"},
        "custom_llm_provider": "openai",
        "model_list": [],
        "fallbacks": ["x"],
        "mock_response": "x",
        "vertex_credentials": "/etc/passwd",
        "aws_bedrock_runtime_endpoint": "https://evil.example",
        "metadata": {"a": 1},
        "tools": [{"type": "mcp", "server_url": "https://evil.example"}],
    }
    message = Message("user", (TextPart("Hi"),), extra={"file": "/etc/passwd", "cache_control": {}})
    arguments, dropped = chat_to_arguments(
        ChatRequest("openai/x", (message,), seed=3, extra={**hostile, "verbosity": "low"}),
        "litellm",
    )
    assert arguments == {
        "model": "openai/x",
        "messages": [{"role": "user", "content": "Hi", "cache_control": {}}],
        "seed": 3,
        "verbosity": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert set(dropped) == set(hostile)


PARTS: list[tuple[Part, bool]] = [
    (ImagePart("data:image/png;base64,AA=="), True),
    (ImagePart("https://example.com/a.png"), False),
    (ImagePart("/etc/passwd"), False),
    (OpaquePart({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}), True),
    (OpaquePart({"type": "input_audio", "input_audio": {"url": "https://example.com"}}), False),
    (OpaquePart({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}), True),
    (OpaquePart({"type": "file", "file": {"file_data": "https://example.com/a.pdf"}}), False),
    (OpaquePart({"type": "file", "file": {"file_id": "https://example.com/a.pdf"}}), False),
    (OpaquePart({"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}), False),
]


@pytest.mark.parametrize(("part", "is_taken"), PARTS)
def test_only_parts_that_hold_their_data_are_taken(part: Part, is_taken: bool) -> None:
    request = ChatRequest("openai/x", (user(), user(part)))
    if is_taken:
        arguments, _ = chat_to_arguments(request, "litellm")
        assert len(arguments["messages"]) == 2  # type: ignore[arg-type] # a list
        return
    with pytest.raises(UnsupportedFieldError) as caught:
        chat_to_arguments(request, "litellm")
    assert caught.value.param == "messages[1].content"


def library_error(*names: str, **fields: Any) -> Exception:
    """An error whose class and bases have these names, as litellm's and openai's have."""
    kind: type[Exception] = Exception
    for name in reversed(names):
        kind = type(name, (kind,), {})
    error = kind("told with sk-secret")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


ERRORS: list[tuple[Exception, type[AgentServerError]]] = [
    (
        library_error("ContextWindowExceededError", "BadRequestError", status_code=400),
        ContextLengthError,
    ),
    (library_error("UnsupportedParamsError", "BadRequestError"), UnsupportedFieldError),
    (library_error("BadRequestError", status_code=400), InvalidRequestError),
    (library_error("NotFoundError", status_code=404), NotFoundError),
    (library_error("AuthenticationError", status_code=401), UpstreamCredentialsError),
    (library_error("RateLimitError", status_code=429), UpstreamRateLimitError),
    (library_error("ServiceUnavailableError", status_code=503), UpstreamOverloadedError),
    (library_error("Timeout", "APITimeoutError", "APIConnectionError"), UpstreamTimeoutError),
    (library_error("APIConnectionError", status_code=500), UpstreamConnectionError),
    (
        library_error(
            "MidStreamFallbackError",
            status_code=503,
            original_exception=library_error("RateLimitError", status_code=429),
        ),
        UpstreamRateLimitError,
    ),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=[type(row[0]).__name__ for row in ERRORS])
def test_errors_are_told_by_class_and_status(error: Exception, kind: type[Exception]) -> None:
    ours = library_error_to_error(error, provider="litellm", now=0, secrets=("sk-secret",))
    assert type(ours) is kind
    assert "sk-secret" not in ours.message


def test_the_wait_that_an_upstream_asks_for_is_kept() -> None:
    headers = {"retry-after": "7"}
    error = library_error("RateLimitError", status_code=429, litellm_response_headers=headers)
    ours = library_error_to_error(error, provider="litellm", now=0)
    assert ours.retry_after_seconds == 7
