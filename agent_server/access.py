"""Who calls, and what they may do: keys, hosts, origins, and what counts as local.

Loopback is no boundary by itself, since any web page reaches it: so the Host and the Origin of a
request are checked before anything else, and POST takes JSON alone.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_server.accounts.key_book import KeyBook
from agent_server.accounts.keys import ApiKey, Scope, digest_of
from streaming.errors import (
    AuthenticationError,
    MisdirectedRequestError,
    PermissionDeniedError,
    UnsupportedMediaTypeError,
)
from streaming.run_tokens import MARK, RunClaims

if TYPE_CHECKING:
    from agent_server.run_callers import RunCallers

LOCAL_OWNER = "local"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
LOOPBACK_PEERS = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
JSON = "application/json"
MOST_SERVED = 64
MOST_CALLERS = 4096
ALL_SCOPES: frozenset[Scope] = frozenset({"chat", "run", "approve", "admin"})
# What proxies add; any of them tells that the peer is not the one who asks.
PROXY_HEADERS = frozenset(
    {
        "cf-connecting-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-host",
        "x-real-ip",
    }
)
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]*))(?::[0-9]*)?")
NO_KEY_REFUSAL = (
    "This server executes workflows only for callers that it knows: no API key is configured, and "
    "{reason}. Set AGENT_SERVER_API_KEYS (make an entry with `agent-server hash-key`), or bind the "
    "server to 127.0.0.1 and call it directly."
)
SCOPE_REFUSAL = (
    "The API key '{name}' lacks the scope 'run', so nothing is executed. Add it to the key's "
    "entry in AGENT_SERVER_API_KEYS."
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `owner` is whose runs they are; `refusal` says why nothing is executed.

    A `refusal` of None means that the caller may execute workflows. `key` is the one that was sent,
    None where none is needed. `claims` are those of the run token that was sent in its place; then
    `key` is the one that pays, and `siblings` are the owner's others.
    """

    owner: str
    name: str
    scopes: frozenset[Scope]
    refusal: str | None
    key: ApiKey | None = field(default=None, compare=False, repr=False)
    claims: RunClaims | None = field(default=None, compare=False)
    siblings: tuple[ApiKey, ...] = field(default=(), compare=False, repr=False)

    def require(self, scope: Scope) -> None:
        """Raise `PermissionDeniedError` unless the caller has the scope."""
        if scope not in self.scopes:
            raise PermissionDeniedError(
                _LACKS_SCOPE.format(name=self.name, scope=scope), param="scopes"
            )

    def require_execution(self) -> None:
        """Raise `PermissionDeniedError` if the caller may not begin or end workflow runs."""
        if self.refusal is not None:
            raise PermissionDeniedError(self.refusal, param="scopes")

    @property
    def approval_refusal(self) -> str | None:
        """Why the caller may not decide approvals, None if they may."""
        if "approve" not in self.scopes:
            return _LACKS_SCOPE.format(name=self.name, scope="approve")
        # Where no key is needed, those on this machine alone.
        return self.refusal if self.key is None else None

    def require_approval(self) -> None:
        """Raise `PermissionDeniedError` unless the caller may decide approvals."""
        if (refusal := self.approval_refusal) is not None:
            raise PermissionDeniedError(refusal, param="scopes")


class Access:
    """The checks that every request passes, from what was configured."""

    def __init__(
        self,
        *,
        keys: Iterable[ApiKey] = (),
        book: KeyBook | None = None,
        is_loopback: bool,
        allowed_hosts: Iterable[str],
        cors_origins: Iterable[str],
        run_callers: "RunCallers | None" = None,
    ) -> None:
        """Take the keys of a book, or those that are given.

        `run_callers` knows run tokens, None where no run has agents.
        """
        self._book = book or KeyBook(keys)
        self._run_callers = run_callers
        self._is_loopback = is_loopback
        self._allowed_hosts = {host.lower() for host in allowed_hosts}
        # As clients wrote them; asked again and again, so that they are taken apart once.
        self._served: set[str] = set()
        self._callers: dict[str, Caller] = {}
        self._origins = {origin.rstrip("/").lower() for origin in cors_origins}

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a Host that is neither a loopback name nor listed (DNS rebinding)."""
        host = headers.get("host", "")
        if host in self._served:
            return
        if not self._serves(host.lower()):
            raise MisdirectedRequestError(
                f"This server does not answer for the host '{host[:100]}'. Call it as localhost or "
                "127.0.0.1, or list the name with --allowed-host (AGENT_SERVER_ALLOWED_HOSTS).",
                param="Host",
            )
        if len(self._served) < MOST_SERVED:
            self._served.add(host)

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse a page of a foreign origin; the server's own and the configured ones may call."""
        if "origin" not in headers:
            return
        origin = headers["origin"].lower()
        own = origin.partition("://")[2]
        if own and own == headers.get("host", "").lower():
            return
        if origin not in self._origins and "*" not in self._origins:
            raise PermissionDeniedError(
                f"Pages of the origin '{origin[:100]}' may not call this server. List it in "
                "AGENT_SERVER_CORS_ORIGINS if they should.",
                code="origin_not_allowed",
                param="Origin",
            )

    def check_content_type(self, headers: Mapping[str, str]) -> None:
        """Refuse a body that is not JSON by its type: what a form can post is not read."""
        given = headers.get("content-type", "")
        if given == JSON:
            return
        media_type = given.partition(";")[0].strip().lower()
        if media_type != JSON:
            raise UnsupportedMediaTypeError(
                f"The content type is '{media_type[:60]}'. Send the header "
                "'Content-Type: application/json' with a JSON body.",
                param="Content-Type",
            )

    def identify(self, headers: Mapping[str, str], peer: str | None) -> Caller | None:
        """The caller by the key sent, or, where none is configured, the local owner.

        None: the key is not at hand, or is a run token, and `find` looks further.

        Raises:
            AuthenticationError: a key is needed, and the one sent is missing, unknown or expired.
        """
        sent = _sent_key(headers)
        if sent is not None and sent.startswith(MARK) and self._run_callers is not None:
            return None
        if not self._book.is_keyed:
            refusal = self._foreign_refusal(headers, peer)
            return Caller(LOCAL_OWNER, LOCAL_OWNER, ALL_SCOPES, refusal)
        key = self._book.peek(_digest(sent))
        if key is None and not self._book.is_stored:
            raise AuthenticationError(_UNKNOWN_KEY)
        return None if key is None else self._caller_with(key)

    async def find(self, headers: Mapping[str, str], peer: str | None) -> Caller:
        """The caller like `identify`, but it may wait for the store.

        Raises:
            AuthenticationError: a key is needed, and the one sent is missing, unknown or expired.
            OverloadedError: the store does not answer, and the key is not at hand.
        """
        if caller := self.identify(headers, peer):
            return caller
        sent = _sent_key(headers)
        if sent is not None and sent.startswith(MARK) and self._run_callers is not None:
            refusal = None if self._book.is_keyed else self._foreign_refusal(headers, peer)
            return await self._run_callers.find(sent, refusal)
        key = await self._book.find(_digest(sent))
        if key is None:
            raise AuthenticationError(_UNKNOWN_KEY)
        return self._caller_with(key)

    async def check_run_owner(self, headers: Mapping[str, str]) -> None:
        """Refuse unless a run token was sent whose owner may still begin runs; raises as `find`."""
        sent = _sent_key(headers)
        if sent is None or self._run_callers is None:
            raise AuthenticationError(_UNKNOWN_KEY)
        await self._run_callers.check_owner(sent)

    def _caller_with(self, key: ApiKey) -> Caller:
        if key.is_expired(time.time()):
            raise AuthenticationError(
                f"The API key '{key.name}' has expired. Ask for a new one.",
                code="expired_api_key",
            )
        caller = self._callers.get(key.sha256)
        if caller is None or caller.key is not key:
            refusal = None if "run" in key.scopes else SCOPE_REFUSAL.format(name=key.name)
            caller = Caller(key.owner, key.name, key.scopes, refusal, key)
            if len(self._callers) >= MOST_CALLERS:
                self._callers.clear()
            self._callers[key.sha256] = caller
        return caller

    def _serves(self, host: str) -> bool:
        name = _without_port(host)
        return name in LOOPBACK_HOSTS or host in self._allowed_hosts or name in self._allowed_hosts

    def _foreign_refusal(self, headers: Mapping[str, str], peer: str | None) -> str | None:
        reason = self._foreign_reason(headers, peer)
        return NO_KEY_REFUSAL.format(reason=reason) if reason else None

    def _foreign_reason(self, headers: Mapping[str, str], peer: str | None) -> str | None:
        if not self._is_loopback:
            return "the server listens beyond loopback"
        if forwarded := _forwarded_header(headers):
            return f"the request came through a proxy (it has the header '{forwarded}')"
        if peer is not None and peer not in LOOPBACK_PEERS:
            return "the request came from another machine"
        name = _without_port(headers.get("host", "").lower())
        if name not in LOOPBACK_HOSTS:
            return f"the request was sent to the host '{name[:100]}'"
        return None


def _digest(sent: str | None) -> str:
    if not sent:
        raise AuthenticationError(
            "No API key was sent. Send one as 'Authorization: Bearer <key>' or in 'x-api-key'.",
            code="missing_api_key",
        )
    return digest_of(sent)


def _without_port(host: str) -> str:
    """The name or address of a Host header, an IPv6 address without its brackets."""
    found = _HOST.fullmatch(host)
    return (found["address"] or found["name"]) if found else host


def _forwarded_header(headers: Mapping[str, str]) -> str | None:
    return next(
        (name for name in headers if name in PROXY_HEADERS or name.startswith("x-forwarded-")), None
    )


def _sent_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key")


_LACKS_SCOPE = (
    "The API key '{name}' lacks the scope '{scope}'. Add it to the key's entry in "
    "AGENT_SERVER_API_KEYS."
)
_UNKNOWN_KEY = "The API key is not known to this server."
