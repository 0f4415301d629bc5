"""Sealing: a value as AES-256-GCM ciphertext, under a key that scrypt makes of a passphrase.

Guarantee: what `open` gives was sealed by the same passphrase under the same name and limits; else
it raises. Bytes in, bytes out. Sources: RFC 7914 (scrypt, with OWASP's least cost for 32 MiB), NIST
SP 800-38D (GCM, 96-bit nonces by chance).
"""

import functools
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from workflow_backend.definition.secret_rules import SecretRule

SALT_BYTES = 16
SCRYPT_COST, SCRYPT_BLOCK, SCRYPT_PARALLEL = 2**15, 8, 3

_KEY_BYTES = 32
_NONCE_BYTES = 12
_CHECK = b"agent-server secrets, version 1: check"


class SealBrokenError(Exception):
    """The bytes were sealed by another key, under another name or other limits, or were changed."""


class Sealer:
    """Seals and opens under one passphrase and salt. Making one takes a quarter of a second."""

    def __init__(self, passphrase: str, salt: bytes) -> None:
        scrypt = Scrypt(
            salt=salt, length=_KEY_BYTES, n=SCRYPT_COST, r=SCRYPT_BLOCK, p=SCRYPT_PARALLEL
        )
        self._cipher = AESGCM(scrypt.derive(passphrase.encode("utf-8", "surrogateescape")))

    def seal(self, value: str, name: str, rule: SecretRule) -> bytes:
        """The value as nonce and ciphertext, bound to its name and limits."""
        return self._seal(value.encode(), _label(name, rule))

    def open(self, sealed: bytes, name: str, rule: SecretRule) -> str:
        """The value.

        Raises:
            SealBrokenError: It was not sealed so.
        """
        return self._open(sealed, _label(name, rule)).decode()

    def seal_check(self) -> bytes:
        """What tells later whether a passphrase is the same."""
        return self._seal(b"", _CHECK)

    def fits(self, check: bytes) -> bool:
        """Whether `seal_check` gave it under the same passphrase and salt."""
        try:
            self._open(check, _CHECK)
        except SealBrokenError:
            return False
        return True

    def _seal(self, data: bytes, label: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, label)

    def _open(self, sealed: bytes, label: bytes) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label)
        except (InvalidTag, ValueError):
            # ValueError: too short for a nonce.
            raise SealBrokenError from None


@functools.lru_cache(maxsize=4)
def sealer_of(passphrase: str, salt: bytes) -> Sealer:
    """The sealer of passphrase and salt, made once."""
    return Sealer(passphrase, salt)


def _label(name: str, rule: SecretRule) -> bytes:
    """The associated data of a value; JSON, so that no two of them read alike."""
    return json.dumps(["agent-server secret", 1, name, rule.keys, rule.hosts]).encode()
