"""What is kept and shown of a step's output."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.masking import Masker
from workflow_backend.steps.capture import LIVE_CHUNK_CHARACTERS, Capture, HeadAndTail


@given(st.lists(st.text(max_size=30), max_size=30), st.integers(2, 60))
def test_head_and_tail_are_exact_however_the_text_comes(parts: list[str], limit: int) -> None:
    kept = HeadAndTail(limit)
    for part in parts:
        kept.add(part)
    text = "".join(parts)
    if len(text) <= limit:
        assert kept.text() == text
        assert not kept.is_truncated
    else:
        head, tail = text[: limit // 2], text[len(text) - (limit - limit // 2) :]
        left_out = len(text) - limit
        assert kept.text() == f"{head}\n... {left_out} characters left out ...\n{tail}"
        assert kept.is_truncated


def test_what_is_kept_in_memory_is_bounded() -> None:
    kept = HeadAndTail(1_000)
    for _ in range(10_000):
        kept.add("x" * 100)
    assert sum(map(len, kept._head)) == 500
    assert sum(map(len, kept._tail)) < 700


class Collected:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.came = asyncio.Event()

    async def emit(self, text: str) -> None:
        self.texts.append(text)
        self.came.set()
        await self.gate.wait()


async def test_small_writes_are_shown_together() -> None:
    collected = Collected()
    capture = Capture(Masker(), collected.emit, 1_000, 10_000)
    for number in range(100):
        capture.feed(b"%d\n" % number)
    await capture.finish()
    assert len(collected.texts) == 1
    assert "".join(collected.texts) == "".join(f"{number}\n" for number in range(100))


async def test_a_slow_watcher_does_not_hold_the_step_and_gets_larger_pieces() -> None:
    collected = Collected()
    collected.gate.clear()
    capture = Capture(Masker(), collected.emit, 10_000, 20_000)
    capture.feed(b"x" * LIVE_CHUNK_CHARACTERS)
    await asyncio.wait_for(collected.came.wait(), 10)
    for _ in range(1_000):
        capture.feed(b"yyyyy")
    collected.gate.set()
    await capture.finish()
    assert [len(text) for text in collected.texts] == [
        LIVE_CHUNK_CHARACTERS,
        LIVE_CHUNK_CHARACTERS,
        5_000 - LIVE_CHUNK_CHARACTERS,
    ]


async def test_live_output_ends_at_its_cap_and_says_so() -> None:
    collected = Collected()
    capture = Capture(Masker(), collected.emit, 100_000, 5_000)
    capture.feed(b"x" * 50_000)
    capture.feed(b"more")
    await capture.finish()
    shown = "".join(collected.texts)
    assert shown == "x" * 5_000 + "\n... further output is not shown live ...\n"
    assert capture.kept.text() == "x" * 50_000 + "more"


async def test_characters_and_secrets_parted_by_chunks_stay_whole() -> None:
    collected = Collected()
    capture = Capture(Masker(["geheimé"]), collected.emit, 1_000, 1_000)
    for byte in "aé geheimé €\n".encode():
        capture.feed(bytes([byte]))
    capture.feed(b"\xff\xe2\x82")
    await capture.finish()
    assert capture.kept.text() == "aé *** €\n��"
    assert "".join(collected.texts) == capture.kept.text()
