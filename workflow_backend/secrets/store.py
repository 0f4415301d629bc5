"""The encrypted store of secrets: `secrets.enc` in the data folder, opened with `SECRET_KEY`.

Guarantees: a reader finds the file as it was before a change or after it, never between; of changes
at the same time none is lost, each waits for the other; the file is its user's alone (0600). A file
that was changed by somebody without the key, entries exchanged or limits widened, is refused. What
that cannot tell: an older file in the place of a newer one.
"""

import contextlib
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from typing_extensions import override

from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.secrets.entries import MAX_VALUE_BYTES, Entry, SecretsError, is_name
from workflow_backend.secrets.sealing import SALT_BYTES, SealBrokenError, Sealer, sealer_of
from workflow_backend.secrets.store_document import (
    SealedSecret,
    StoreDocument,
    StoreDocumentError,
    read_document,
)

STORE_NAME = "secrets.enc"
LOCK_NAME = "secrets.lock"
KEY_VARIABLE = "SECRET_KEY"
MIN_KEY_CHARACTERS = 8
MAX_SECRETS = 1_000
MAX_STORE_BYTES = 128 * 1024 * 1024
LOCK_SECONDS = 10.0
LOCK_PAUSE_SECONDS = 0.02

_log = logging.getLogger(__name__)
_Stamp: TypeAlias = tuple[int, int, int]


class SecretStore:
    """The store of one data folder. Without a key its names and limits can be read, no value."""

    def __init__(self, data_dir: Path, key: str | None = None) -> None:
        self.path = data_dir / STORE_NAME
        self._lock_path = data_dir / LOCK_NAME
        self._key = key
        self._stamp: _Stamp | None = None
        self._entries: Mapping[str, Entry] = {}

    @override
    def __repr__(self) -> str:
        return f"SecretStore({str(self.path)!r})"

    def load(self) -> Mapping[str, Entry]:
        """The secrets of the store, now; none where there is no file.

        Raises:
            SecretsError: The file cannot be read, or the key does not open it.
        """
        self._stamp = self._stamp_now()
        document = self._read()
        self._entries = {} if document is None else self._opened(document)
        return self._entries

    def current(self) -> Mapping[str, Entry]:
        """The secrets of the store, read again if the file has changed.

        Of a file that cannot be used any more, the names that were known are left, without values.
        """
        if self._stamp_now() != self._stamp:
            known = self._entries
            try:
                self.load()
            except SecretsError as error:
                _log.warning("%s", error)
                self._entries = {
                    name: replace(entry, value="", fault=str(error))
                    for name, entry in known.items()
                }
        return self._entries

    def set(self, name: str, value: str, rule: SecretRule) -> None:
        """Keep the value under the name, in place of one that is there.

        Raises:
            SecretsError: The name, the value or the key cannot be used, or the file not be written.
        """
        if not is_name(name):
            raise SecretsError(
                f"a secret's name is letters, digits and _, at most 128, no digit first: {name!r}"
            )
        _check_value(name, value)
        with self._changing():
            document = self._read()
            if document is None:
                document = self._new()
            sealer = self._sealer(document)
            sealed = SealedSecret(sealer.seal(value, name, rule), rule)
            secrets = {**document.secrets, name: sealed}
            if len(secrets) > MAX_SECRETS:
                raise SecretsError(f"{self.path} holds {MAX_SECRETS} secrets, which is the most")
            self._write(replace(document, secrets=secrets))

    def remove(self, name: str) -> bool:
        """Take the secret away; whether it was there. No key is needed.

        Raises:
            SecretsError: The file cannot be read or written.
        """
        with self._changing():
            document = self._read()
            if document is None or name not in document.secrets:
                return False
            secrets = {known: kept for known, kept in document.secrets.items() if known != name}
            self._write(replace(document, secrets=secrets))
        return True

    def _stamp_now(self) -> _Stamp | None:
        """What tells a file from another in its place; None where there is none."""
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> StoreDocument | None:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_STORE_BYTES + 1)
            if len(data) > MAX_STORE_BYTES:
                raise self._fault(f"is over {MAX_STORE_BYTES} bytes")
            return read_document(data)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(f"cannot be read: {error.strerror}") from None
        except StoreDocumentError as error:
            raise self._fault(str(error)) from None

    def _opened(self, document: StoreDocument) -> dict[str, Entry]:
        """The entries of the document, with their values if there is a key."""
        sealer = self._sealer(document) if self._key else None
        entries = {}
        for name, secret in document.secrets.items():
            value, fault = "", ""
            if sealer is None:
                fault = f"the secret {name!r} is in {self.path}, and {KEY_VARIABLE} is not set"
            else:
                try:
                    value = sealer.open(secret.sealed, name, secret.rule)
                except SealBrokenError:
                    raise self._fault(
                        f"is damaged: the entry {name!r} was changed without the key; set it anew"
                        " by `agent-server secrets rm` and `set`"
                    ) from None
            entries[name] = Entry(value, "store", f"the store {self.path}", secret.rule, fault)
        return entries

    def _new(self) -> StoreDocument:
        salt = os.urandom(SALT_BYTES)
        return StoreDocument(salt, self._make_sealer(salt).seal_check())

    def _sealer(self, document: StoreDocument) -> Sealer:
        sealer = self._make_sealer(document.salt)
        if not sealer.fits(document.check):
            raise self._fault(
                f"was made with another {KEY_VARIABLE}; give that one. If it is lost, move the file"
                " away and set the secrets anew"
            )
        return sealer

    def _make_sealer(self, salt: bytes) -> Sealer:
        if not self._key:
            raise SecretsError(
                f"{KEY_VARIABLE} is not set; make a key by `openssl rand -base64 32`, and give it"
                " to the server and to this command"
            )
        if len(self._key) < MIN_KEY_CHARACTERS:
            raise SecretsError(
                f"{KEY_VARIABLE} has fewer than {MIN_KEY_CHARACTERS} characters; make one by"
                " `openssl rand -base64 32`"
            )
        return sealer_of(self._key, salt)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock that every change takes; the file itself is another one after each."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._fault(f"cannot be changed: {error.strerror}") from None
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _lock(descriptor):
                if time.monotonic() > deadline:
                    raise self._fault(f"is being changed for over {LOCK_SECONDS:.0f} s by another")
                time.sleep(LOCK_PAUSE_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _write(self, document: StoreDocument) -> None:
        try:
            # Made with mode 0600.
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{STORE_NAME}-")
        except OSError as error:
            raise self._fault(f"cannot be written: {error.strerror}") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(document.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise self._fault(f"cannot be written: {error.strerror}") from None
        _sync_folder(self.path.parent)

    def _fault(self, reason: str) -> SecretsError:
        return SecretsError(f"the store of secrets {self.path} {reason}")


def _check_value(name: str, value: str) -> None:
    if not value:
        raise SecretsError(f"the value of {name} is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise SecretsError(f"the value of {name} is not UTF-8 text") from None
    if size > MAX_VALUE_BYTES:
        raise SecretsError(f"the value of {name} is over {MAX_VALUE_BYTES} bytes")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name last over a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
