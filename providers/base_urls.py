"""Base URLs as people write them, in the one form that an adapter appends its paths to. Pure."""

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

OLLAMA_PORT = 11434
_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
# What a server listens on is no address to call.
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class BaseUrlError(ValueError):
    """The text is no base URL; the message says why, without quoting it."""


def as_given(text: str) -> str:
    """The URL without the slash at its end."""
    parts = _split(text)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def with_v1(text: str) -> str:
    """The URL with `/v1` at its end, whether it was written or not."""
    return _with_path(text, "/v1")


def with_openai_v1(text: str) -> str:
    """The URL with `/openai/v1` at its end (Groq); one that ends with any `/v1` is left alone."""
    return _with_path(text, "/openai/v1")


def ollama(text: str) -> str:
    """Ollama's `OLLAMA_HOST`, which may be a host, host:port or URL, as a URL with `/v1`.

    Without a scheme the port is Ollama's own, with one it is the scheme's, as in Ollama's clients.
    """
    if "://" in text:
        return with_v1(text)
    text = text.strip()
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    parts = _split(f"http://{'127.0.0.1' if text.startswith(':') else ''}{text}")
    host = _ANY_ADDRESS.get(parts.hostname or "", parts.hostname or "")
    host = f"[{host}]" if ":" in host else host
    return with_v1(urlunsplit(parts._replace(netloc=f"{host}:{parts.port or OLLAMA_PORT}")))


def azure(text: str) -> str:
    """An `AZURE_OPENAI_ENDPOINT`: a resource's address, alone or with a path that is kept.

    The address alone stands for the `v1` API. A query `?api-version=...` chooses the older one, in
    which the model is a part of the path: there `{model}` stands for it.
    Source: Microsoft Learn, "API version lifecycle" of Azure OpenAI, 2026.
    """
    address, _, query = text.strip().partition("?")
    url = as_given(address)
    if query:
        name, _, version = query.partition("=")
        if name != "api-version" or not _API_VERSION.fullmatch(version):
            raise BaseUrlError("its query may only be an ?api-version=2024-10-21")
    path = urlsplit(url).path
    if path in {"", "/openai"}:
        url = url.removesuffix("/openai") + "/openai"
        url += "/deployments/{model}" if query else "/v1"
    return f"{url}?{query}" if query else url


def host_of(url: str) -> str:
    """The host of a URL in lower case."""
    return urlsplit(url).hostname or ""


def _with_path(text: str, path: str) -> str:
    url = as_given(text)
    if url.endswith("/v1"):
        return url
    head, _, tail = path.rpartition("/")
    return f"{url}/{tail}" if head and url.endswith(head) else url + path


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text.strip())
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise BaseUrlError("it must be a URL such as https://host/v1")
    if "@" in parts.netloc:
        raise BaseUrlError("it must not hold a user or password; give the key by its own setting")
    if parts.query or parts.fragment:
        raise BaseUrlError("it must not have a query or fragment")
    return parts
