"""One call of an agent step to its server: `POST /v1/chat/completions` with a run token.

Guarantee: it goes to the URL of the link and nowhere else, by no proxy and no redirect; what is
read is bounded; leaving the call closes the connection, by which the server ends the answer.

Source: OpenAI API reference, "Create chat completion", 2026-11.
"""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

from streaming.run_tokens import MAX_TOKEN_CHARACTERS, RunClaims, sign_claims
from workflow_backend.steps.run_folder import StepSetupError
from workflow_backend.steps.server_link import ServerLink

CONNECT_SECONDS = 15.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
CHAT_PATH = "/v1/chat/completions"
# Where the server tells nothing of the tokens: four bytes of text are about one.
BYTES_PER_TOKEN = 4

_READ_BYTES = 65_536
_MAX_MESSAGE_CHARACTERS = 2_000


class AgentCallError(Exception):
    """The server did not answer, or with an error. `param` is the field that it names."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens."""

    prompt: int = 0
    completion: int = 0
    total: int = 0

    def __add__(self, other: "Used") -> "Used":
        return Used(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.total + other.total,
        )

    def as_output(self) -> dict[str, int]:
        """As the outputs of a step have it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.total,
        }


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """What is asked: messages as OpenAI's format has them, and the form of the answer.

    `trace` are the headers of the trace context that the answer belongs to.
    """

    model: str
    messages: Sequence[Mapping[str, str]]
    response_format: Mapping[str, object] | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The body of the call."""
        body: dict[str, object] = {"model": self.model, "messages": list(self.messages)}
        if self.response_format is not None:
            body["response_format"] = self.response_format
        return orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """What the server answered."""

    text: str
    finish_reason: str
    refusal: str = ""
    used: Used = field(default_factory=Used)


async def call_server(link: ServerLink, request: AgentRequest, claims: RunClaims) -> AgentAnswer:
    """The answer to one request.

    Raises:
        AgentCallError: there is none.
        StepSetupError: the step names so many tools that no token holds them.
    """
    token = sign_claims(claims, link.key)
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise StepSetupError("the names of the tools are too long together; name fewer")
    try:
        body = request.body()
    except orjson.JSONEncodeError as error:
        raise StepSetupError(f"the task cannot be sent as JSON: {error}") from error
    try:
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                trust_env=False,
            ) as session,
            session.post(
                link.url + CHAT_PATH,
                data=body,
                headers={
                    **request.trace,
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                },
                allow_redirects=False,
            ) as response,
        ):
            content = await _read(response)
    except (aiohttp.ClientError, OSError) as error:
        raise AgentCallError(
            f"the server at {link.url} does not answer: {type(error).__name__}: {error}"
        ) from error
    answer = _json_object(content)
    if response.status != 200:
        raise _refusal(response.status, answer)
    return _answer(answer, asked_bytes=len(body))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    while chunk := await response.content.read(_READ_BYTES):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise AgentCallError(f"the answer is over {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _json_object(content: bytes) -> Mapping[str, object]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(status: int, answer: Mapping[str, object]) -> AgentCallError:
    error = answer.get("error")
    fields = error if isinstance(error, dict) else {}
    message = str(fields.get("message") or "the server answered an error")
    code = f", {fields['code']}" if fields.get("code") else ""
    param = fields.get("param")
    return AgentCallError(
        f"{message[:_MAX_MESSAGE_CHARACTERS]} (HTTP {status}{code})",
        param=param if isinstance(param, str) else None,
    )


def _answer(body: Mapping[str, object], *, asked_bytes: int) -> AgentAnswer:
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise AgentCallError("the server answered something that is no chat completion")
    text, refusal = (_text(message.get(name)) for name in ("content", "refusal"))
    usage = body.get("usage")
    if isinstance(usage, dict):
        used = _used(usage)
    else:
        said = len(codecs.encode(text + refusal, "utf-8", "replace"))
        prompt, completion = asked_bytes // BYTES_PER_TOKEN, said // BYTES_PER_TOKEN
        used = Used(prompt, completion, prompt + completion)
    return AgentAnswer(text, _text(choice.get("finish_reason")), refusal, used)


def _used(usage: Mapping[str, object]) -> Used:
    prompt, completion, total = (
        value if isinstance(value := usage.get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    return Used(prompt, completion, max(total, prompt + completion))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
