"""A legal log: hash-chained entries in a sealed partition, their verification, and what a full log does."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import msgspec

from firmware.clock.clock import Clock
from firmware.errors import LogFull, StoreCorrupt
from firmware.log.entry import Entry, Event, Level, LogKind, Outcome, cut, log_name
from firmware.log.seal import Seal
from firmware.store.operations import Append, Chain, Operation, Put, Trim
from firmware.store.partition import Partition
from firmware.store.stores import Stores

CAPACITY: Final = {LogKind.SYSTEM: 100_000, LogKind.CONSUMER: 100_000, LogKind.CALIBRATION: 100_000}
"""Entries a log holds; see `_OLDEST_OUT` for what happens then."""
_OLDEST_OUT: Final = frozenset({LogKind.SYSTEM, LogKind.CONSUMER})
"""These forget their oldest entries; the calibration log refuses more, so that measuring stops."""
GUARANTEED: Final = {
    LogKind.SYSTEM: timedelta(0),
    LogKind.CONSUMER: timedelta(days=457),
    LogKind.CALIBRATION: timedelta.max,
}
"""What is younger is never forgotten; 15 months of a consumer's log (own knowledge: a parameter)."""
_TRIM_STEP: Final = 1000
"""So many entries go at once, because each trimming costs an entry and an anchor."""
PREFIX: Final = "log/"
_NEARLY: Final = 0.9
"""The administrator is told when a log that forgets nothing is filled so far."""

Overflow = Callable[[str, Event, str], Awaitable[None]]
"""Told of a log that overflows: its name, LOG_TRIMMED, MEMORY_CRITICAL or LOG_FULL, what happened."""


async def _tell_nobody(log: str, event: Event, text: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a verified chain: what a signature over a log or a roll-back anchor is made of."""

    number: int
    digest: str
    """SHA-256 of the stored bytes of entry `number`, hexadecimal."""


def genesis(log: str) -> ChainHead:
    """Return what the first entry of a log follows."""
    return ChainHead(0, hashlib.sha256(b"smgw log 1 " + log.encode()).hexdigest())


def verify_chain(log: str, records: Iterable[tuple[int, bytes]], start: ChainHead | None = None) -> ChainHead:
    """Follow a chain from `start` (default: the beginning of the log) and return where it ends.

    Args:
        log: its name; an entry of another log is refused.
        records: (number, stored bytes), oldest first.
        start: head that the first record follows.

    Raises:
        StoreCorrupt: names the first entry that is missing, changed, or from elsewhere.
    """
    head = start or genesis(log)
    for number, data in records:
        entry = Entry.from_bytes(data)
        if number != head.number + 1 or entry.number != number:
            raise StoreCorrupt(f"log {log}: entry {head.number + 1} is missing")
        if entry.log != log:
            raise StoreCorrupt(f"log {log}: entry {number} belongs to another log")
        if entry.previous != head.digest:
            raise StoreCorrupt(f"log {log}: the chain is broken before entry {number}")
        head = ChainHead(number, hashlib.sha256(data).hexdigest())
    return head


class Journal:
    """One legal log. Entries are durable when `write` returns.

    Args:
        partition: where it is kept.
        kind: which of the three; it decides what happens when the log is full.
        clock: stamps the entries.
        consumer: whose, for a consumer's log.
        capacity: entries at most.
        guaranteed: what is younger stays, even if the log grows beyond its capacity.
        overflow: told when entries go, or cannot be taken.
    """

    def __init__(
        self,
        partition: Partition,
        kind: LogKind,
        clock: Clock,
        *,
        consumer: str | None = None,
        capacity: int | None = None,
        guaranteed: timedelta | None = None,
        overflow: Overflow = _tell_nobody,
    ) -> None:
        self.kind, self.name, self.consumer = kind, log_name(kind, consumer), consumer or ""
        self._partition, self._clock = partition, clock
        self._list, self._capacity = f"{PREFIX}{self.name}", capacity or CAPACITY[kind]
        self._guaranteed = GUARANTEED[kind] if guaranteed is None else guaranteed
        self._overflow, self._told, self._full_told = overflow, False, False
        self._trimming = False

    async def write(
        self,
        event: Event,
        outcome: Outcome = Outcome.SUCCESS,
        *,
        level: Level | None = None,
        sub_event: str = "",
        subject: str = "",
        user: str = "gateway",
        destination: str = "",
        parent: int | None = None,
        repeated: int = 0,
        text: str = "",
        **evidence: str,
    ) -> int:
        """Log something; return the number of the entry.

        Raises:
            LogFull: this log forgets nothing and is full.
            StoreUnavailable: the entry could not be kept.
            StoreCorrupt: the entry before is damaged.
        """
        operation = self.operation(
            event,
            outcome,
            level=level,
            sub_event=sub_event,
            subject=subject,
            user=user,
            destination=destination,
            parent=parent,
            repeated=repeated,
            text=text,
            **evidence,
        )
        if self.kind not in _OLDEST_OUT:
            await self._require_room()
        number = (await self._partition.commit((operation,)))[0]
        if self.kind in _OLDEST_OUT and number > self._capacity and not self._trimming:
            self._trimming = True  # two at once could leave a start that is older than the oldest entry
            try:
                await self._forget_oldest(number)
            finally:
                self._trimming = False
        return number

    def operation(
        self,
        event: Event,
        outcome: Outcome = Outcome.SUCCESS,
        *,
        level: Level | None = None,
        sub_event: str = "",
        subject: str = "",
        user: str = "gateway",
        destination: str = "",
        parent: int | None = None,
        repeated: int = 0,
        text: str = "",
        **evidence: str,
    ) -> Operation:
        """Return what `write` would do, to be committed with what is logged; its result is the number.

        It does not look at how full the log is; the next `write` does.
        """
        draft = Entry(
            log=self.name,
            number=0,
            previous="",
            at_utc=self._clock.now_utc(),
            seconds_index=int(self._clock.monotonic()),
            level=level if level is not None else Level.INFO if outcome is Outcome.SUCCESS else Level.WARNING,
            event=event,
            outcome=outcome,
            sub_event=cut(sub_event),
            subject=cut(subject),
            user=cut(user),
            destination=cut(destination),
            parent=parent,
            repeated=repeated,
            text=cut(text),
            evidence={key: cut(value) for key, value in evidence.items()},
        )

        def follow(number: int, previous: bytes | None) -> bytes:
            digest = genesis(self.name).digest if previous is None else hashlib.sha256(previous).hexdigest()
            return replace(draft, number=number, previous=digest).to_bytes()

        return Chain(self._list, follow)

    async def entries(self, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Return the entries after number `after`, oldest first, at most `limit`; unverified."""
        return [Entry.from_bytes(data) for _, data in await self._partition.records(self._list, after, limit)]

    async def verify(self) -> ChainHead:
        """Follow the whole chain, a part at a time, and return where it ends.

        Raises:
            StoreCorrupt: names the first entry that is missing, changed, or from elsewhere.
        """
        head = await self._start()
        while records := await self._partition.records(self._list, head.number, _TRIM_STEP):
            head = verify_chain(self.name, records, head)
        return head

    async def _start(self) -> ChainHead:
        kept = await self._partition.get("log.start", self.name)
        if kept is None:
            return genesis(self.name)
        try:
            return msgspec.json.decode(kept, type=ChainHead)
        except msgspec.DecodeError as error:
            raise StoreCorrupt(f"log {self.name}: where it starts cannot be read") from error

    async def is_full(self) -> bool:
        """Whether this log forgets nothing and can take nothing more."""
        oldest, newest = await self.span()
        return self.kind not in _OLDEST_OUT and newest - oldest + 1 >= self._capacity

    async def span(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest entry; (n + 1, n) if there is none."""
        return await self._partition.span(self._list)

    async def records(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return (number, stored bytes) of the entries after number `after`, at most `limit`."""
        return await self._partition.records(self._list, after, limit)

    async def head(self, at: int | None = None) -> ChainHead:
        """Return where the chain stands at entry `at` (default: the newest), which must be there."""
        number = (await self.span())[1] if at is None else at
        start = await self._start()
        if number <= start.number:
            return start
        found = await self._partition.records(self._list, number - 1, 1)
        if not found or found[0][0] != number:
            raise StoreCorrupt(f"log {self.name}: entry {number} is missing")
        return ChainHead(number, hashlib.sha256(found[0][1]).hexdigest())

    async def seals(self, after: int = 0) -> list[tuple[int, bytes]]:
        """Return (number, stored bytes) of the seals after number `after`, oldest first."""
        return await self._partition.records(self._seals, after)

    async def last_seal(self) -> tuple[int, bytes] | None:
        """Return (number, stored bytes) of the newest seal."""
        oldest, newest = await self._partition.span(self._seals)
        if newest < oldest:
            return None
        return (await self._partition.records(self._seals, newest - 1, 1))[0]

    async def keep_seal(self, seal: Seal) -> None:
        """Keep a seal, durable on return.

        Raises:
            AssertionError: somebody else sealed at the same time.
        """
        number = (await self._partition.commit((Append(self._seals, seal.to_bytes()),)))[0]
        assert number == seal.number, "one sealer a log"

    @property
    def _seals(self) -> str:
        return f"seal/{self.name}"

    async def _require_room(self) -> None:
        oldest, newest = await self.span()
        count = newest - oldest + 1
        if count >= self._capacity:
            if not self._full_told:
                self._full_told = True
                await self._overflow(self.name, Event.LOG_FULL, "it takes no more entries: measuring stops")
            raise LogFull(f"log {self.name} is full")
        if count >= self._capacity * _NEARLY and not self._told:
            self._told = True
            text = f"{count} of {self._capacity} entries are used"
            await self._overflow(self.name, Event.MEMORY_CRITICAL, text)

    async def _forget_oldest(self, newest: int) -> None:
        oldest, _ = await self.span()
        if newest - oldest + 1 <= self._capacity:
            return
        through = min(newest - self._capacity + min(_TRIM_STEP, self._capacity // 10), newest - 1)
        through = await self._old_enough(oldest, through)
        if through < oldest:
            if not self._told:
                self._told = True
                text = "nothing is old enough to go: it grows beyond its capacity"
                await self._overflow(self.name, Event.MEMORY_CRITICAL, text)
            return
        head = await self.head(through)
        told = self.operation(Event.LOG_TRIMMED, level=Level.WARNING, subject=self.name, through=str(through))
        covered = [number for number, data in await self.seals() if Seal.from_bytes(data).last <= through]
        # The newest seal of what goes stays: the chain of seals begins behind it.
        gone = (Trim(self._seals, covered[-1] - 1),) if covered else ()
        await self._partition.commit(
            (Put("log.start", self.name, msgspec.json.encode(head)), Trim(self._list, through), *gone, told)
        )
        await self._overflow(self.name, Event.LOG_TRIMMED, f"entries through {through} are gone")

    async def _old_enough(self, oldest: int, through: int) -> int:
        """Return the last entry up to `through` that may go by its age, `oldest` - 1 for none."""
        if not self._guaranteed:
            return through
        limit_utc = self._clock.now_utc() - self._guaranteed
        while oldest <= through:
            middle = (oldest + through + 1) // 2
            [(_, data)] = await self.records(middle - 1, 1)
            if Entry.from_bytes(data).at_utc < limit_utc:
                oldest = middle + 1
            else:
                through = middle - 1
        return through


class Logs:
    """The three kinds of log over the stores.

    Args:
        stores: the three partitions.
        clock: stamps the entries.
        capacity: entries at most, by kind.
        guaranteed: what is younger stays, by kind.
        overflow: told of a log that overflows.
    """

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        *,
        capacity: Mapping[LogKind, int] | None = None,
        guaranteed: Mapping[LogKind, timedelta] | None = None,
        overflow: Overflow = _tell_nobody,
    ) -> None:
        self._stores, self._clock, self._overflow = stores, clock, overflow
        self._capacity = {**CAPACITY, **(capacity or {})}
        self._guaranteed = {**GUARANTEED, **(guaranteed or {})}
        self._consumers: dict[str, Journal] = {}
        self.system = self._journal(stores.system, LogKind.SYSTEM)
        self.calibration = self._journal(stores.calibration, LogKind.CALIBRATION)

    def _journal(self, partition: Partition, kind: LogKind, consumer: str | None = None) -> Journal:
        return Journal(
            partition,
            kind,
            self._clock,
            consumer=consumer,
            capacity=self._capacity[kind],
            guaranteed=self._guaranteed[kind],
            overflow=self._overflow,
        )

    def consumer(self, consumer: str) -> Journal:
        """Return the log of one consumer."""
        journal = self._consumers.get(consumer)
        if journal is None:
            journal = self._journal(self._stores.consumer, LogKind.CONSUMER, consumer)
            self._consumers[consumer] = journal
        return journal

    async def consumers(self) -> list[str]:
        """Return the consumers that have a log."""
        begin = f"{PREFIX}{LogKind.CONSUMER.value}/"
        return sorted(
            kind.removeprefix(begin) for kind in await self._stores.consumer.kinds() if kind.startswith(begin)
        )

    async def all(self) -> list[Journal]:
        """Return every log there is."""
        return [self.system, self.calibration, *(self.consumer(one) for one in await self.consumers())]

    def of(self, kind: LogKind, consumer: str = "") -> Journal:
        """Return one log; ValueError for a consumer's log without a consumer, or the other way round."""
        if kind is LogKind.CONSUMER:
            return self.consumer(consumer) if consumer else self._journal(self._stores.consumer, kind)
        if consumer:
            raise ValueError("the system log and the calibration log belong to no consumer")
        return self.system if kind is LogKind.SYSTEM else self.calibration
