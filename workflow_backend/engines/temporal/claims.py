"""Payloads on their way: compressed where that helps, large ones as a reference to a file.

Guarantees: a payload that history refers to was on the disk before history did; what comes back is
what was given, or an error that names the file that is missing. Payloads of a run are files of that
run in the store, and go with it; whoever is no run (a group, a schedule) keeps its own in place.
"""

import asyncio
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.exceptions import TemporalError
from typing_extensions import override

from workflow_backend.artefacts import (
    ArtefactError,
    ArtefactLimits,
    ArtefactMissingError,
    ArtefactStore,
)
from workflow_backend.steps.run_folder import RUN_ID

COMPRESS_OVER_BYTES = 4 * 1024
# One answer of workflow code holds the payloads of up to 256 steps, and clusters take 4 MiB.
CLAIM_OVER_BYTES = 12 * 1024

_ZLIB = b"binary/zlib"
_CLAIM = b"binary/claim"
_LEVEL = 1
_UNBOUNDED = ArtefactLimits(artefact_bytes=2**40, run_bytes=2**50)


class ClaimError(TemporalError):
    """A payload's file is not in the folder of this machine, or cannot be written there."""


class ClaimCodec(PayloadCodec, WithSerializationContext):
    """The codec of one run, or of none; `with_context` gives that of a run."""

    def __init__(self, store: ArtefactStore, run_id: str | None = None) -> None:
        self._store = store
        self._run_id = run_id

    @classmethod
    def of(cls, folder: Path, namespace: str) -> Self:
        """The codec over the folder that all who share the namespace share."""
        return cls(claim_store(folder, namespace))

    @override
    def with_context(self, context: SerializationContext) -> "ClaimCodec":
        run_id = None
        if isinstance(context, (WorkflowSerializationContext, ActivitySerializationContext)):
            run_id = context.workflow_id
        is_run = run_id is not None and RUN_ID.fullmatch(run_id)
        return ClaimCodec(self._store, run_id if is_run else None)

    @override
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [await self._encode(payload) for payload in payloads]

    @override
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [await self._decode(payload) for payload in payloads]

    async def _encode(self, payload: Payload) -> Payload:
        if len(payload.data) <= COMPRESS_OVER_BYTES:
            return payload
        packed = await asyncio.to_thread(_pack, payload)
        if len(packed) > CLAIM_OVER_BYTES and self._run_id is not None:
            return await asyncio.to_thread(self._put_away, self._run_id, packed)
        if len(packed) > 0.9 * len(payload.data):
            return payload
        return Payload(metadata={"encoding": _ZLIB}, data=packed)

    async def _decode(self, payload: Payload) -> Payload:
        encoding = payload.metadata.get("encoding")
        if encoding == _ZLIB:
            return _unpack(payload.data)
        if encoding == _CLAIM:
            return await asyncio.to_thread(self._fetch, payload)
        return payload

    def _put_away(self, run_id: str, packed: bytes) -> Payload:
        try:
            stored = self._store.put(run_id, io.BytesIO(packed))
        except ArtefactError as error:
            raise ClaimError(
                f"a payload of {len(packed)} bytes cannot be kept in {self._store.folder}: {error}"
            ) from error
        return Payload(
            metadata={"encoding": _CLAIM, "run": run_id.encode()},
            data=f"sha256:{stored.sha256}".encode(),
        )

    def _fetch(self, payload: Payload) -> Payload:
        run_id = payload.metadata["run"].decode()
        sha256 = payload.data.decode().removeprefix("sha256:")
        try:
            return _unpack(self._store.read(run_id, sha256))
        except (ArtefactMissingError, zlib.error) as error:
            raise ClaimError(
                f"a payload of run {run_id} is not in {self._store.folder}: the server and all"
                " workers must share AGENT_SERVER_ARTEFACTS_DIR"
            ) from error


def _pack(payload: Payload) -> bytes:
    return zlib.compress(payload.SerializeToString(), _LEVEL)


def _unpack(packed: bytes) -> Payload:
    return Payload.FromString(zlib.decompress(packed))


def claim_store(folder: Path, namespace: str) -> ArtefactStore:
    """The store of a namespace's large payloads."""
    return ArtefactStore(folder / "claims" / namespace, _UNBOUNDED)
