"""`http` steps: one request, sent by the engine itself to public addresses alone.

Guarantee: the address that was checked is the address that is connected to, for the first request
and every redirect, so that a name which changes its answer (DNS rebinding) gains nothing. No proxy,
no cookies, no environment. What is read is bounded by size and time. A request that could be one to
the server that runs the step says that somebody else has made it, so that it is not taken for the
user's own.
"""

import asyncio
import codecs
import re
import socket
import time
from collections.abc import Mapping

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from workflow_backend.definition.actions import HttpRequest
from workflow_backend.definition.expressions import resolve_secrets
from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.masking import Masker
from workflow_backend.steps.addresses import AddressPolicy, AddressRefusedError, as_address
from workflow_backend.steps.attempt import AttemptContext, AttemptEnd, cancelled
from workflow_backend.steps.capture import HeadAndTail
from workflow_backend.steps.json_output import JsonOutputError, parse_json_output
from workflow_backend.steps.run_folder import StepSetupError
from workflow_backend.steps.server_link import ServerLink
from workflow_backend.steps.webhook_signature import signed_headers

MAX_REDIRECTS = 10
MAX_READ_BYTES = 16 * 1024 * 1024
CONNECT_SECONDS = 15.0

_READ_BYTES = 65_536
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What proxies add (RFC 9110, section 7.6.3).
_VIA = {"Via": "1.1 agent-server-step"}
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
_CHARSETS = (
    *("ascii", "utf-8", "utf-16", "utf-32", "iso8859", "cp125", "cp866", "cp932", "koi8", "mac-"),
    *("big5", "gb", "euc_", "shift_jis", "iso2022", "tis-620"),
)
_CHARSET = re.compile(r"charset=\"?([\w.:-]+)", re.IGNORECASE)


class HttpRunner:
    """Runs the `http` steps of one engine."""

    def __init__(self, policy: AddressPolicy, server: ServerLink | None = None) -> None:
        self._policy = policy
        self._own_port = URL(server.url).port if server else None

    async def run(self, context: AttemptContext) -> AttemptEnd:
        """One attempt at an `http` step. A cancelled task gets its end as well."""
        request = context.spec.step.http
        if request is None:
            raise StepSetupError("the step has no `http`")
        try:
            async with asyncio.timeout(context.timeout_seconds):
                return await self._send(context, _with_secrets(request, context.secrets))
        except aiohttp.ServerTimeoutError:
            error = f"no connection within {CONNECT_SECONDS:g} s"
            return AttemptEnd("failed", {"stdout": ""}, error=error)
        except TimeoutError:
            return AttemptEnd("timed_out", {"stdout": ""}, error=context.timed_out)
        except asyncio.CancelledError as reason:
            return AttemptEnd("cancelled", {"stdout": ""}, error=cancelled(reason))
        except (AddressRefusedError, StepSetupError) as error:
            return AttemptEnd("failed", {"stdout": ""}, error=context.masker.mask(str(error)))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"
            return AttemptEnd("failed", {"stdout": ""}, error=context.masker.mask(message))

    async def _send(self, context: AttemptContext, request: HttpRequest) -> AttemptEnd:
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._policy), use_dns_cache=False, force_close=True
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            trust_env=False,
        ) as session:
            hop = _Hop.of(request)
            # A redirect takes secrets to the same origin alone, and so to the same host.
            _check_secrets(hop.url, context.rules)
            if (signer := context.spec.sign_with) is not None:
                hop.sign(context.secrets[signer], int(time.time()))
            for _ in range(MAX_REDIRECTS + 1):
                self._check(hop.url)
                # Whatever the host is called: names can lead here.
                said = _VIA if hop.url.port == self._own_port else {}
                async with session.request(
                    hop.method,
                    hop.url,
                    headers={**hop.headers, **said},
                    data=hop.body,
                    allow_redirects=False,
                ) as response:
                    target = response.headers.get("Location")
                    is_redirect = response.status in _REDIRECTS and target
                    if not (is_redirect and target and request.follow_redirects):
                        return await _end(context, request, response)
                    hop = hop.follow(response.status, target, context.masker)
        raise StepSetupError(f"more than {MAX_REDIRECTS} redirects")

    def _check(self, url: URL) -> None:
        """Refuse another scheme, and a host that is written as a refused address.

        aiohttp asks the resolver for names alone.
        """
        if url.scheme not in {"http", "https"} or not url.host:
            raise StepSetupError(f"the url must begin with http:// or https://, not {url.scheme!r}")
        if address := as_address(url.host):
            self._policy.check(url.host, address)
        elif ":" in url.host:
            # aiohttp takes it for an address, and asks nobody.
            raise StepSetupError(f"the host {url.host!r} is no IPv6 address")


class _CheckedResolver(AbstractResolver):
    """Resolves a name once and gives only addresses that may be reached."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the host; if one is refused, the host is."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
        results: list[ResolveResult] = []
        for found_family, _, protocol, _, address in found:
            self._policy.check(host, str(address[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=found_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    @override
    async def close(self) -> None:
        """Nothing is held."""


class _Hop:
    """One request of the way that redirects make."""

    def __init__(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body

    @classmethod
    def of(cls, request: HttpRequest) -> "_Hop":
        """The first request."""
        headers = dict(request.headers)
        body = request.body.encode() if request.body is not None else None
        if body is None and request.json_body is not None:
            body = orjson.dumps(request.json_body)
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = "application/json"
        return cls(request.method, URL(request.url), headers, body)

    def sign(self, secret: str, timestamp: int) -> None:
        """Sign the request, whose header `webhook-id` names it."""
        signed = signed_headers(self.headers["webhook-id"], timestamp, self.body or b"", secret)
        self.headers = {**self.headers, **signed}

    def follow(self, status: int, target: str, masker: Masker) -> "_Hop":
        """The request that a redirect asks for (RFC 9110, section 15.4).

        Another origin is given no secret.

        Raises:
            StepSetupError: The body that it would be given holds one.
        """
        url = self.url.join(URL(target))
        headers = dict(self.headers)
        is_elsewhere = url.origin() != self.url.origin()
        if is_elsewhere:
            headers = {
                name: value
                for name, value in headers.items()
                if name.lower() not in _CREDENTIALS and masker.mask(value) == value
            }
        turns_into_get = status == 303 or (status in {301, 302} and self.method == "POST")
        if not turns_into_get or self.method == "HEAD":
            text = (self.body or b"").decode("utf-8", "replace")
            if is_elsewhere and masker.mask(text) != text:
                raise StepSetupError(
                    f"the redirect leads to {url.origin()}, and the body holds a secret; send it"
                    " there by a step of its own if that is meant"
                )
            return _Hop(self.method, url, headers, self.body)
        headers = {
            name: value
            for name, value in headers.items()
            if not name.lower().startswith("content-")
        }
        return _Hop("GET", url, headers, None)


def _check_secrets(url: URL, rules: Mapping[str, SecretRule]) -> None:
    """Hold the request to where its secrets may go.

    Raises:
        StepSetupError: One of them may not go to this host.
    """
    for name, rule in rules.items():
        if refusal := rule.host_refusal(url.raw_host or ""):
            raise StepSetupError(f"the secret {name!r} is withheld: {refusal}")


def _with_secrets(request: HttpRequest, secrets: Mapping[str, str]) -> HttpRequest:
    return request.model_copy(
        update={
            "url": resolve_secrets(request.url, secrets),
            "headers": {
                name: resolve_secrets(value, secrets) for name, value in request.headers.items()
            },
            "body": None if request.body is None else resolve_secrets(request.body, secrets),
            "json_body": _json_with_secrets(request.json_body, secrets),
        }
    )


def _json_with_secrets(value: object, secrets: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return resolve_secrets(value, secrets)
    if isinstance(value, Mapping):
        return {key: _json_with_secrets(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_with_secrets(item, secrets) for item in value]
    return value


async def _end(
    context: AttemptContext, request: HttpRequest, response: aiohttp.ClientResponse
) -> AttemptEnd:
    """The end of the attempt: the answer read and judged."""
    kept = HeadAndTail(context.limits.stdout_characters)
    body, is_whole = await _read(response)
    charset = _CHARSET.search(response.headers.get("Content-Type", ""))
    whole = context.masker.mask(_decode(body, charset.group(1) if charset else "utf-8"))
    rest = "" if is_whole else f"\n... what follows {MAX_READ_BYTES} bytes was not read ...\n"
    context.log.add(whole + rest, kept)
    kept.add(whole)
    text = kept.text()
    outputs: dict[str, object] = {
        "stdout": text,
        "status": response.status,
        "headers": context.masker.mask_json(
            {name.lower(): value for name, value in response.headers.items()}
        ),
        "body": text,
    }
    if context.spec.step.parse == "json":
        try:
            truncated = kept.is_truncated or not is_whole
            outputs["json"] = parse_json_output(text, is_truncated=truncated)
        except JsonOutputError as error:
            return AttemptEnd("failed", outputs, error=context.masker.mask(str(error)))
    expected = request.expect_status
    if response.status in expected if expected else response.status < 400:
        return AttemptEnd("success", outputs)
    wanted = f" (expected {', '.join(map(str, expected))})" if expected else ""
    return AttemptEnd("failed", outputs, error=f"HTTP status {response.status}{wanted}")


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body up to the limit, and whether that was all."""
    body = bytearray()
    while chunk := await response.content.read(_READ_BYTES):
        body += chunk
        if len(body) > MAX_READ_BYTES:
            return bytes(body[:MAX_READ_BYTES]), False
    return bytes(body), True


def _decode(body: bytes, charset: str) -> str:
    """The body as text; what is in no usual charset is read as UTF-8.

    A server chooses the charset, and some of Python's codecs take hours (`punycode`) or fail.
    """
    try:
        name = codecs.lookup(charset).name
    except LookupError:
        name = "utf-8"
    return body.decode(name if name.startswith(_CHARSETS) else "utf-8", "replace")
