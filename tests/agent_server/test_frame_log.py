"""The frames of one stream, for readers that come and go."""

import asyncio
from collections.abc import Callable

import pytest

from agent_server.frame_log import FrameLog, FrameWindow, frames_of, lines_of
from streaming.errors import AgentLimitError, ConflictError

FRAMES = [b"event: a\ndata: %d\n\n" % number for number in range(7)]


@pytest.mark.parametrize(
    ("split", "data", "parts"),
    [
        (
            frames_of,
            b": ping\n\ndata: 1\n\nid: 2\ndata: 2\n\n",
            [b"data: 1\n\n", b"id: 2\ndata: 2\n\n"],
        ),
        (lines_of, b'\n0:"a"\n\n2:[1]\n', [b'0:"a"\n', b"2:[1]\n"]),
    ],
    ids=["frames", "lines"],
)
def test_what_fills_a_silence_is_no_part_of_the_stream(
    split: Callable[[bytes], list[bytes]], data: bytes, parts: list[bytes]
) -> None:
    assert split(data) == parts


@pytest.mark.parametrize("kind", [FrameLog, FrameWindow])
async def test_every_reader_gets_every_frame_once_wherever_it_begins(kind: type[FrameLog]) -> None:
    for begun in range(len(FRAMES) + 1):
        log = kind()
        for frame in FRAMES[:begun]:
            log.append(frame)
        readers = [
            asyncio.create_task(collected(log, after)) for after in range(-1, len(FRAMES) + 1)
        ]
        await asyncio.sleep(0)
        for frame in FRAMES[begun:-1]:
            log.append(frame)
            await asyncio.sleep(0)
        log.end(b"" if begun == len(FRAMES) else FRAMES[-1])
        for after, seen in zip(range(-1, len(FRAMES) + 1), await together(readers), strict=True):
            assert seen == b"".join(FRAMES[after + 1 :])


async def test_a_log_that_is_full_says_so_and_loses_no_frame() -> None:
    log = FrameLog(max_bytes=len(FRAMES[0]))
    log.append(FRAMES[0])
    with pytest.raises(AgentLimitError, match="grew over"):
        log.append(FRAMES[1])
    log.end(FRAMES[2])
    assert log.whole() == b"".join(FRAMES[:3])


async def test_a_window_forgets_its_oldest_frames_and_tells_who_asks_for_them() -> None:
    size = len(FRAMES[0])
    window = FrameWindow(max_bytes=4 * size)
    late = asyncio.create_task(collected(window, -1))
    for frame in FRAMES:
        window.append(frame)
        assert window.held_bytes <= 4 * size
    window.end()
    assert window.count == len(FRAMES)
    assert 0 < window.first < len(FRAMES)
    assert window.held_bytes == size * (len(FRAMES) - window.first)
    assert await collected(window, window.first - 1) == b"".join(FRAMES[window.first :])
    with pytest.raises(ConflictError, match=f"Last-Event-ID: {window.first}'") as raised:
        await collected(window, window.first - 2)
    assert raised.value.code == "frames_not_held"
    # It had not read a frame when the first ones went.
    with pytest.raises(ConflictError):
        await late


async def test_a_reader_that_keeps_up_gets_all_of_what_a_window_has_forgotten() -> None:
    window = FrameWindow(max_bytes=3 * len(FRAMES[0]))
    reader = asyncio.create_task(collected(window, -1))
    for frame in FRAMES:
        await asyncio.sleep(0)
        window.append(frame)
    await asyncio.sleep(0)
    window.end()
    assert await reader == b"".join(FRAMES)
    assert window.first > 0


async def test_a_frame_larger_than_the_window_is_held_as_long_as_it_is_the_newest() -> None:
    window = FrameWindow(max_bytes=10)
    large = b"data: %b\n\n" % (b"x" * 100)
    window.append(large)
    assert (window.first, window.whole()) == (0, large)
    window.append(FRAMES[0])
    assert (window.first, window.whole()) == (1, FRAMES[0])


async def collected(log: FrameLog, after: int) -> bytes:
    return b"".join([data async for data in log.read_after(after)])


async def together(readers: list[asyncio.Task[bytes]]) -> list[bytes]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*readers)
