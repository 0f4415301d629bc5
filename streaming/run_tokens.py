"""Run tokens: by what a step of a run asks the server that the run belongs to, and for how much.

A token is `asr_`, the claims as JSON and their HMAC-SHA-256, both in base64url without padding
(RFC 4648, section 5; RFC 2104). The MAC is over the text before it, so that no two texts are one
token. Pure: time and key are arguments. It stands here because the server reads what the backend
signs, and neither knows the other.
"""

import base64
import hashlib
import hmac
import math
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Final

import orjson

MARK: Final = "asr_"
# How many agents may stand above one another: an agent's run that has an agent, and so on.
MAX_DEPTH: Final = 3
MAX_AGE_SECONDS: Final = 15 * 60
# By how much the clocks of two machines may differ.
CLOCK_SKEW_SECONDS: Final = 60
KEY_BYTES: Final = 32
# What proxies usually let through as one header.
MAX_TOKEN_CHARACTERS: Final = 7 * 1024

_MAC_CHARACTERS: Final = 43
_TEXT = re.compile(rf"{MARK}[A-Za-z0-9_-]+")
# As dear as the key of the store of secrets, so that a token is no cheaper way to guess its phrase.
_SCRYPT_COST, _SCRYPT_BLOCK, _SCRYPT_PARALLEL = 2**15, 8, 3
_SCRYPT_BYTES: Final = 64 * 1024 * 1024
_SALT: Final = b"agent-server run tokens, version 1"


class RunTokenError(Exception):
    """A token that is none: the message says why, and never repeats it."""


class ExpiredRunTokenError(RunTokenError):
    """A token whose time is over."""


@dataclass(frozen=True, slots=True)
class RunClaims:
    """What the bearer of a token may do, and for whom.

    `depth` is how many agents stand above what it asks for, itself included: 1 for a step of a run
    that a person began. `tokens` and `turns` are what is left of its budget. `tools` are the names
    that its agent may call. `expires_at` is in Unix seconds.
    """

    owner: str
    run_id: str
    step: str
    depth: int
    tokens: int
    turns: int
    tools: tuple[str, ...]
    expires_at: int


def new_key() -> bytes:
    """A key by chance."""
    return secrets.token_bytes(KEY_BYTES)


def key_of_phrase(phrase: str) -> bytes:
    """The key that every machine makes of the same phrase (RFC 7914); takes a quarter second."""
    return hashlib.scrypt(
        phrase.encode("utf-8", "surrogateescape"),
        salt=_SALT,
        n=_SCRYPT_COST,
        r=_SCRYPT_BLOCK,
        p=_SCRYPT_PARALLEL,
        maxmem=_SCRYPT_BYTES,
        dklen=KEY_BYTES,
    )


def key_to_text(key: bytes) -> str:
    """A key as a variable of the environment holds it."""
    return _encoded(key)


def key_from_text(text: str) -> bytes:
    """The key that `key_to_text` wrote.

    Raises:
        ValueError: it is none.
    """
    try:
        key = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of run tokens is {KEY_BYTES} bytes in base64url")
    return key


def sign_claims(claims: RunClaims, key: bytes) -> str:
    """The token of these claims."""
    text = MARK + _encoded(orjson.dumps(asdict(claims)))
    return text + _mac(text, key)


def read_claims(token: str, key: bytes, now: float) -> RunClaims:
    """The claims of a token that was signed by the key; `now` is in Unix seconds.

    Raises:
        ExpiredRunTokenError: its time is over.
        RunTokenError: it is not signed by this key, or claims what no token may.
    """
    text, mac = token[:-_MAC_CHARACTERS], token[-_MAC_CHARACTERS:]
    if len(token) > MAX_TOKEN_CHARACTERS or not _TEXT.fullmatch(text) or not mac.isascii():
        raise RunTokenError("it has not the shape of one")
    if not hmac.compare_digest(mac, _mac(text, key)):
        raise RunTokenError("this server has not signed it")
    claims = _read(text.removeprefix(MARK))
    if claims.expires_at <= now:
        raise ExpiredRunTokenError("its time is over")
    if claims.expires_at > now + MAX_AGE_SECONDS + CLOCK_SKEW_SECONDS:
        raise RunTokenError("it would be valid for too long; compare the clocks of the machines")
    return claims


def expiry(now: float, timeout_seconds: float) -> int:
    """When a token ends that is made now for a call that may take so long."""
    return math.ceil(now + min(timeout_seconds, MAX_AGE_SECONDS))


def _read(payload: str) -> RunClaims:
    """The claims of a text that was signed; what another version signed may have another shape."""
    try:
        fields = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        claims = RunClaims(**{**fields, "tools": tuple(fields["tools"])})
    except (ValueError, TypeError, KeyError):
        raise RunTokenError("its claims cannot be read") from None
    texts = (claims.owner, claims.run_id, claims.step, *claims.tools)
    numbers = (claims.depth, claims.tokens, claims.turns, claims.expires_at)
    if not all(type(text) is str for text in texts) or not all(type(n) is int for n in numbers):
        raise RunTokenError("its claims cannot be read")
    return claims


def _mac(text: str, key: bytes) -> str:
    return _encoded(hmac.digest(key, text.encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
