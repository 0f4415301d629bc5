"""Kubiya's API over HTTP: start a workflow and hear of it, list the runners.

Guarantees: a start is sent once, whatever happens; the key goes to the base URL alone (no redirect
is followed, no proxy asked) and is in no error; every wait is bounded.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from yarl import URL

from workflow_backend.engines.kubiya.errors import (
    MAX_SAID_CHARACTERS,
    KubiyaError,
    KubiyaStartUnknownError,
    refused,
    unreachable,
)
from workflow_backend.masking import Masker

DEFAULT_URL = "https://api.kubiya.ai"
MAX_ANSWER_BYTES = 4 * 1024 * 1024

_READ_BYTES = 64 * 1024
_SAID_BYTES = 4_096
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class StreamLostError(Exception):
    """The stream of a run ended in the middle; the message says how."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds: for a connection, a short answer, the next sign of a run.

    The API sends heartbeats, so that a run may be silent for as long as it likes.
    """

    connect: float = 10.0
    answer: float = 15.0
    start: float = 120.0
    silence: float = 1_200.0


class KubiyaClient:
    """The API at one address with one key: `open`, use, `close`."""

    def __init__(
        self, base_url: str, api_key: str, masker: Masker, patience: Patience | None = None
    ) -> None:
        self._base = checked_base_url(base_url)
        self._key = api_key
        self._masker = masker
        self._patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready to send."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect),
            headers={"Authorization": f"UserKey {self._key}"},
            trust_env=False,
        )

    async def close(self) -> None:
        """End what is under way."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def run(
        self, runner: str, body: Mapping[str, object]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start a workflow; the stream that tells of it, in chunks.

        Raises:
            KubiyaStartUnknownError: It may have been started or not.
            KubiyaError: It was not started.
            StreamLostError: While reading: the connection was lost.
        """
        url = (
            self._base
            / "api/v1/workflow"
            % {
                "runner": runner,
                "operation": "execute_workflow",
                "native_sse": "true",
            }
        )
        what = f"run the workflow on the runner {runner!r}"
        async with self._sent(what, url, "POST", body) as response:
            if response.content_type == "application/json":
                said = " ".join((await self._said(response)).split())[:MAX_SAID_CHARACTERS]
                raise KubiyaStartUnknownError(
                    f"{self._where(url)} answered the start with JSON instead of a stream: {said};"
                    " look there whether it runs, it is not sent again"
                )
            yield self._chunks(response)

    async def get(self, what: str, path: str) -> object:
        """The JSON of a short answer.

        Raises:
            KubiyaError: It cannot be had; `what` says in the message what was asked.
        """
        url = self._base / path
        try:
            async with asyncio.timeout(self._patience.answer), self._sent(what, url) as response:
                return orjson.loads(await _read(response))
        except TimeoutError:
            seconds = f"{self._patience.answer:g}s"
            raise unreachable(what, self._where(url), f"no answer within {seconds}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(what, self._where(url), self._why(error)) from error

    @contextlib.asynccontextmanager
    async def _sent(
        self, what: str, url: URL, method: str = "GET", body: Mapping[str, object] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, once its head is there and it is a success."""
        session = self._session
        if session is None:
            raise KubiyaError("the connection to Kubiya is closed")
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
            data = orjson.dumps(dict(body))
        try:
            async with asyncio.timeout(self._patience.start):
                response = await session.request(
                    method, url, data=data, headers=headers, allow_redirects=False
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise unreachable(what, self._where(url), self._why(error)) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if method == "GET":
                raise unreachable(what, self._where(url), self._why(error)) from error
            raise KubiyaStartUnknownError(
                f"the start was sent to {self._where(url)}, but no answer came"
                f" ({self._why(error)}); look there whether it runs, it is not sent again"
            ) from error
        async with response:
            if response.status != 200:
                raise refused(what, self._where(url), response.status, await self._said(response))
            yield response

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._patience.silence):
                    chunk = await response.content.read(_READ_BYTES)
            except TimeoutError:
                seconds = f"{self._patience.silence:g}s"
                raise StreamLostError(f"nothing was heard for {seconds}") from None
            except (aiohttp.ClientError, OSError) as error:
                raise StreamLostError(self._why(error)) from error
            if not chunk:
                return
            yield chunk

    async def _said(self, response: aiohttp.ClientResponse) -> str:
        """The beginning of a refusal's body."""
        try:
            async with asyncio.timeout(self._patience.answer):
                data = await response.content.read(_SAID_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return ""
        return self._masker.mask(data.decode("utf-8", "replace"))

    def _where(self, url: URL) -> str:
        return self._masker.mask(f"{url.origin()}{url.path}")

    def _why(self, error: BaseException) -> str:
        return self._masker.mask(f"{type(error).__name__}: {error}".rstrip(": "))


def checked_base_url(text: str) -> URL:
    """The address of the API.

    Raises:
        KubiyaError: It is none, or the key would go over the network unencrypted.
    """
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise KubiyaError("KUBIYA_BASE_URL must be an address such as https://api.kubiya.ai")
    if parts.username is not None:
        raise KubiyaError("KUBIYA_BASE_URL holds a user; the key alone says who asks")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise KubiyaError("KUBIYA_BASE_URL must begin with https://, so that nobody reads the key")
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return URL(f"{parts.scheme}://{parts.netloc}{quote(path, safe='/%')}/", encoded=True)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """A short answer, bounded."""
    data = bytearray()
    while chunk := await response.content.read(_READ_BYTES):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise ValueError(f"the answer is over {MAX_ANSWER_BYTES} bytes")
    return bytes(data)
