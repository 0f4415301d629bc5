"""The shapes of what the tools answer about files and logs of runs."""

from pydantic import BaseModel, ConfigDict, Field


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class ArtefactItem(_Result):
    """A file that a step left to be kept, or the whole output of an attempt (`is_log`)."""

    step: str
    attempt: int
    name: str = Field(description="Its path below the run's folder.")
    sha256: str
    size: int
    is_log: bool = False
    time: str = ""


class ArtefactPage(_Result):
    """Some artefacts of a run, in the order in which they were kept."""

    artefacts: list[ArtefactItem]
    next_cursor: str | None = None


class ArtefactPart(_Result):
    """A part of an artefact, as base64; the file has `size` bytes."""

    sha256: str
    size: int
    offset: int
    data: str


class LogPart(_Result):
    """A part of the outputs of a run; `is_end` means that there is no more of them now."""

    text: str
    cursor: str = Field(description="Where the next part begins.")
    is_end: bool
