"""What is kept of a run besides its events: artefacts and whole outputs, found by the events.

An attempt's output is whole in its last event, or else in a log of the store, which that event
names. Pure but for the store's files, which `read` of a section waits for.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from workflow_backend.artefacts import ArtefactMissingError, ArtefactStore
from workflow_backend.engines.base import Engine, RunEvent

_ENDS = frozenset({"step_complete", "step_failed"})


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file that an attempt left, or its log."""

    step: str
    attempt: int
    name: str
    sha256: str
    size: int
    is_log: bool
    time: str


@dataclass(slots=True)
class Section:
    """The output of one attempt, as far as it is known: `texts`, or `log` once it is kept whole."""

    step: str
    attempt: int
    iteration: int = 1
    texts: list[str] = field(default_factory=list)
    log: RunFile | None = None
    error: str = ""
    has_ended: bool = False

    @property
    def place(self) -> str:
        """The name of this time at the step, as logs have it."""
        return self.step if self.iteration == 1 else f"{self.step}@{self.iteration}"

    def is_of(self, step: str | None, attempt: int | None) -> bool:
        """Whether it is wanted: `step` may name an item, or one time of a repeated step."""
        names = (None, self.step, self.place, self.step.partition("[")[0])
        return step in names and attempt in {None, self.attempt}

    def parts(self, last: str, *, is_alone: bool) -> tuple[bytes, bytes, bytes]:
        """What stands before the output, the output (empty if there is a log), what stands after.

        `last` is the log's last character. An output that `is_alone` stands for itself, and one
        of nothing is not told of.
        """
        text = "".join(self.texts)
        if is_alone or not (text or self.log or self.error):
            return b"", _encoded(text), b""
        is_open = (text or last)[-1:] not in {"", "\n"}
        end = "\n" if self.has_ended and is_open else ""
        failure = f"== {self.place} failed: {self.error} ==\n" if self.error else ""
        head = f"== {self.place} (attempt {self.attempt}) ==\n"
        return _encoded(head), _encoded(text), _encoded(end + failure)

    def take_end(self, event: RunEvent) -> None:
        """Note how the attempt ended; what it wrote is whole now."""
        self.log = next((file for file in files_of([event]) if file.is_log), None)
        self.texts = [] if self.log else [str(event.get("output") or "")]
        self.error = str(event.get("error") or "")
        self.has_ended = True


async def recorded_events(engine: Engine, run_id: str, owner: str) -> AsyncIterator[RunEvent]:
    """The events of a run that are recorded now.

    Raises:
        RunNotFoundError: The owner has no such run.
    """
    last_seq = (await engine.get(run_id, owner)).last_seq
    if not last_seq:
        return
    async with aclosing(engine.events(run_id, owner)) as events:
        async for event in events:
            yield event
            if int(str(event["seq"])) >= last_seq:
                return


def files_of(events: Iterable[RunEvent]) -> list[RunFile]:
    """The files that the events name; of those with one name in one step the newest."""
    found: dict[tuple[str, str, bool], RunFile] = {}
    for event in events:
        artefacts = event.get("artefacts")
        if event["type"] not in _ENDS or not isinstance(artefacts, list):
            continue
        for artefact in artefacts:
            file = RunFile(
                step=str(event["step"]),
                attempt=int(str(event["attempt"])),
                name=str(artefact["name"]),
                sha256=str(artefact["sha256"]),
                size=int(artefact["size"]),
                is_log=bool(artefact.get("is_log")),
                time=str(event.get("time", "")),
            )
            key = (file.step, file.name, file.is_log)
            found.pop(key, None)
            found[key] = file
    return list(found.values())


def sections_of(events: Iterable[RunEvent]) -> list[Section]:
    """The outputs of a run's attempts, in the order in which these began."""
    sections: dict[tuple[str, int, int], Section] = {}
    iterations: dict[str, int] = {}
    for event in events:
        kind, step = event["type"], str(event.get("step"))
        if kind not in {"step_running", "step_output", *_ENDS}:
            continue
        if kind != "step_output":
            iterations[step] = int(str(event.get("iteration", 1)))
        key = (step, iterations.get(step, 1), int(str(event.get("attempt", 1))))
        section = sections.setdefault(key, Section(step, key[2], key[1]))
        if kind == "step_running":
            # After a crash the attempt begins anew.
            section.texts.clear()
        elif kind == "step_output":
            section.texts.append(str(event.get("text", "")))
        else:
            section.take_end(event)
    return list(sections.values())


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of the outputs of a run, and where the next one begins."""

    text: str
    section: int
    offset: int
    is_end: bool


def log_page(
    store: ArtefactStore,
    run_id: str,
    sections: Sequence[Section],
    start: tuple[int, int],
    max_bytes: int,
    *,
    is_alone: bool,
) -> LogPage:
    """The next part of the outputs, from an offset in a section on; waits for the disk.

    The place stays right while attempts go on and others begin.
    """
    number, offset = start
    data = bytearray()
    while number < len(sections) and len(data) < max_bytes:
        room = max_bytes - len(data)
        taken = _read_section(store, run_id, sections[number], offset, room, is_alone=is_alone)
        data += taken
        offset += len(taken)
        if len(taken) < room:
            if number == len(sections) - 1:
                return LogPage(_decoded(data), number, offset, is_end=True)
            number, offset = number + 1, 0
    whole = _whole_characters(data)
    return LogPage(
        _decoded(whole), number, offset - (len(data) - len(whole)), is_end=number >= len(sections)
    )


def _read_section(
    store: ArtefactStore, run_id: str, section: Section, offset: int, room: int, *, is_alone: bool
) -> bytes:
    """Bytes of one section; fewer than `room` only at its end."""
    size = section.log.size if section.log else 0
    last = _read_text(store, run_id, section, b"", size - 1, 1) if size else b""
    head, text, tail = section.parts(_decoded(last), is_alone=is_alone)
    size = size or len(text)
    found = bytearray(head[offset : offset + room])
    at = offset + len(found) - len(head)
    if len(found) < room and 0 <= at < size:
        wanted = room - len(found)
        found += _read_text(store, run_id, section, text, at, wanted)
        at = offset + len(found) - len(head)
    if len(found) < room and at >= size:
        found += tail[at - size : at - size + room - len(found)]
    return bytes(found)


def _read_text(
    store: ArtefactStore, run_id: str, section: Section, text: bytes, at: int, wanted: int
) -> bytes:
    if section.log is None:
        return text[at : at + wanted]
    try:
        return store.read(run_id, section.log.sha256, at, wanted)
    except ArtefactMissingError:
        # Of the size that was recorded, so that every page stays where it was.
        notice = b"... this output is not in the artefact folder of this server any more ...\n"
        return notice.ljust(section.log.size, b"\n")[at : at + wanted]


def _whole_characters(data: bytes | bytearray) -> bytes:
    """The data without the first bytes of a character at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return bytes(data[: len(data) - back] if length > back else data)
    return bytes(data)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _decoded(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
