"""The real server with a model that follows a script, and run tokens as its backend signs them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from agent_server.accounts.keys import digest_of
from streaming.run_tokens import RunClaims, key_of_phrase, sign_claims
from tests.conftest import ALICE, BOB, CAROL
from tests.running_server import Answer, RunningServer, ask, running_server
from tests.scripted_model import Script, ScriptedModel, Turn, scripted_model

CHAT = "/v1/chat/completions"
PHRASE = "a phrase that tests and servers share"
# The same for all tests: making it takes a quarter of a second.
KEY = key_of_phrase(PHRASE)
DAVE, ERIN, TINA = (f"as-{letter * 40}" for letter in "det")
ADMIN = "as-" + "z" * 40
ENTRIES = " ".join(
    (
        f"alice=sha256:{digest_of(ALICE)};scopes=chat+run",
        f"bob=sha256:{digest_of(BOB)};scopes=chat+run",
        f"carol=sha256:{digest_of(CAROL)};scopes=chat",
        # Two keys of one owner: one has few requests, the other few models.
        f"dave=sha256:{digest_of(DAVE)};scopes=chat+run;owner=team;rpm=2",
        f"erin=sha256:{digest_of(ERIN)};scopes=chat+run;owner=team;models=scripted",
        f"tina=sha256:{digest_of(TINA)};scopes=chat+run;tpm=1000000",
        f"gone=sha256:{'f' * 64};scopes=chat+run;expires=2020-01-01",
        f"admin=sha256:{digest_of(ADMIN)};scopes=admin",
    )
)
CLAIMS = RunClaims("alice", "run-1", "report", 1, 50_000, 8, (), 0)


@dataclass
class RunServer:
    """A server, its model and what that says next, and the shortest ways to ask it."""

    server: RunningServer
    model: ScriptedModel
    script: Script

    def say(self, *turns: Turn) -> None:
        """Let the model say these turns from now on, and forget what it was asked."""
        self.model.requests.clear()
        remaining = list(turns)
        self.script = lambda _: remaining.pop(0)

    async def ask(
        self,
        token: str,
        *messages: str,
        path: str = CHAT,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """One call with a run token or a key; a text is a message of the user."""
        said = [{"role": "user", "content": text} for text in messages or ("hello",)]
        body = {"model": "scripted", "messages": said, **fields}
        return await self.call(
            method, path, body if method == "POST" else None, token, headers=headers
        )

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request, while the model may be asked."""
        sent = {**({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        return await asyncio.to_thread(ask, self.server.url, method, path, body, sent)

    def tools_shown(self) -> list[str]:
        """The tools that the model was told of in the newest request."""
        tools = self.model.requests[-1].get("tools", [])
        return sorted(tool["function"]["name"] for tool in tools)

    async def tokens_left(self, key: str) -> int:
        """The tokens that a key may still use in this minute, asked by a call that takes 15."""
        self.say(Turn(["hello"], usage=(10, 5)))
        answer = await self.ask(key, max_tokens=1, stream=True)
        assert answer.status == 200, answer.body
        return int(answer.headers["x-ratelimit-remaining-tokens"])


def token(seconds: float = 60, *, key: bytes = KEY, **claims: Any) -> str:
    """A run token that is good for so many seconds from now."""
    return sign_claims(replace(CLAIMS, expires_at=int(time.time() + seconds), **claims), key)


@contextlib.asynccontextmanager
async def run_server(
    folder: Path, *options: str, keys: str = "", **environment: str
) -> AsyncIterator[RunServer]:
    """A server whose model is `scripted`, with these keys."""
    holder: list[RunServer] = []

    def script(body: dict[str, Any]) -> Turn:
        return holder[0].script(body)

    variables = {"OPENAI_API_KEY": "sk-" + "t" * 40, "SECRET_KEY": PHRASE, **environment}
    if keys:
        variables["AGENT_SERVER_API_KEYS"] = keys
    async with scripted_model(script) as model:
        chosen = ("--provider", "openai", "--base-url", model.url, "--model", "scripted")
        with running_server(folder, *chosen, *options, environment=variables) as server:
            holder.append(RunServer(server, model, lambda _: Turn(["hello"])))
            yield holder[0]


def tool_messages(body: dict[str, Any]) -> list[str]:
    """What tools answered, as the model was told."""
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def by_prompt(answers: dict[str, Callable[[dict[str, Any]], Turn]]) -> Script:
    """A script that goes by a word of the newest message of the user."""

    def script(body: dict[str, Any]) -> Turn:
        newest = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
        return next(answer(body) for word, answer in answers.items() if word in newest)

    return script


def workflow_text(*steps: dict[str, Any], **fields: Any) -> str:
    """A workflow as a model writes it."""
    return orjson.dumps({"name": "test", "steps": steps, **fields}).decode()


__all__: Sequence[str] = (
    "ADMIN",
    "ALICE",
    "BOB",
    "CHAT",
    "CLAIMS",
    "ENTRIES",
    "KEY",
    "TINA",
    "RunServer",
    "by_prompt",
    "run_server",
    "token",
    "tool_messages",
    "workflow_text",
)
