"""What is kept while a client runs its own tools: for how long, for whom, how much."""

from agent_server.pending_calls import KeptTurns, PendingCalls, new_call_id
from providers.chat_request import Message, TextPart, ToolCall


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def turns(call_id: str, size: int = 1) -> KeptTurns:
    """A turn with a call of ours and one of the client's, which was given `call_id`."""
    calls = (ToolCall("ours", "list_runs", "{}"), ToolCall("theirs", "get_weather", "{}"))
    said = Message("assistant", (TextPart("x" * size),), tool_calls=calls)
    result = Message("tool", (TextPart("our result"),), tool_call_id="ours")
    return KeptTurns((said, result), {call_id: "theirs"})


def conversation(call_id: str) -> tuple[Message, ...]:
    """What the client sends back."""
    return (
        Message("user", (TextPart("Hello"),)),
        Message("assistant", tool_calls=(ToolCall(call_id, "get_weather", "{}"),)),
        Message("tool", (TextPart("rain"),), tool_call_id=call_id),
    )


def is_restored(pending: PendingCalls, call_id: str, owner: str = "alice") -> bool:
    return pending.restore(owner, conversation(call_id)) != conversation(call_id)


def test_kept_turns_are_put_back_in_their_place() -> None:
    pending = PendingCalls()
    kept = turns("call-1")
    pending.keep("alice", kept)
    user, said, ours, theirs = pending.restore("alice", conversation("call-1"))
    assert user.text == "Hello"
    assert (said, ours) == kept.messages
    assert (theirs.tool_call_id, theirs.text) == ("theirs", "rain")


def test_they_are_put_back_in_every_later_request() -> None:
    pending = PendingCalls()
    pending.keep("alice", turns("call-1"))
    assert is_restored(pending, "call-1")
    assert is_restored(pending, "call-1")


def test_a_turn_that_the_client_split_is_put_back_once() -> None:
    pending = PendingCalls()
    calls = (ToolCall("model-1", "a", "{}"), ToolCall("model-2", "b", "{}"))
    said = Message("assistant", tool_calls=calls)
    pending.keep("alice", KeptTurns((said,), {"call-1": "model-1", "call-2": "model-2"}))
    split = (
        Message("assistant", tool_calls=(ToolCall("call-1", "a", "{}"),)),
        Message("tool", (TextPart("A"),), tool_call_id="call-1"),
        Message("assistant", tool_calls=(ToolCall("call-2", "b", "{}"),)),
        Message("tool", (TextPart("B"),), tool_call_id="call-2"),
    )
    first, *results = pending.restore("alice", split)
    assert first is said
    assert [(m.tool_call_id, m.text) for m in results] == [("model-1", "A"), ("model-2", "B")]


def test_nobody_else_gets_them() -> None:
    pending = PendingCalls()
    pending.keep("alice", turns("call-1"))
    assert not is_restored(pending, "call-1", owner="mallory")


def test_they_are_kept_for_an_hour() -> None:
    clock = Clock()
    pending = PendingCalls(clock=clock)
    pending.keep("alice", turns("call-1"))
    clock.now = 3599.0
    assert is_restored(pending, "call-1")
    clock.now = 3600.0
    assert not is_restored(pending, "call-1")
    assert len(pending) == 0


def test_the_oldest_go_when_there_are_too_many() -> None:
    pending = PendingCalls(max_entries=2)
    for number in range(3):
        pending.keep("alice", turns(f"call-{number}"))
    assert [is_restored(pending, f"call-{number}") for number in range(3)] == [False, True, True]


def test_the_oldest_go_when_they_are_too_large() -> None:
    pending = PendingCalls(max_characters=3_000)
    pending.keep("alice", turns("call-0", size=2_000))
    pending.keep("alice", turns("call-1", size=2_000))
    assert [is_restored(pending, f"call-{number}") for number in range(2)] == [False, True]


def test_one_owner_cannot_drive_out_another() -> None:
    pending = PendingCalls(max_entries_per_owner=2)
    pending.keep("alice", turns("call-a"))
    for number in range(5):
        pending.keep("mallory", turns(f"call-{number}"))
    assert is_restored(pending, "call-a")
    assert len(pending) == 3


def test_ids_of_calls_are_never_the_same() -> None:
    assert len({new_call_id() for _ in range(1000)}) == 1000
