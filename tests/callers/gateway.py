"""A gateway without the agent before the upstreams of `tests/model_upstream.py`, as callers see it.

Its named models are all the ways in which a door can meet an upstream: `<name>-by-<wire>`, where
the wire is what the upstream speaks; `<name>-by-fallback` has a first route that is down.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_server.accounts.keys import digest_of
from tests.model_upstream import ModelUpstream, model_upstream
from tests.running_server import RunningServer, running_server

WIRES = ("chat", "messages", "responses")
# What llm-comply takes for models that think: it skips its checks of thinking for all others.
NAMES = {"chat": "gpt-5", "messages": "claude-sonnet-4", "responses": "gpt-5"}
KEY = "sk-upstream-key-0123456789"
# Keys of callers: for every model, for one, for none.
CALLER, FEW, NONE = (f"as-{letter * 40}" for letter in "efn")
KEY_ENTRIES = " ".join(
    (
        f"caller=sha256:{digest_of(CALLER)};scopes=chat",
        f"few=sha256:{digest_of(FEW)};scopes=chat;models={NAMES['chat']}-by-chat",
        f"none=sha256:{digest_of(NONE)};scopes=approve",
    )
)
# A PNG of one pixel.
PIXEL_DATA = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
_FILE = """
providers:
  by-chat: {{like: custom, base_url: {url}/v1, api_key: "${{MODEL_KEY}}"}}
  by-messages: {{like: anthropic, base_url: {url}, api_key: "${{MODEL_KEY}}"}}
  by-responses: {{like: azure, base_url: {url}, api_key: "${{MODEL_KEY}}"}}
  by-all: {{like: litellm-gateway, base_url: {url}/v1, api_key: "${{MODEL_KEY}}"}}
  keeper: {{like: xai, base_url: {url}/v1, api_key: "${{MODEL_KEY}}"}}
  down: {{like: custom, base_url: {down}/v1}}
models:
{models}
"""
# The upstream's model decides what it is asked: this one of Azure's in Responses alone, and only
# those that think how much they shall.
_MODELS = {"chat": "gpt-5-real", "messages": "claude-real", "responses": "gpt-5-codex"}


@dataclass(frozen=True)
class Gateway:
    """A server, and the upstream behind it."""

    server: RunningServer
    upstream: ModelUpstream

    @property
    def url(self) -> str:
        return self.server.url


@contextmanager
def gateway(folder: Path, *options: str, keys: bool = False) -> Iterator[Gateway]:
    """The server as a process with these options of `serve`; `keys` has it ask for a key."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gateway.yaml"
    with model_upstream() as upstream, _closed_port() as down:
        path.write_text(_FILE.format(url=upstream.url, down=down, models=_models()))
        env = {"MODEL_KEY": KEY, "AGENT_SERVER_GATEWAY_CONFIG": str(path)}
        # What fails here fails on purpose, so nothing is asked again.
        env["AGENT_SERVER_MAX_RETRIES"] = "0"
        if keys:
            env["AGENT_SERVER_API_KEYS"] = KEY_ENTRIES
        with running_server(folder, *options, environment=env) as server:
            yield Gateway(server, upstream)


@contextmanager
def _closed_port() -> Iterator[str]:
    """An address that refuses: the port is bound and never listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


def _models() -> str:
    lines = []
    for name in dict.fromkeys(NAMES.values()):
        for wire in WIRES:
            route = f"{{provider: by-{wire}, model: {_MODELS[wire]}}}"
            lines.append(f"  {name}-by-{wire}: {{routes: [{route}]}}")
        down = "{provider: down, model: gone}"
        real = f"{{provider: by-chat, model: {_MODELS['chat']}}}"
        lines.append(f"  {name}-by-fallback: {{retries: 0, routes: [{down}, {real}]}}")
    return "\n".join(lines)
