"""Meters whose room is what this server has leased of a limit that several servers share.

What this module promises: a unit that a server may use counts in the shared limit from before it is
leased until a minute after it can have been used last, so that all servers together never pass the
limit; what is leased and not used goes back. Each meter also counts for this server alone, for the
time in which the shared limits cannot be reached: then a server holds its share of every limit.

Nothing here waits: what is to be told to Redis is put into `changes`, which the pool sends.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from typing_extensions import override

from agent_server.accounts.meters import (
    PARALLEL_WAIT_SECONDS,
    WINDOW_SECONDS,
    Gauge,
    Meter,
    Period,
    Spend,
    Window,
)
from agent_server.accounts.redis_scripts import (
    CHANGE_BUDGET,
    CHANGE_WINDOW,
    HOLD_SLOTS,
    TAKE_BUDGET,
    TAKE_SLOTS,
    TAKE_WINDOW,
)

LEASE_SECONDS = 2.0
# A minute after a lease ends; one second more, because Redis counts in whole ones.
UNIT_LIFE = WINDOW_SECONDS + 1 + int(LEASE_SECONDS)
# How long the slots of a server that says nothing are kept for its running calls.
SLOT_LIFE = 15
# A lease is at most this part of its limit, so that servers that idle keep little from the others.
LEASES_OF_A_LIMIT = 20
# A refusal is believed this long, so that callers who do not wait cost Redis little.
REFUSAL_SECONDS = 0.1


class Command(NamedTuple):
    """A script to run, with its one key and its arguments."""

    script: str
    key: str
    arguments: Sequence[str | int]


class Share(Protocol):
    """What leases know of the pool; `active` are the meters that hold something."""

    is_up: bool
    servers: int
    server: str
    changes: list[Command]
    active: "set[LeasedMeter]"


class Lease:
    """Units that were granted under a key at a second of Redis, usable until a moment of ours."""

    __slots__ = ("key", "left", "second", "until")

    def __init__(self, key: str, second: int, units: int, until: float) -> None:
        self.key = key
        self.second = second
        self.left = units
        self.until = until


class Hold(NamedTuple):
    """What was taken: of a lease, if there was one, and of what this server counts itself."""

    lease: Lease | None
    local: object


class LeasedMeter:
    """What all leased meters share; `name` is the key in Redis."""

    def __init__(self, name: str, local: Meter, share: Share) -> None:
        self.name = name
        self._local = local
        self._share = share
        self._lease: Lease | None = None
        self._left = 0
        self._wait = 0.0
        self._refused_until = 0.0
        self._refused_amount = 0

    def room(self, limit: int, now: float) -> int:
        """Units of the lease; where nothing is shared now, of this server's part of the limit."""
        if not self._share.is_up:
            return self._local.room(max(1, limit // self._share.servers), now)
        if self._lease is not None and now >= self._lease.until:
            self._close()
        return self._lease.left if self._lease else 0

    def remaining(self, limit: int, now: float) -> int:
        """What is left of the whole limit, as Redis said last."""
        return self.room(limit, now) + (self._left if self._share.is_up else 0)

    def take(self, amount: int, now: float) -> Hold:
        """Take from the lease, and count for this server alone too."""
        lease = self._lease if self._share.is_up else None
        if lease is not None:
            lease.left -= amount
        return Hold(lease, self._local.take(amount, now))

    def settle(self, hold: object, reserved: int, used: int, now: float) -> None:
        """Put back into the lease what was not used, or take more."""
        if not isinstance(hold, Hold):
            return
        self._local.settle(hold.local, reserved, used, now)
        lease, unused = hold.lease, reserved - used
        if lease is None:
            self._owe(used)
        elif unused > 0 and lease is self._lease:
            lease.left += unused
        elif unused:
            self._change(lease, -unused)

    def wait_seconds(self, limit: int, amount: int, now: float) -> float:
        """What Redis said when it had no room."""
        if not self._share.is_up:
            return self._local.wait_seconds(max(1, limit // self._share.servers), amount, now)
        return self._wait

    def reset_seconds(self, now: float) -> float:
        """How long until what this server used is there again."""
        return self._local.reset_seconds(now)

    def wanted(self, limit: int, least: int, most: int, now: float) -> Command | None:
        """The command for a new lease; None where Redis has just said that there is no room."""
        if now < self._refused_until and least >= self._refused_amount:
            return None
        # What is left of the old one goes back first, so that it counts as room.
        self._close()
        return self._take_command(limit, max(most, limit // LEASES_OF_A_LIMIT), least)

    def granted(self, command: Command, answer: Sequence[int], least: int, asked_at: float) -> None:
        """Take the answer to a command, which was sent at `asked_at`."""
        units, self._left, wait, second = (int(part) for part in answer)
        if units < least:
            self._wait = float(wait)
            self._refused_until = asked_at + REFUSAL_SECONDS
            self._refused_amount = least
        else:
            self._lease = Lease(command.key, second, units, asked_at + LEASE_SECONDS)
            self._share.active.add(self)

    def tick(self, now: float) -> None:
        """Give back a lease that is over, and tell what is owed."""
        if self._lease is None or now >= self._lease.until:
            self._close()
            self._share.active.discard(self)

    def forget(self) -> None:
        """Forget the lease, as Redis may have done."""
        self._lease = None

    def _close(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None and lease.left:
            self._change(lease, -lease.left)

    def _owe(self, units: int) -> None:
        """Note what was used while nothing was shared."""

    def _change(self, lease: Lease, units: int) -> None:
        """Tell Redis that more, or less, of a lease was used."""
        raise NotImplementedError

    def _take_command(self, limit: int, want: int, least: int) -> Command:
        raise NotImplementedError


class LeasedWindow(LeasedMeter):
    """Requests or tokens a minute."""

    def __init__(self, name: str, share: Share) -> None:
        super().__init__(name, Window(), share)

    @override
    def _take_command(self, limit: int, want: int, least: int) -> Command:
        return Command(TAKE_WINDOW, self.name, (limit, want, least, UNIT_LIFE))

    @override
    def _change(self, lease: Lease, units: int) -> None:
        # What was used beyond a reservation counts from now on.
        second = lease.second if units < 0 else ""
        self._share.changes.append(Command(CHANGE_WINDOW, self.name, (second, units, UNIT_LIFE)))


class LeasedSpend(LeasedMeter):
    """Nano-dollars a day or month; each period has a key of its own."""

    def __init__(
        self,
        name: str,
        share: Share,
        period_of: Callable[[float], Period],
        wall: Callable[[], float],
    ) -> None:
        self._spend = Spend(period_of, wall)
        self._seed = 0
        self._owed = 0
        super().__init__(name, self._spend, share)

    @property
    def period(self) -> Period:
        """The day or month that is now."""
        return self._spend.period

    def begin_with(self, spent: int) -> None:
        """Take what the store says was spent in the period."""
        self._seed = spent
        self._spend.begin_with(spent)

    @override
    def room(self, limit: int, now: float) -> int:
        before = self._spend.period
        left = self._spend.room(limit, now)
        if before is not self._spend.period:
            self._seed = self._owed = 0
            self._refused_until = 0.0
            self._close()
        # What is left, and not the budget, is what servers without Redis divide.
        return super().room(limit, now) if self._share.is_up else left // self._share.servers

    @override
    def granted(self, command: Command, answer: Sequence[int], least: int, asked_at: float) -> None:
        super().granted(command, answer, least, asked_at)
        limit, left = int(command.arguments[0]), int(answer[1])
        self._spend.spent = max(self._spend.spent, limit - left)

    @override
    def tick(self, now: float) -> None:
        if self._owed:
            owed, self._owed = self._owed, 0
            self._share.changes.append(Command(CHANGE_BUDGET, self._key(), (owed,)))
        super().tick(now)

    def _key(self) -> str:
        return f"{self.name}:{self._spend.period.name}"

    @override
    def _take_command(self, limit: int, want: int, least: int) -> Command:
        ends_at = int(self._spend.period.ends_at)
        return Command(TAKE_BUDGET, self._key(), (limit, want, least, self._seed, ends_at))

    @override
    def _change(self, lease: Lease, units: int) -> None:
        self._share.changes.append(Command(CHANGE_BUDGET, lease.key, (units,)))

    @override
    def _owe(self, units: int) -> None:
        self._owed += units
        self._share.active.add(self)


class LeasedSlots(LeasedMeter):
    """Calls at the same time: slots that this server holds, and says so again while it does."""

    def __init__(self, name: str, share: Share) -> None:
        self._gauge = Gauge()
        self._held = 0
        super().__init__(name, self._gauge, share)

    @override
    def room(self, limit: int, now: float) -> int:
        if not self._share.is_up:
            return super().room(limit, now)
        return self._held - self._gauge.used

    @override
    def wait_seconds(self, limit: int, amount: int, now: float) -> float:
        return PARALLEL_WAIT_SECONDS

    @override
    def wanted(self, limit: int, least: int, most: int, now: float) -> Command | None:
        missing = least - (self._held - self._gauge.used)
        return None if now < self._refused_until else self._take_command(limit, missing, missing)

    @override
    def granted(self, command: Command, answer: Sequence[int], least: int, asked_at: float) -> None:
        self._held += int(answer[0])
        if int(answer[0]) == 0:
            self._refused_until = asked_at + REFUSAL_SECONDS
        else:
            self._share.active.add(self)

    @override
    def tick(self, now: float) -> None:
        if self._held > self._gauge.used:
            self._held = self._gauge.used
            self.beat()
        if self._held == 0:
            self._share.active.discard(self)

    @override
    def forget(self) -> None:
        self._held = self._gauge.used
        self.beat()

    def beat(self) -> None:
        """Say what is held, which is forgotten where it is not said again."""
        arguments = (self._share.server, self._held, SLOT_LIFE)
        self._share.changes.append(Command(HOLD_SLOTS, self.name, arguments))

    @override
    def _take_command(self, limit: int, want: int, least: int) -> Command:
        arguments = (limit, want, least, self._share.server, SLOT_LIFE)
        return Command(TAKE_SLOTS, self.name, arguments)

    @override
    def _change(self, lease: Lease, units: int) -> None:
        """Nothing: slots are no lease."""

    @override
    def _owe(self, units: int) -> None:
        self._share.active.add(self)
