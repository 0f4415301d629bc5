"""The command line's way to a running server: JSON calls and the feed of a run's events."""

import http.client
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import orjson

from streaming.errors import UpstreamProtocolError
from streaming.events import JsonObject
from streaming.sse import SSEDecoder

CALL_SECONDS = 30.0
# The server sends a keep-alive every few seconds.
SILENCE_SECONDS = 120.0
CHUNK_BYTES = 65_536
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class ServerCallError(Exception):
    """The server does not answer, or refuses; `status` is 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServerClient:
    """Calls one Agent Server at `url`, with `key` if it wants one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._parts = urlsplit(self.url)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def call(
        self, method: str, path: str, body: object = None, timeout_seconds: float = CALL_SECONDS
    ) -> JsonObject:
        """The JSON object that the server answers.

        Raises:
            ServerCallError: no answer, an error status, or no JSON object.
        """
        data = None if body is None else orjson.dumps(body)
        connection = self._connect(timeout_seconds)
        try:
            connection.request(method, self._parts.path + path, data, self._headers)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise ServerCallError(f"{self.url} does not answer: {exc}") from exc
        finally:
            connection.close()
        answer = _json_object(content)
        if response.status >= http.client.BAD_REQUEST:
            raise ServerCallError(_error_message(response.status, answer), response.status)
        if answer is None:
            raise ServerCallError(f"{self.url}{path} answered no JSON: is it an Agent Server?")
        return answer

    def events(self, run_id: str, after_seq: int = 0) -> Iterator[JsonObject]:
        """The events of a run after `after_seq`, as they happen, until the run has ended.

        Raises:
            ServerCallError: no answer, an error status, or a feed that broke off.
        """
        headers = {**self._headers, "Accept": "text/event-stream", "Last-Event-ID": str(after_seq)}
        connection = self._connect(SILENCE_SECONDS)
        decoder = SSEDecoder()
        try:
            path = f"{self._parts.path}/v1/workflows/runs/{quote(run_id, safe='')}/events"
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                answer = _json_object(response.read(CHUNK_BYTES))
                raise ServerCallError(_error_message(response.status, answer), response.status)
            while chunk := response.read1(CHUNK_BYTES):
                for event in decoder.feed(chunk):
                    if (data := _json_object(event.data)) is not None:
                        yield data
        except (OSError, http.client.HTTPException, UpstreamProtocolError) as exc:
            raise ServerCallError(f"the feed of run {run_id} broke off: {exc}") from exc
        finally:
            connection.close()

    def stream(self, path: str) -> Iterator[bytes]:
        """The bytes that the server answers, as they come.

        Raises:
            ServerCallError: no answer, an error status, or an answer that broke off.
        """
        connection = self._connect(SILENCE_SECONDS)
        try:
            connection.request("GET", self._parts.path + path, headers=self._headers)
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                answer = _json_object(response.read(CHUNK_BYTES))
                raise ServerCallError(_error_message(response.status, answer), response.status)
            while chunk := response.read1(CHUNK_BYTES):
                yield chunk
            # `read1` takes an answer that broke off for its end.
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as exc:
            raise ServerCallError(f"the answer of {self.url} broke off: {exc}") from exc
        finally:
            connection.close()

    def _connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        if self._parts.scheme not in {"http", "https"} or not self._parts.netloc:
            raise ServerCallError(f"{self.url!r} is no http(s) URL")
        secure = self._parts.scheme == "https"
        connection = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return connection(self._parts.netloc, timeout=timeout_seconds)


def _json_object(content: bytes) -> JsonObject | None:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _error_message(status: int, answer: JsonObject | None) -> str:
    error = (answer or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return f"{message} (HTTP {status})" if message else f"the server answered HTTP {status}"
