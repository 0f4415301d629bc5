"""The whole output of an attempt, for when it is longer than what its record and events carry.

Guarantee: memory is bounded; nothing is written for a short output; what is written is bounded, and
says so at its end if something is missing. A fault of the disk ends the log, never the step.
"""

from workflow_backend.artefacts import ArtefactError, ArtefactStore, Spool, Stored
from workflow_backend.steps.capture import HeadAndTail


class StepLog:
    """Takes the masked texts of an attempt: `add` each, then `keep` or `discard`."""

    def __init__(self, store: ArtefactStore, from_characters: int, max_bytes: int) -> None:
        self._store = store
        self._from_characters = from_characters
        self._room = max_bytes
        self._max_bytes = max_bytes
        self._missing = 0
        self._spool: Spool | None = None
        self._fault: ArtefactError | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is something to keep, or to say about it."""
        return self._spool is not None or self._fault is not None

    def add(self, text: str, before: HeadAndTail) -> None:
        """Append a text to what is `before` it; that must be whole until the log begins."""
        if self._fault is not None:
            return
        try:
            if self._spool is None:
                if before.characters + len(text) <= self._from_characters:
                    return
                self._spool = self._store.spool()
                self._write(self._spool, before.text())
            self._write(self._spool, text)
        except ArtefactError as error:
            self._fault = error
            self.discard()

    def keep(self, run_id: str) -> Stored | None:
        """Put the log into the store, if there is one; waits for the disk.

        Raises:
            ArtefactError: It could not be written, or cannot be kept.
        """
        if self._fault is not None:
            raise self._fault
        if self._spool is None:
            return None
        if self._missing:
            self._spool.write(
                f"\n... {self._missing} bytes more were not kept: a log has {self._max_bytes} at"
                " most (AGENT_SERVER_STEP_LOG_BYTES) ...\n".encode()
            )
        return self._spool.keep(run_id)

    def discard(self) -> None:
        """Forget the log."""
        if self._spool is not None:
            self._spool.discard()

    def _write(self, spool: Spool, text: str) -> None:
        data = text.encode("utf-8", "replace")
        if len(data) > self._room:
            # Not within a character, and nothing after the gap.
            kept = data[: self._room].decode("utf-8", "ignore").encode()
            self._missing += len(data) - len(kept)
            self._room, data = 0, kept
        else:
            self._room -= len(data)
        if data:
            spool.write(data)
