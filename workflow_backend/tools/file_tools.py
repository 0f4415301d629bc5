"""Tools that give the files and the whole outputs of runs, part by part (for the server).

Guarantee: a run belongs to the owner that started it, and so do its files; nothing but what its
steps left to be kept is read.
"""

import asyncio
import base64
import re
from typing import Annotated

from mcp.server import MCPServer
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from workflow_backend.artefacts import ArtefactMissingError, ArtefactStore
from workflow_backend.backend import Backend
from workflow_backend.engines.base import Engine, RunEvent
from workflow_backend.run_files import (
    RunFile,
    files_of,
    log_page,
    recorded_events,
    sections_of,
)
from workflow_backend.tools.calls import FOR_SERVER, RunId, ToolContext, checked_run_id, owner_of
from workflow_backend.tools.file_results import ArtefactItem, ArtefactPage, ArtefactPart, LogPart
from workflow_backend.tools.refusals import RefusalError, engine_refusals

# A part travels as JSON in one line, and each byte of an output may take six there.
MAX_PART_BYTES = 512 * 1024
MAX_LOG_BYTES = 256 * 1024
MAX_ITEMS = 1_000
MAX_KNOWN_RUNS = 10_000

_CURSOR = re.compile(r"([0-9]{1,9})(?::([0-9]{1,15}))?")
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

StepName = Annotated[str, Field(description="Name of the step, or of one item.", max_length=200)]
Cursor = Annotated[
    str | None, Field(description="Where an earlier part or page ended.", max_length=100)
]


def register_file_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    files = _Files(backend.engine, backend.artefacts)
    _register_artefacts(server, files)

    @server.tool(title="Read outputs", annotations=_READS, meta=FOR_SERVER)
    async def read_log(
        run_id: RunId,
        ctx: ToolContext,
        step: StepName | None = None,
        attempt: Annotated[int | None, Field(ge=0)] = None,
        cursor: Cursor = None,
    ) -> Annotated[CallToolResult, LogPart]:
        """Give what the steps of a run wrote, whole, in the order in which they began.

        With `step` and `attempt` it is the output alone, without lines that tell whose it is.
        """
        return _bulk(await files.log(run_id, owner_of(ctx), step, attempt, cursor))


def _register_artefacts(server: MCPServer, files: "_Files") -> None:
    @server.tool(title="List artefacts", annotations=_READS, meta=FOR_SERVER)
    async def list_artefacts(
        run_id: RunId,
        ctx: ToolContext,
        limit: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = MAX_ITEMS,
        cursor: Cursor = None,
    ) -> ArtefactPage:
        """List the files that the steps of a run left to be kept, and the logs of long outputs."""
        found = files_of(await files.events(run_id, owner_of(ctx)))
        first, _ = _place(cursor)
        after = first + limit
        return ArtefactPage(
            artefacts=[_item(file) for file in found[first:after]],
            next_cursor=str(after) if after < len(found) else None,
        )

    @server.tool(title="Read an artefact", annotations=_READS, meta=FOR_SERVER)
    async def read_artefact(
        run_id: RunId,
        step: StepName,
        name: Annotated[str, Field(description="Name of the artefact.", max_length=1_000)],
        ctx: ToolContext,
        offset: Annotated[int, Field(ge=0, le=2**53)] = 0,
        max_bytes: Annotated[int, Field(ge=1, le=MAX_PART_BYTES)] = MAX_PART_BYTES,
        sha256: Annotated[
            str | None,
            Field(description="Content that an earlier part named, to go on with.", max_length=64),
        ] = None,
    ) -> Annotated[CallToolResult, ArtefactPart]:
        """Give a part of an artefact as base64; of several with this name the newest."""
        owner = owner_of(ctx)
        if sha256 is None:
            sha256 = (await files.find(run_id, owner, step, name)).sha256
        return _bulk(await files.part(run_id, owner, sha256, offset, max_bytes))


class _Files:
    """The files of runs, each given to its owner alone."""

    def __init__(self, engine: Engine, store: ArtefactStore) -> None:
        self._engine = engine
        self._store = store
        # Whose a run is never changes, and a file is asked for in many parts.
        self._known: set[tuple[str, str]] = set()

    async def events(self, run_id: str, owner: str) -> list[RunEvent]:
        """The recorded events of a run.

        Raises:
            RefusalError: The owner has no such run.
        """
        run_id = checked_run_id(run_id)
        with engine_refusals(run_id):
            return [event async for event in recorded_events(self._engine, run_id, owner)]

    async def find(self, run_id: str, owner: str, step: str, name: str) -> RunFile:
        """The newest file of this name in a step; a log only if there is no other.

        Raises:
            RefusalError: There is none.
        """
        found = files_of(await self.events(run_id, owner))
        matching = [file for file in found if (file.step, file.name) == (step, name)]
        if not matching:
            raise RefusalError(
                "artefact_not_found",
                f"The run {run_id} has no artefact {name!r} of step {step!r};"
                " the list of its artefacts tells what there is.",
            )
        return min(matching, key=lambda file: file.is_log)

    async def part(
        self, run_id: str, owner: str, sha256: str, offset: int, max_bytes: int
    ) -> ArtefactPart:
        """A part of a content that the run kept.

        Raises:
            RefusalError: The owner has no such run, or it has no such content.
        """
        run_id = checked_run_id(run_id)
        if (run_id, owner) not in self._known:
            with engine_refusals(run_id):
                await self._engine.get(run_id, owner)
            if len(self._known) >= MAX_KNOWN_RUNS:
                self._known.clear()
            self._known.add((run_id, owner))
        try:
            size = await asyncio.to_thread(self._store.size, run_id, sha256)
            data = await asyncio.to_thread(self._store.read, run_id, sha256, offset, max_bytes)
        except ArtefactMissingError as error:
            raise RefusalError(
                "artefact_gone",
                "The content is not in the artefact folder of this server: it was removed, or"
                " kept on another machine (AGENT_SERVER_ARTEFACTS_DIR).",
            ) from error
        encoded = base64.b64encode(data).decode("ascii")
        return ArtefactPart(sha256=sha256, size=size, offset=offset, data=encoded)

    async def log(
        self, run_id: str, owner: str, step: str | None, attempt: int | None, cursor: str | None
    ) -> LogPart:
        """A part of what the steps wrote.

        Raises:
            RefusalError: The owner has no such run, or it no such step.
        """
        sections = sections_of(await self.events(run_id, owner))
        wanted = [section for section in sections if section.is_of(step, attempt)]
        if not wanted and (step, attempt) != (None, None):
            raise RefusalError(
                "log_not_found",
                f"No attempt of run {run_id} is of step {step!r}, number {attempt}.",
            )
        is_alone = step is not None and attempt is not None and len(wanted) == 1
        page = await asyncio.to_thread(
            log_page,
            self._store,
            run_id,
            wanted,
            _place(cursor),
            MAX_LOG_BYTES,
            is_alone=is_alone,
        )
        return LogPart(text=page.text, cursor=f"{page.section}:{page.offset}", is_end=page.is_end)


def _bulk(part: ArtefactPart | LogPart) -> CallToolResult:
    """The result without the text that usually says the same once more: it is for no model."""
    said = TextContent(type="text", text="The part is the structured content.")
    return CallToolResult(content=[said], structured_content=part.model_dump())


def _place(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise RefusalError("invalid_cursor", "The cursor is not valid; begin without one.")
    return int(found[1]), int(found[2] or 0)


def _item(file: RunFile) -> ArtefactItem:
    return ArtefactItem(
        step=file.step,
        attempt=file.attempt,
        name=file.name,
        sha256=file.sha256,
        size=file.size,
        is_log=file.is_log,
        time=file.time,
    )
