"""What waits too long for its recipient: the administrator is told, and what nobody will fetch gets an end.

    waiting --alarm_after--> overdue      the recipient is known and does not take it
    waiting, overdue ------> stranded     neither the active profiles nor those before them name its recipient
    stranded --------------> waiting      an order names the recipient again: it is delivered after all
    stranded --give_up_after--> given up  the sealed copy is deleted

Of a message that was given up nothing of the consumer's is lost: the registered values that it was made of
stay as long as any others, and both logs say what did not reach whom. A service, and what is known of each
message is kept, so that a restart neither forgets since when it waits nor says anything twice; a kill between
the two partitions may say it twice to the administrator.

Source: BSI TR-03109-1, failures of deliveries (store, repeat, log, alarm; own knowledge, as are the times).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import msgspec

from firmware.clock.clock import Clock
from firmware.errors import StoreCorrupt
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.store.operations import Delete, Operation, Put
from firmware.store.outbox import SealedOutbox, Waiting
from firmware.store.partition import Partition

LOOK_S: Final = 600.0
CHANGES_LOOK_S: Final = 10.0
"""After so long a change of the profiles is looked at."""
KIND: Final = "outbox.watched"


class State(Enum):
    """What becomes of a message that was not taken yet."""

    WAITING = "waiting"
    OVERDUE = "overdue"
    STRANDED = "stranded"
    GIVEN_UP = "given-up"


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a message."""

    state: State
    since_utc: datetime
    """When it was first seen waiting or, if it is stranded, so."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited."""

    alarm_after: timedelta = timedelta(hours=24)
    give_up_after: timedelta = timedelta(days=30)


def judge(seen: Seen | None, *, named: bool, now_utc: datetime, patience: Patience) -> Seen:
    """Return what a message is now.

    Args:
        seen: what it was at the last look, None if this is the first one.
        named: whether the profiles still name its recipient.
        now_utc: a time that can be trusted.
        patience: how long is waited.
    """
    if seen is None or seen.since_utc > now_utc:  # the latter was noted at a false time
        seen = Seen(
            State.STRANDED if seen is not None and seen.state is State.STRANDED else State.WAITING, now_utc
        )
    if named:
        if seen.state is State.STRANDED:
            return Seen(State.WAITING, now_utc)
        late = now_utc - seen.since_utc >= patience.alarm_after
        return Seen(State.OVERDUE if late else State.WAITING, seen.since_utc)
    if seen.state is not State.STRANDED:
        return Seen(State.STRANDED, now_utc)
    over = now_utc - seen.since_utc >= patience.give_up_after
    return Seen(State.GIVEN_UP, seen.since_utc) if over else seen


_TEXTS: Final = {
    State.WAITING: "named by a profile again, is delivered after all",
    State.OVERDUE: "not taken for {alarm_after}",
    State.STRANDED: "no profile names the recipient any more; given up after {give_up_after}",
    State.GIVEN_UP: "given up: the sealed copies are deleted, the registered values stay",
}


@dataclass(slots=True)
class _Changes:
    """What one look found out."""

    gone: list[Operation] = field(default_factory=list)
    """For the consumer partition, what gives room there."""
    kept: list[Operation] = field(default_factory=list)
    """For the consumer partition, what takes some."""
    told: Counter[tuple[str, State]] = field(default_factory=Counter)
    """(recipient, what its messages have become) -> how many."""


class Undelivered:
    """Looks after what waits.

    Args:
        outbox: what waits.
        partition: the consumer partition, where it lies.
        logs: the system log and the consumers'.
        notices: for the administrator.
        ways: recipients, or queues, that something can be brought to now.
        clock: the gateway's time.
        time_valid: whether it can be trusted; nothing is given up by one that cannot.
        patience: how long is waited.
    """

    name = "firmware.flow.undelivered"

    def __init__(
        self,
        outbox: SealedOutbox,
        partition: Partition,
        logs: Logs,
        notices: Notices,
        ways: Callable[[], Collection[str]],
        clock: Clock,
        time_valid: Callable[[], bool],
        patience: Patience,
    ) -> None:
        self._outbox, self._partition, self._logs, self._notices = outbox, partition, logs, notices
        self._ways, self._clock, self._time_valid, self._patience = ways, clock, time_valid, patience
        self._changed = False
        self._said: set[tuple[str, State]] = set()
        """What the administrator was told and could not be noted yet."""

    def look_again(self) -> None:
        """Look soon: the profiles have changed."""
        self._changed = True

    async def run(self) -> None:
        """Look after what waits until cancelled.

        Raises:
            StoreUnavailable, StoreCorrupt: what was not said or done is when the service runs again.
        """
        while True:
            self._changed = False
            await self.step()
            for _ in range(round(LOOK_S / CHANGES_LOOK_S)):
                await self._clock.sleep(CHANGES_LOOK_S)
                if self._changed:
                    break

    async def step(self) -> None:
        """Look once at everything that waits."""
        if not self._time_valid():
            return
        waiting, known = await self._outbox.waiting(), await watched(self._partition)
        found = self._compare(waiting, known)
        for told, count in found.told.items():
            if told not in self._said:  # or a partition without room would have him told at every try
                await self._tell(*told, count)
                self._said.add(told)
        if found.gone or found.kept:
            await self._partition.commit([*found.gone, *found.kept])
        self._said.clear()

    def _compare(self, waiting: Sequence[Waiting], known: Mapping[str, Seen]) -> _Changes:
        now_utc, ways, found = self._clock.now_utc(), self._ways(), _Changes()
        late_before = {one.recipient for one in waiting if _was(known, one) is State.OVERDUE}
        for one in waiting:
            before = known.get(one.message_id)
            now = judge(before, named=one.recipient in ways, now_utc=now_utc, patience=self._patience)
            if now == before:
                continue
            if now.state is State.GIVEN_UP:
                found.gone += [self._outbox.withdrawn(one.message_id), Delete(KIND, one.message_id)]
            else:
                found.kept.append(Put(KIND, one.message_id, msgspec.msgpack.encode(now)))
            was = State.WAITING if before is None else before.state
            if now.state is was or (now.state is State.OVERDUE and one.recipient in late_before):
                continue  # one alarm a recipient while he is away
            found.told[one.recipient, now.state] += 1
            if one.owner and now.state is not State.OVERDUE:
                found.kept.append(self._entry(one, now.state))
        arrived = known.keys() - {one.message_id for one in waiting}
        found.gone += [Delete(KIND, message_id) for message_id in sorted(arrived)]
        return found

    def _entry(self, message: Waiting, state: State) -> Operation:
        """Return what the consumer is told of one message."""
        return self._logs.consumer(message.owner).operation(
            Event.DATA_UNDELIVERED,
            _outcome(state),
            sub_event=state.value,
            destination=message.recipient,
            text=self._text(state),
            message_id=message.message_id,
        )

    async def _tell(self, recipient: str, state: State, count: int) -> None:
        text = f"{count} data set(s): {self._text(state)}"
        await self._logs.system.write(
            Event.DATA_UNDELIVERED,
            _outcome(state),
            level=Level.INFO if state is State.WAITING else Level.WARNING,
            sub_event=state.value,
            destination=recipient,
            text=text,
        )
        if state is not State.WAITING:
            await self._notices.put(Event.DATA_UNDELIVERED, recipient, text)

    def _text(self, state: State) -> str:
        patience = self._patience
        return _TEXTS[state].format(alarm_after=patience.alarm_after, give_up_after=patience.give_up_after)


async def watched(partition: Partition) -> dict[str, Seen]:
    """Return what is known of messages that were seen waiting, by id; some may have arrived since.

    Raises:
        StoreCorrupt: one cannot be read.
    """
    found = {}
    for message_id, kept in await partition.items(KIND):
        try:
            found[message_id] = msgspec.msgpack.decode(kept, type=Seen)
        except msgspec.MsgspecError as error:
            raise StoreCorrupt("what is known of a message that waits cannot be read") from error
    return found


def _was(known: Mapping[str, Seen], message: Waiting) -> State:
    seen = known.get(message.message_id)
    return State.WAITING if seen is None else seen.state


def _outcome(state: State) -> Outcome:
    return Outcome.SUCCESS if state is State.WAITING else Outcome.FAILURE
