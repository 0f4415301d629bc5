"""What the agent keeps while a client runs tools of its own.

A client is told of its own tool calls alone. When it comes back with their results, the turns in
between - the agent's own calls, their results, signed thinking - must stand before them again, or
the model would not know what it did. They are kept for an hour under the ids of the calls that the
client was given; these ids are ours and cannot be guessed, and each entry belongs to one owner.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from providers.chat_request import Message, ToolCall

LIFETIME_SECONDS = 3600.0
MAX_ENTRIES = 4096
MAX_ENTRIES_PER_OWNER = 512
MAX_CHARACTERS = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeptTurns:
    """The turns of one answer, ending with the one whose calls went to the client.

    `messages` is what the model said and was told; `call_ids` maps each id that the client was
    given to the model's own.
    """

    messages: tuple[Message, ...]
    call_ids: Mapping[str, str]

    @property
    def characters(self) -> int:
        """About how much memory the entry takes."""
        return sum(_characters(message) for message in self.messages)


@dataclass(frozen=True, slots=True)
class _Entry:
    owner: str
    turns: KeptTurns
    expires: float
    characters: int


class PendingCalls:
    """The kept turns of all clients, bounded in time, in number and in size; the oldest go first.

    Without its entry a conversation goes on as the client tells it.
    """

    def __init__(
        self,
        *,
        lifetime_seconds: float = LIFETIME_SECONDS,
        max_entries: int = MAX_ENTRIES,
        max_entries_per_owner: int = MAX_ENTRIES_PER_OWNER,
        max_characters: int = MAX_CHARACTERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifetime_seconds = lifetime_seconds
        self._max_entries = max_entries
        self._max_entries_per_owner = max_entries_per_owner
        self._max_characters = max_characters
        self._clock = clock
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._numbers: dict[tuple[str, str], int] = {}
        self._of_owner: dict[str, OrderedDict[int, None]] = {}
        self._next_number = 0
        self._characters = 0

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, owner: str, turns: KeptTurns) -> None:
        """Keep the turns until the client comes back with the results of its calls."""
        number, self._next_number = self._next_number, self._next_number + 1
        expires = self._clock() + self._lifetime_seconds
        entry = _Entry(owner, turns, expires, turns.characters)
        self._entries[number] = entry
        self._of_owner.setdefault(owner, OrderedDict())[number] = None
        self._characters += entry.characters
        for call_id in turns.call_ids:
            self._numbers[owner, call_id] = number
        self._evict(owner)

    def restore(self, owner: str, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation with what was kept put back in its place."""
        self._evict(owner)
        restored: list[Message] = []
        placed: set[int] = set()
        model_ids: dict[str, str] = {}
        for message in messages:
            number = self._number(owner, message.tool_calls)
            if message.tool_call_id in model_ids:
                restored.append(replace(message, tool_call_id=model_ids[message.tool_call_id]))
            elif number is None:
                restored.append(message)
            elif number not in placed:
                placed.add(number)
                turns = self._entries[number].turns
                model_ids.update(turns.call_ids)
                restored.extend(turns.messages)
        return tuple(restored)

    def _number(self, owner: str, calls: Sequence[ToolCall]) -> int | None:
        found = (self._numbers.get((owner, call.call_id)) for call in calls)
        return next((number for number in found if number is not None), None)

    def _evict(self, owner: str) -> None:
        now = self._clock()
        while self._entries:
            number, oldest = next(iter(self._entries.items()))
            is_full = (
                len(self._entries) > self._max_entries or self._characters > self._max_characters
            )
            if oldest.expires > now and not is_full:
                break
            self._drop(number)
        while len(own := self._of_owner.get(owner, ())) > self._max_entries_per_owner:
            self._drop(next(iter(own)))

    def _drop(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._characters -= entry.characters
        own = self._of_owner[entry.owner]
        del own[number]
        if not own:
            del self._of_owner[entry.owner]
        for call_id in entry.turns.call_ids:
            self._numbers.pop((entry.owner, call_id), None)


def new_call_id() -> str:
    """An id of a tool call that nobody can guess."""
    return f"call_{secrets.token_hex(12)}"


def _characters(message: Message) -> int:
    calls = sum(len(call.arguments) + len(call.name) for call in message.tool_calls)
    thinking = sum(
        len(block.text) + len(block.signature or "") + len(block.redacted_data or "")
        for block in message.reasoning
    )
    return 200 + len(message.text) + calls + thinking
