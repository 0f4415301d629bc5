"""The format `messages` as Anthropic's Python SDK reads it, with pings and workflow events."""

from collections.abc import Awaitable, Callable

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError, RateLimitError, UpstreamOverloadedError
from streaming.events import (
    Event,
    Finished,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    WorkflowEvent,
)
from streaming.json_bytes import dump
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder
from tests.message_stream import message_of
from tests.servers import Scripted, scripted

HEAD = StreamHead("msg_1", "kubiya-workflow-agent", 1700000000)
STEP = WorkflowEvent({"type": "step_running", "step": "a", "run_id": "r", "seq": 1, "time": "t"})
EVENTS: list[Event] = [
    STEP,
    ReasoningDelta("hm"),
    ReasoningEnded(ReasoningBlock("hm", signature="c2ln")),
    TextDelta("Hel"),
    STEP,
    TextDelta("lo"),
    ToolCallStarted(0, "toolu_1", "look"),
    ToolCallDelta(0, '{"at":'),
    STEP,
    ToolCallDelta(0, '"moon"}'),
    ToolCallEnded(0, "toolu_1", "look", '{"at":"moon"}'),
    Finished("tool_calls", usage=Usage(11, 7, 18, cached_tokens=3, reasoning_tokens=5)),
]
ASKED: list[MessageParam] = [{"role": "user", "content": "hi"}]


def pieces(*last: bytes) -> tuple[bytes, ...]:
    """A stream with a ping before every event, also before the first."""
    encoder = MessagesEncoder(HEAD)
    frames = [encoder.open(), *map(encoder.encode, EVENTS), *(last or [encoder.close()])]
    return tuple(part for frame in frames for part in (encoder.keep_alive, frame))


def answer(*last: bytes) -> Scripted:
    return Scripted(pieces=pieces(*last), headers={"content-type": MessagesEncoder.content_type})


def client(url: str) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=url, api_key="not-needed", max_retries=0, timeout=20)


async def test_the_helper_builds_the_message_and_leaves_workflow_events_out() -> None:
    async with (
        scripted(answer()) as server,
        client(server.url) as sdk,
        sdk.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream,
    ):
        text = "".join([part async for part in stream.text_stream])
        message = await stream.get_final_message()
    assert text == "Hello"
    body = MessageBody(HEAD)
    for event in EVENTS:
        body.add(event)
    expected = body.body()
    assert expected.pop("workflow_events")
    assert message.to_dict() == expected


async def test_a_loop_over_the_raw_stream_gets_the_workflow_events() -> None:
    async with scripted(answer()) as server, client(server.url) as sdk:
        stream = await sdk.messages.create(model="m", max_tokens=9, messages=ASKED, stream=True)
        events = [event.to_dict() async for event in stream]
    workflow = [event["workflow_event"] for event in events if event["type"] == "workflow_event"]
    assert workflow == [STEP.data] * 3
    assert events[-1] == {"type": "message_stop"}


async def test_a_whole_answer_is_a_message() -> None:
    said = message_of(b"".join(pieces()))
    whole = Scripted(pieces=(dump(said),), headers={"content-type": "application/json"})
    async with scripted(whole) as server, client(server.url) as sdk:
        message = await sdk.messages.create(model="m", max_tokens=9, messages=ASKED)
    assert message.to_dict() == said


async def streamed(sdk: AsyncAnthropic) -> None:
    raw = await sdk.messages.create(model="m", max_tokens=9, messages=ASKED, stream=True)
    async for _ in raw:
        pass


async def helped(sdk: AsyncAnthropic) -> None:
    async with sdk.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream:
        await stream.get_final_message()


@pytest.mark.parametrize("read", [streamed, helped])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimitError("Slow down."), "rate_limit_error"),
        (UpstreamOverloadedError("Full."), "overloaded_error"),
    ],
)
async def test_a_failure_inside_the_stream_is_raised(
    read: Callable[[AsyncAnthropic], Awaitable[None]], error: AgentServerError, kind: str
) -> None:
    failed = MessagesEncoder(HEAD).fail(error)
    async with scripted(answer(failed)) as server, client(server.url) as sdk:
        with pytest.raises(anthropic.APIError) as raised:
            await read(sdk)
    assert raised.value.type == kind
