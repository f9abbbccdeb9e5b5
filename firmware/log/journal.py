"""A legal log: hash-chained entries in a sealed partition, their verification, and what a full log does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from firmware.clock import Clock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.log.entry import Entry, Event, Level, LogKind, Outcome, cut, log_name
from firmware.store.operations import Chain, Operation, Put, Trim
from firmware.store.partition import Partition
from firmware.store.stores import Stores

CAPACITY: Final = {LogKind.SYSTEM: 100_000, LogKind.CONSUMER: 100_000, LogKind.CALIBRATION: 100_000}
"""Entries a log holds; see `_OLDEST_OUT` for what happens then."""
_OLDEST_OUT: Final = frozenset({LogKind.SYSTEM, LogKind.CONSUMER})
"""These forget their oldest entries; the calibration log refuses more, so that measuring stops."""
_TRIM_STEP: Final = 1000
"""So many entries go at once, because each trimming costs an entry and an anchor."""


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
    """

    def __init__(
        self,
        partition: Partition,
        kind: LogKind,
        clock: Clock,
        *,
        consumer: str | None = None,
        capacity: int | None = None,
    ) -> None:
        self.kind, self.name = kind, log_name(kind, consumer)
        self._partition, self._clock = partition, clock
        self._list, self._capacity = f"log/{self.name}", capacity or CAPACITY[kind]
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
            StoreUnavailable: the entry could not be kept, or the calibration log is full.
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
            oldest, newest = await self._partition.span(self._list)
            if newest - oldest + 1 >= self._capacity:
                raise StoreUnavailable(f"log {self.name} is full")
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

    async def _forget_oldest(self, newest: int) -> None:
        oldest, _ = await self._partition.span(self._list)
        if newest - oldest + 1 <= self._capacity:
            return
        through = min(newest - self._capacity + min(_TRIM_STEP, self._capacity // 10), newest - 1)
        [(_, data)] = await self._partition.records(self._list, through - 1, 1)
        start = msgspec.json.encode(ChainHead(through, hashlib.sha256(data).hexdigest()))
        told = self.operation(Event.LOG_TRIMMED, level=Level.WARNING, subject=self.name, through=str(through))
        await self._partition.commit((Put("log.start", self.name, start), Trim(self._list, through), told))


class Logs:
    """The three kinds of log over the stores."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._stores, self._clock = stores, clock
        self._consumers: dict[str, Journal] = {}
        self.system = Journal(stores.system, LogKind.SYSTEM, clock)
        self.calibration = Journal(stores.calibration, LogKind.CALIBRATION, clock)

    def consumer(self, consumer: str) -> Journal:
        """Return the log of one consumer."""
        journal = self._consumers.get(consumer)
        if journal is None:
            journal = Journal(self._stores.consumer, LogKind.CONSUMER, self._clock, consumer=consumer)
            self._consumers[consumer] = journal
        return journal
