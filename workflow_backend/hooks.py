"""Webhook tokens: addresses that let whoever knows one give a waiting run its webhook, once.

A token is who the run belongs to, the run, and the place that waits, sealed with AES-SIV
(RFC 5297): the same for the same place, nothing to read for anybody, and of no use once a bit is
changed. Tokens are recorded nowhere; the key alone makes and reads them.
"""

import base64
import binascii
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from workflow_backend.engines.base import RunEvent

HOOKS_PATH = "/v1/workflows/hooks"
KEY_FILE = "hook.key"
KEY_BYTES = 64
# As for the store of secrets: who has a token shall not find out a short `SECRET_KEY` by it.
SCRYPT_COST, SCRYPT_BLOCK, SCRYPT_PARALLEL = 2**15, 8, 3
MAX_TOKEN_CHARACTERS = 1_024
_PURPOSE = b"agent-server webhook tokens 1"
_SEPARATOR = "\0"

_log = logging.getLogger(__name__)


class HookKeyError(Exception):
    """The key of webhook tokens cannot be read or made; the message says why."""


@dataclass(frozen=True, slots=True)
class HookTarget:
    """The place of a run that waits for a webhook."""

    owner: str
    run_id: str
    place: str


class Hooks:
    """The tokens of one data folder, whose key is made when one is first needed.

    With `secret` the key comes of that instead, so that several servers have the same.
    """

    def __init__(self, data_dir: Path, secret: str | None = None) -> None:
        self._data_dir = data_dir
        self._secret = secret
        self._cipher: AESSIV | None = None

    def token(self, target: HookTarget) -> str:
        """The token of a place; always the same one.

        Raises:
            HookKeyError: There is no key.
        """
        text = _SEPARATOR.join((target.owner, target.run_id, target.place))
        sealed = self._open().encrypt(text.encode(), [_PURPOSE])
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def target(self, token: str) -> HookTarget | None:
        """The place that a token is for, None if it is none of ours.

        Raises:
            HookKeyError: There is no key.
        """
        cipher = self._open()
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
            text = cipher.decrypt(sealed, [_PURPOSE]).decode()
        except (binascii.Error, ValueError, InvalidTag):
            return None
        owner, run_id, place = text.split(_SEPARATOR)
        return HookTarget(owner, run_id, place)

    def shown(self, event: RunEvent, owner: str) -> RunEvent:
        """The event as its owner sees it: a wait for a webhook tells the path to post to."""
        if event.get("kind") != "webhook" or event["type"] != "wait_started":
            return event
        shown: Mapping[str, object] = {key: event[key] for key in event if key != "hook"}
        place = str(event.get("hook") or event["step"])
        try:
            token = self.token(HookTarget(owner, str(event["run_id"]), place))
        except HookKeyError as error:
            # Whoever follows the run shall see the rest of it.
            _log.error("A webhook has no address: %s", error)
            return shown
        return {**shown, "url_path": f"{HOOKS_PATH}/{token}"}

    def _open(self) -> AESSIV:
        if self._cipher is None:
            if self._secret:
                secret = self._secret.encode("utf-8", "surrogateescape")
                key = Scrypt(
                    salt=_PURPOSE,
                    length=KEY_BYTES,
                    n=SCRYPT_COST,
                    r=SCRYPT_BLOCK,
                    p=SCRYPT_PARALLEL,
                ).derive(secret)
            else:
                key = _kept_key(self._data_dir / KEY_FILE)
            self._cipher = AESSIV(key)
        return self._cipher


def _kept_key(path: Path) -> bytes:
    """The key in the file, which is made whole or not at all and readable by its owner alone."""
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise HookKeyError(f"{path} cannot be used: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise HookKeyError(f"{path} must hold {KEY_BYTES} bytes; remove it, and one is made anew")
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # Another process that was quicker has made it: its key stays.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
