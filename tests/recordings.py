"""The recorded exchanges with providers, where they lie beside the checkout, and their replay.

They are `../shared/wire`, replayed by `../shared/replay/replay.py`. A clone without them skips what
is marked `needs_recordings`; nothing of them is copied into the repository.
"""

import importlib.util
import sys
from collections.abc import AsyncIterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import pytest

from streaming.events import (
    Event,
    Finished,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)

SHARED = Path(__file__).resolve().parents[2] / "shared"
REPLAY = SHARED / "replay" / "replay.py"
WIRE = SHARED / "wire"

# How the recorded bytes are cut: in one write, one for each event, at random with a fixed seed.
SPLITS = ("all", "event", "random:42")


class Exchange(Protocol):
    """One recorded request and what the provider answered."""

    id: str
    provider: str
    name: str
    endpoint: str
    stream: bool
    request: dict[str, Any]
    meta: dict[str, Any]
    body: bytes


class Received(Protocol):
    """One request that the replay got; `outcome` is `client-gone` if the client left it."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    outcome: str
    json: Any


class Replay(Protocol):
    """The replay of all recordings on loopback, in a thread of its own."""

    url: str
    requests: list[Received]
    exchanges: dict[str, Exchange]


class _ReplayModule(Protocol):
    def serve(self, data: Path | dict[str, Exchange]) -> AbstractContextManager[Replay]: ...

    def load(self, root: Path) -> dict[str, Exchange]: ...


def has_recordings() -> bool:
    """Whether the recordings and their replay are there."""
    return REPLAY.is_file() and WIRE.is_dir()


def needs_recordings(function: Any) -> Any:
    """Mark a test as one over the recordings, skipped where they are not there."""
    skip = pytest.mark.skipif(not has_recordings(), reason="no recordings beside the checkout")
    return pytest.mark.recordings(skip(function))


def provider_folders(endpoint: str) -> list[str]:
    """The providers that have a recording of this endpoint, such as `chat.completions`."""
    metas = WIRE.glob("*/*/response.meta.json")
    wanted = f'"endpoint": "{endpoint}"'
    return sorted({meta.parent.parent.name for meta in metas if wanted in meta.read_text()})


def exchanges_of(replay: Replay, provider: str, endpoint: str) -> list[Exchange]:
    """The recordings of a provider on an endpoint, by name."""
    return [
        exchange
        for exchange in replay.exchanges.values()
        if exchange.provider == provider and exchange.endpoint == endpoint
    ]


@pytest.fixture(scope="session")
def replay() -> Iterator[Replay]:
    """The replay of all recordings."""
    if not has_recordings():
        pytest.skip("no recordings beside the checkout")
    module = _replay_module()
    with module.serve(module.load(WIRE)) as server:
        yield server


def _replay_module() -> _ReplayModule:
    spec = importlib.util.spec_from_file_location("recorded_replay", REPLAY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up.
    sys.modules["recorded_replay"] = module
    spec.loader.exec_module(module)
    return cast("_ReplayModule", module)


@dataclass
class ToolCallReading:
    """A tool call of an answer; an id that the provider did not give is "" on both sides."""

    call_id: str
    name: str
    arguments: str


@dataclass
class ChoiceReading:
    """What one choice of an answer says."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[ToolCallReading] = field(default_factory=list)
    finish_reason: str | None = None
    blocks: list[ReasoningBlock] = field(default_factory=list, compare=False)


@dataclass
class Reading:
    """What an answer says, however it was delivered."""

    choices: dict[int, ChoiceReading] = field(default_factory=dict)
    usage: Usage | None = None
    started: Started | None = field(default=None, compare=False)

    def choice(self, index: int) -> ChoiceReading:
        """The choice of an index, made on first sight."""
        return self.choices.setdefault(index, ChoiceReading())


async def read_events(events: AsyncIterable[Event]) -> Reading:
    """The answer that events make up; fails where their sequence is not well-formed."""
    seen = Reading()
    arguments: dict[tuple[int, int], str] = {}
    ended: set[tuple[int, int]] = set()
    async for event in events:
        match event:
            case Started():
                assert seen.started is None, "a second Started"
                assert not seen.choices, "Started after content"
                seen.started = event
                continue
            case ToolCallStarted():
                key = (event.choice, event.index)
                assert key not in arguments, f"tool call {key} began twice"
                assert event.index == sum(choice == event.choice for choice, _ in arguments)
                arguments[key] = ""
            case ToolCallDelta():
                key = (event.choice, event.index)
                assert key in arguments, f"arguments of tool call {key}, which did not begin"
                assert key not in ended, f"arguments of tool call {key}, which has ended"
                arguments[key] += event.arguments
            case ToolCallEnded():
                key = (event.choice, event.index)
                assert arguments[key] == event.arguments, f"other arguments in the end of {key}"
                assert key not in ended, f"tool call {key} ended twice"
                ended.add(key)
            case Finished():
                assert seen.usage is None, "usage before the last Finished"
            case _:
                pass
        _add(seen, event)
    assert ended == set(arguments), "a tool call that did not end"
    for index, choice in seen.choices.items():
        assert choice.finish_reason, f"choice {index} did not finish"
        thought = "".join(block.text for block in choice.blocks)
        assert thought == choice.reasoning, "the blocks of thinking are not its deltas"
    return seen


def _add(seen: Reading, event: Event) -> None:
    assert hasattr(event, "choice"), f"{event} is no event of a provider"
    choice = seen.choice(event.choice)
    assert choice.finish_reason is None, f"{event} after the end of its choice"
    match event:
        case TextDelta():
            assert event.text, "an empty delta"
            choice.text += event.text
        case ReasoningDelta():
            assert event.text, "an empty delta"
            choice.reasoning += event.text
        case ReasoningEnded():
            choice.blocks.append(event.block)
        case RefusalDelta():
            choice.refusal += event.text
        case ToolCallEnded():
            call = ToolCallReading(event.call_id, event.name, event.arguments)
            choice.tool_calls.append(call)
        case Finished():
            choice.finish_reason = event.reason
            seen.usage = event.usage
        case _:
            pass
