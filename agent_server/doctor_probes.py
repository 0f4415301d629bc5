"""The checks that talk to something: provider, workflow backend, a server behind a proxy."""

import asyncio
import http.client
import tempfile
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import orjson

from agent_server.conversation import AGENT_MODEL, Conversation, ConversationError
from agent_server.doctor import Finding
from agent_server.mcp_servers import mcp_servers
from agent_server.provider_choice import (
    ProviderChoiceError,
    base_url_of,
    call_url,
    choose_provider,
    key_of,
)
from agent_server.server_client import ServerCallError, ServerClient
from agent_server.settings import Settings, variable_of
from mcp_bridge.bridge import Bridge
from mcp_bridge.server_spec import ServerSpec
from providers.base_urls import BaseUrlError
from providers.registry import provider_row

PROVIDER_SECONDS = 10.0
BACKEND_SECONDS = 30.0
MAX_LISTING_BYTES = 8 * 1024 * 1024
# The probe's step takes a second; a proxy that buffers brings its beginning and end together.
PROBE_WORKFLOW = """\
name: stream-check
steps:
  - name: wait
    run: sleep 1
"""
PROBE_GAP_SECONDS = 0.5
KEY_REFUSED = frozenset({401, 403})


def check_provider_answers(settings: Settings) -> Iterator[Finding]:
    """Whether the provider can be reached, takes the key and has the model."""
    try:
        name = choose_provider(settings).provider
        row = provider_row(name, base_url_of(settings, name))
        url = call_url(row, base_url_of(settings, name))
    except (ProviderChoiceError, BaseUrlError):
        return  # the local checks say it
    if url is None:
        return
    title = f"{name} at {url}"
    try:
        status, listing = _models(name, url, key_of(settings, name))
    except (OSError, http.client.HTTPException) as exc:
        mend = "start it with `ollama serve`" if name == "ollama" else "check network and proxy"
        mend += f", or correct {' or '.join((*row.base_url_variables, '--base-url'))}"
        yield Finding(title, "broken", f"does not answer: {exc}", mend)
        return
    if status in KEY_REFUSED:
        mend = f"correct {' or '.join(row.key_variables) or '--api-key-file'}"
        yield Finding(title, "broken", f"refuses the key (HTTP {status})", mend)
    elif status != http.client.OK:
        yield Finding(title, "note", f"answers, but lists no models (HTTP {status})")
    else:
        yield _check_model(title, settings.model or row.default_model, listing, name)


def check_backend(settings: Settings) -> Iterator[Finding]:
    """Whether the backend starts and lists its tools ("Failed to initialize MCP agent")."""
    with tempfile.TemporaryDirectory(prefix="agent-server-doctor-") as folder:
        backend = mcp_servers(settings.model_copy(update={"data_dir": folder, "mcp_config": None}))
        tools, said = asyncio.run(_tools_of(backend))
    if tools:
        yield Finding("Workflow backend", "ok", f"starts and lists {tools} tools")
    else:
        mend = "run `agent-server mcp` to see what it writes, or `make setup` again"
        yield Finding("Workflow backend", "broken", f"does not start: {said}", mend)


def check_server(url: str, key: str | None) -> Iterator[Finding]:
    """Whether a server answers at a URL, and streams through whatever stands before it."""
    client = ServerClient(url, key)
    try:
        found = client.call("GET", "/discover")
    except ServerCallError as exc:
        mend = "check the URL, the server and the proxy before it"
        yield Finding(f"Server at {url}", "broken", str(exc), mend)
        return
    if "capabilities" not in found:
        yield Finding(f"Server at {url}", "broken", "is no Agent Server", "check the URL")
        return
    yield Finding(f"Server at {url}", "ok", f"{found.get('name')} {found.get('version')}")
    yield _check_stream(url, key)


def _check_stream(url: str, key: str | None) -> Finding:
    title = "Streaming"
    seen: dict[str, float] = {}

    def note(event: Mapping[str, object]) -> None:
        seen.setdefault(str(event.get("type")), time.monotonic())

    conversation = Conversation(url, key, f"{AGENT_MODEL}:offline/offline")
    try:
        reply = conversation.ask(f"Run this workflow:\n\n```yaml\n{PROBE_WORKFLOW}```\n", note)
    except ConversationError as exc:
        mend = f"put a key with the scopes chat and run into {variable_of('client_key')}"
        return Finding(title, "broken", f"the server failed: {exc}", mend)
    finally:
        conversation.close()
    if "step_running" not in seen or "step_complete" not in seen:
        detail = f"could not be measured, because the server ran no workflow: {reply.text[:200]}"
        return Finding(title, "note", detail)
    if seen["step_complete"] - seen["step_running"] < PROBE_GAP_SECONDS:
        mend = (
            "turn the proxy's buffering off (nginx: `proxy_buffering off;` or let the header "
            "X-Accel-Buffering through), and its compression of text/event-stream"
        )
        return Finding(title, "broken", "all events came at once: a proxy holds them back", mend)
    return Finding(title, "ok", "events arrive as they happen")


def _models(name: str, url: str, key: str | None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=PROVIDER_SECONDS)
    headers = {"Accept": "application/json", "User-Agent": "agent-server"}
    path = f"{parts.path}/models"
    if name == "anthropic":
        path = f"{parts.path.removesuffix('/v1')}/v1/models"
        headers |= {"anthropic-version": "2023-06-01", "x-api-key": key or ""}
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(MAX_LISTING_BYTES)
    finally:
        connection.close()


def _check_model(title: str, model: str | None, listing: bytes, name: str) -> Finding:
    try:
        content = orjson.loads(listing)
    except orjson.JSONDecodeError:
        mend = "check that the base URL is the one of its API"
        return Finding(title, "broken", "answers, but not with JSON", mend)
    rows = content.get("data") if isinstance(content, dict) else content
    ids = {str(row.get("id")) for row in rows or [] if isinstance(row, dict)}
    if model is None or not ids or model in ids or f"{model}:latest" in ids:
        return Finding(title, "ok", f"answers, model {model or 'as the request says'}")
    mend = f"ollama pull {model}" if name == "ollama" else "choose another with --model"
    return Finding(title, "note", f"answers, but does not list the model {model}", mend)


async def _tools_of(servers: list[ServerSpec]) -> tuple[int, str]:
    bridge = Bridge(servers)
    await bridge.start()
    try:
        await bridge.wait_ready(BACKEND_SECONDS)
        status = bridge.status()[0]
        return len(bridge.tools()), status.last_error or status.state
    finally:
        await bridge.stop(0)
