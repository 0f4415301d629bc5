"""A model behind a real server on loopback that speaks chat, messages and responses as vendors do.

It answers by `tests/model_reply.py`; a message `fail 429` is answered by that status, `break off`
by a stream that is cut. What it stores of the Responses format it shows, continues and forgets.

Sources: OpenAI API reference, "Chat Completions", "Responses", "Embeddings", "Models"; Anthropic
API documentation, "Messages", "Count tokens", "List Models", all 2026-11.
"""

import asyncio
import base64
import contextlib
import itertools
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests import model_chat, model_messages, model_responses
from tests.model_reply import Asked, Reply, reply_to

MODELS = ("gpt-real", "claude-real", "gpt-5-codex")
START_SECONDS = 10
DIMENSIONS = 4
_FAILURE = re.compile(r"fail (\d{3})")
_BROKEN = "break off"


@dataclass(frozen=True)
class Request:
    """One request as it came; the names of `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ModelUpstream:
    """The server's state. `url` has no path; `requests` are all that came, in their order."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    responses: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[str, list[Any]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):024d}"

    def last_body(self, path_end: str) -> Any:
        """The newest body that was posted to a path of this end."""
        return next(r.body for r in reversed(self.requests) if r.path.endswith(path_end))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        if missing := {"model", "messages"} - body.keys():
            return _openai_error(400, f"you must provide {missing}")
        asked = model_chat.asked_of(body)
        if failure := _failure_of(asked):
            return _openai_error(failure)
        reply = reply_to(asked)
        answer_id = self.new_id("chatcmpl-")
        if not asked.stream:
            return _json(model_chat.body_of(answer_id, asked, reply))
        return await _stream(request, asked, model_chat.frames_of(answer_id, asked, reply))

    async def messages(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        if missing := {"model", "messages", "max_tokens"} - body.keys():
            return _anthropic_error(400, f"{missing}: Field required")
        asked = model_messages.asked_of(body)
        if failure := _failure_of(asked):
            return _anthropic_error(failure)
        reply = reply_to(asked)
        answer_id = self.new_id("msg_")
        if not asked.stream:
            return _json(model_messages.body_of(answer_id, asked, reply))
        return await _stream(request, asked, model_messages.frames_of(answer_id, asked, reply))

    async def count_tokens(self, request: web.Request) -> web.Response:
        asked = model_messages.asked_of(await self._body(request))
        return _json({"input_tokens": reply_to(asked).prompt_tokens})

    async def create_response(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        if missing := {"model", "input"} - body.keys():
            return _openai_error(400, f"you must provide {missing}")
        items = model_responses.items_of(body)
        if previous := body.get("previous_response_id"):
            if previous not in self.responses:
                return _openai_error(404)
            items = [*self.inputs[previous], *self.responses[previous]["output"], *items]
        asked = model_responses.asked_of(body, items)
        if failure := _failure_of(asked):
            return _openai_error(failure)
        answer_id = self.new_id("resp_")
        response = model_responses.body_of(answer_id, body, asked, reply_to(asked))
        self.responses[answer_id], self.inputs[answer_id] = response, items
        if asked.stream:
            return await _stream(request, asked, model_responses.frames_of(response))
        if body.get("background"):
            return _json({**response, "status": "queued", "output": [], "usage": None})
        return _json(response)

    async def one_response(self, request: web.Request) -> web.StreamResponse:
        """Show, delete or cancel a response, or list what it was made of."""
        await self._body(request)
        answer_id, what = request.match_info["id"], request.match_info.get("what")
        if answer_id not in self.responses:
            return _openai_error(404)
        response = self.responses[answer_id]
        if what == "input_items":
            items = enumerate(self.inputs[answer_id])
            data = [{"id": f"item_{number}", "type": "message", **item} for number, item in items]
            page = {"object": "list", "data": data[::-1], "has_more": False}
            return _json({**page, "first_id": data[-1]["id"], "last_id": data[0]["id"]})
        if what == "cancel":
            # One that has ended stays as it is.
            return _json(response)
        if request.method == "DELETE":
            del self.responses[answer_id]
            return _json({"id": answer_id, "object": "response", "deleted": True})
        if request.query.get("stream") == "true":
            after = int(request.query.get("starting_after", "-1"))
            frames = model_responses.frames_of(response)[after + 1 :]
            return await _stream(request, None, frames)
        return _json(response)

    async def embeddings(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        given = body["input"]
        texts = given if isinstance(given, list) and isinstance(given[0], str | list) else [given]
        vectors = [[float(len(text)), 0.5, 0.25, float(n)] for n, text in enumerate(texts)]
        packed = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": n, "embedding": _packed(v) if packed else v}
            for n, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return _json({"object": "list", "data": data, "model": body["model"], "usage": usage})

    async def models(self, request: web.Request) -> web.Response:
        await self._body(request)
        if "anthropic-version" in request.headers:
            date = "2026-01-01T00:00:00Z"
            rows = [
                {"type": "model", "id": i, "display_name": i, "created_at": date} for i in MODELS
            ]
            return _json({"data": rows, "has_more": False, "first_id": "", "last_id": ""})
        rows = [{"id": i, "object": "model", "created": 5, "owned_by": "us"} for i in MODELS]
        return _json({"object": "list", "data": rows})

    async def _body(self, request: web.Request) -> Any:
        raw = await request.read()
        body = orjson.loads(raw) if raw else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Request(request.method, request.path, headers, body))
        return body


@contextlib.contextmanager
def model_upstream() -> Iterator[ModelUpstream]:
    """The server, on a loop of a thread of its own, at each base path that vendors have."""
    upstream = ModelUpstream()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(_app(upstream), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run, name="model-upstream", daemon=True)
    thread.start()
    assert started.wait(START_SECONDS)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)


def _app(upstream: ModelUpstream) -> web.Application:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    for base in ("/v1", "/openai/v1"):
        app.router.add_post(f"{base}/chat/completions", upstream.chat)
        app.router.add_post(f"{base}/messages", upstream.messages)
        app.router.add_post(f"{base}/messages/count_tokens", upstream.count_tokens)
        app.router.add_post(f"{base}/responses", upstream.create_response)
        app.router.add_route("*", f"{base}/responses/{{id}}", upstream.one_response)
        app.router.add_route("*", f"{base}/responses/{{id}}/{{what}}", upstream.one_response)
        app.router.add_post(f"{base}/embeddings", upstream.embeddings)
        app.router.add_get(f"{base}/models", upstream.models)
    return app


async def _stream(
    request: web.Request, asked: Asked | None, frames: list[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    is_cut = asked is not None and _BROKEN in asked.newest.text
    for frame in frames[: len(frames) // 2] if is_cut else frames:
        await response.write(frame)
    if is_cut:
        assert request.transport is not None
        request.transport.abort()
    return response


def _failure_of(asked: Asked) -> int | None:
    found = _FAILURE.search(asked.newest.text)
    return int(found[1]) if found else None


def _openai_error(status: int, message: str = "as asked") -> web.Response:
    kind, code = _OPENAI_KINDS.get(status, ("server_error", None))
    error = {"message": message, "type": kind, "param": None, "code": code}
    return _json({"error": error}, status)


def _anthropic_error(status: int, message: str = "as asked") -> web.Response:
    error = {"type": _ANTHROPIC_KINDS.get(status, "api_error"), "message": message}
    return _json({"type": "error", "error": error}, status)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()


_OPENAI_KINDS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
__all__ = ["ModelUpstream", "Reply", "Request", "model_upstream"]
