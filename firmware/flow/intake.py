"""Telegram to checked, time-stamped, durable reading.

Each telegram is decoded (authentication first, counter rising), stamped with the instant of its first byte,
and sealed into the store in one transaction with its counter. Only what is durable reaches the register. What
is rejected is counted by error code and reported, never with keys or values.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from firmware.errors import StoreCorrupt
from firmware.metering.dataset import decimal_text
from firmware.metering.register import Register
from firmware.store.operations import Append, Operation, Trim
from lmn.errors import CounterRefused, DowngradeRefused, LmnError, UnknownMeter
from lmn.mbus.compact import FormatCache
from lmn.mbus.decoder import decode_layers
from lmn.mbus.duplicates import REPEATER_WINDOW_S, RecentTelegrams
from lmn.mbus.fragments import Fragments
from lmn.mbus.obis import to_readings
from lmn.mbus.transport import Layers
from lmn.model import MeterId, Obis, Reading
from lmn.ports import CounterStore, MeterAccess, MeterKeys, ReceptionMode
from lmn.wired_values import WiredRefusal, WiredValues
from lmn.wmbus.link import ReceivedFrame

KIND: Final = "reading"
KEEP: Final = timedelta(hours=8)
"""How long a reading is kept for registration: longer than the window of any registration period."""
KEEP_COUNT: Final = 20_000
_REPORT_EVERY: Final = timedelta(seconds=60)
_METERS_WATCHED: Final = 1024


@dataclass(slots=True)
class Statistics:
    """What became of the telegrams since start."""

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By error code of `lmn.errors`; a replayed telegram counts as "counter"."""
    duplicates: int = 0
    """Copies of an accepted telegram that a repeater or a second receiver brought after it; no alarm."""
    dropped: int = 0
    """Never looked at, because the queue was full."""

    @property
    def rejected_total(self) -> int:
        """Return how many were rejected, for whatever reason."""
        return sum(self.rejected.values())


@dataclass(frozen=True, slots=True)
class Rejection:
    """Telegrams that were rejected, for the log."""

    code: str
    meter: MeterId | None
    """The configured meter that they name as their sender, not authenticated; None where they name none."""
    count: int
    """How many of this kind since the last report."""
    at_utc: datetime


class ReadingStore(CounterStore, Protocol):
    """`firmware.store.stores.MeterCounters`: a counter store whose commit takes the noted counters along."""

    async def commit(self, operations: Sequence[Operation] = ()) -> list[int]:
        """Carry out `operations` and make the noted counters durable, in one transaction."""


class ReadingRecords(Protocol):
    """The part of `firmware.store.partition.Partition` that reads readings back."""

    async def records(self, kind: str, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """Return (number, plaintext) of the records after number `after`."""


class Intake:
    """Decodes, stamps and keeps.

    Args:
        keys: the active meter profiles.
        store: counters, and the group commit of readings and counters.
        register: gets each reading once it is durable.
        now_utc: wall clock.
        now_s: the clock of `ReceivedFrame.first_byte_at`.
        heard: told of each meter once, when its first telegram since start is durable.
        each: told of each telegram that is durable.
        report: told of rejections, at most once a minute for each meter and code.
        report_unknown: also report telegrams of meters that no profile names (every neighbour's meter is
            heard).
        wired: meters that are read by wire; a telegram that names one of them is refused.
    """

    def __init__(
        self,
        keys: MeterKeys,
        store: ReadingStore,
        register: Register,
        *,
        now_utc: Callable[[], datetime],
        now_s: Callable[[], float],
        report: Callable[[Rejection], Awaitable[None]],
        heard: Callable[[MeterId], Awaitable[None]] | None = None,
        each: Callable[[MeterId], None] | None = None,
        report_unknown: bool = False,
        wired: frozenset[MeterId] = frozenset(),
    ) -> None:
        self._keys, self._store, self._register = keys, store, register
        self._wired, self._each = wired, each
        self._speaking: list[MeterId] = []
        self._now_utc, self._now_s = now_utc, now_s
        self._report, self._report_unknown = report, report_unknown
        self._tell_heard, self._heard, self._newly_heard = heard, set[MeterId](), deque[MeterId]()
        self.statistics = Statistics()
        self._pending: list[Reading] = []
        self._accepted = 0
        self._rejections: deque[Rejection] = deque(maxlen=_METERS_WATCHED)
        self._kept: deque[tuple[int, datetime]] = deque()
        self._recent = RecentTelegrams()
        self._formats: dict[MeterId, FormatCache] = {}
        self._fragments = Fragments()
        self._reported: OrderedDict[tuple[MeterId | None, str], tuple[datetime, int]] = OrderedDict()

    async def load(self, records: ReadingRecords) -> None:
        """Give the register the readings from before the restart; call once, before registration starts.

        Raises:
            StoreCorrupt: what is stored is not what this class stored.
        """
        for number, text in await records.records(KIND):
            reading = _decode_reading(text)
            self._register.add(reading)
            self._kept.append((number, reading.received_utc))

    def receive(self, frame: ReceivedFrame) -> None:
        """Take one telegram; what is accepted waits for `commit`. Any bytes are fine."""
        received_utc = self._stamp(frame.first_byte_at)
        access: MeterAccess | None = None
        try:
            layers = self._fragments.take(frame.data, frame.first_byte_at)
            if layers is None:
                return  # one piece of a message; the rest is still on its way
            access = self._keys.access(layers.meter)
            if access is None:
                raise UnknownMeter("no meter profile names it")
            if access.meter in self._wired:
                raise DowngradeRefused("a wired meter's name on the air")
            if self._is_copy(frame):
                self.statistics.duplicates += 1
                return
            readings = self._accept(frame, layers, access, received_utc)
        except LmnError as error:
            self._reject(error, None if access is None else access.meter)
            return
        self._take(access, readings)

    def receive_wired(self, found: WiredValues | WiredRefusal) -> None:
        """Take what came over a wire; what is accepted waits for `commit`."""
        access = self._keys.access(found.meter)
        if access is None:
            self._reject(UnknownMeter("no meter profile names it"), None)
        elif isinstance(found, WiredRefusal):
            self._reject(found.error, access.meter)
        elif not found.protected and access.mode is ReceptionMode.STRICT:
            self._reject(DowngradeRefused("pushed without protection"), access.meter)
        else:
            self._take(access, found.readings(self._stamp(found.first_byte_at)))

    def _take(self, access: MeterAccess, readings: Sequence[Reading]) -> None:
        self._accepted += 1
        self._speaking.append(access.meter)
        self._pending += readings
        if access.meter not in self._heard:
            self._heard.add(access.meter)
            self._newly_heard.append(access.meter)

    async def commit(self) -> None:
        """Make everything durable that was received since the last commit, then release it to the register.

        Raises:
            StoreUnavailable: nothing was released; all of it waits for the next commit.
        """
        readings, accepted = list(self._pending), self._accepted
        if accepted:
            operations: list[Operation] = [Append(KIND, _encode_reading(reading)) for reading in readings]
            stale = self._stale(readings)
            if stale:
                operations.append(Trim(KIND, stale))
            numbers = await self._store.commit(operations)
            while self._kept and self._kept[0][0] <= stale:
                self._kept.popleft()
            del self._pending[: len(readings)]
            self._accepted -= accepted
            if self._each is not None:
                for meter in self._speaking[:accepted]:
                    self._each(meter)
            del self._speaking[:accepted]
            self.statistics.accepted += accepted
            for number, reading in zip(numbers, readings, strict=False):
                self._kept.append((number, reading.received_utc))
                self._register.add(reading)
        while self._newly_heard:
            if self._tell_heard is not None:
                await self._tell_heard(self._newly_heard[0])
            self._newly_heard.popleft()
        while self._rejections:
            await self._report(self._rejections[0])
            self._rejections.popleft()

    def _stamp(self, first_byte_at: float) -> datetime:
        age_s = max(0.0, self._now_s() - first_byte_at)
        return self._now_utc() - timedelta(seconds=age_s)

    def _is_copy(self, frame: ReceivedFrame) -> bool:
        """Whether these bytes were accepted just now.

        Raises:
            CounterRefused: they were accepted so long ago that no repeater sent them. Meters without a
                counter (open profiles) are protected from replay by this alone.
        """
        accepted_at = self._recent.accepted_at(frame.data)
        if accepted_at is None:
            return False
        if frame.first_byte_at - accepted_at > REPEATER_WINDOW_S:
            raise CounterRefused("a telegram that was accepted before")
        return True

    def _accept(
        self, frame: ReceivedFrame, layers: Layers, access: MeterAccess, received_utc: datetime
    ) -> Sequence[Reading]:
        formats = None
        if access.mode is ReceptionMode.OPEN:  # bounded: one for each meter that a profile names
            formats = self._formats.setdefault(access.meter, FormatCache())
        telegram = decode_layers(layers, access, self._store.last(access), formats)
        if telegram.counter is not None:
            self._store.advance(access, telegram.counter)
        self._recent.add(frame.data, frame.first_byte_at)
        return to_readings(telegram, received_utc)

    def _reject(self, error: LmnError, meter: MeterId | None) -> None:
        self.statistics.rejected[error.code] += 1
        if isinstance(error, UnknownMeter) and not self._report_unknown:
            return
        now_utc = self._now_utc()
        last_utc, count = self._reported.get((meter, error.code), (None, 0))
        if last_utc is not None and timedelta(0) <= now_utc - last_utc < _REPORT_EVERY:
            self._reported[meter, error.code] = last_utc, count + 1
            return
        self._reported[meter, error.code] = now_utc, 0
        while len(self._reported) > _METERS_WATCHED:
            self._reported.popitem(last=False)
        self._rejections.append(Rejection(error.code, meter, count + 1, now_utc))

    def _stale(self, arriving: Iterable[Reading]) -> int:
        """Return the number through which kept readings are too old or too many, 0 for none."""
        newest = max((reading.received_utc for reading in arriving), default=None)
        excess, stale = len(self._kept) - KEEP_COUNT, 0
        for position, (number, received_utc) in enumerate(self._kept):
            if position >= excess and (newest is None or newest - received_utc <= KEEP):
                break
            stale = number
        return stale


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    meter: str
    obis: str
    value: str | None
    unit: str
    received_utc: datetime
    meter_status: int
    wired: bool = False


def _encode_reading(reading: Reading) -> bytes:
    value = None if reading.value is None else decimal_text(reading.value)
    received_utc = reading.received_utc.astimezone(UTC)
    stored = _Stored(
        str(reading.meter),
        str(reading.obis),
        value,
        reading.unit,
        received_utc,
        reading.meter_status,
        reading.wired,
    )
    return msgspec.json.encode(stored)


def _decode_reading(text: bytes) -> Reading:
    try:
        stored = msgspec.json.decode(text, type=_Stored)
        return Reading(
            meter=MeterId.from_text(stored.meter),
            obis=Obis.from_text(stored.obis),
            value=None if stored.value is None else Decimal(stored.value),
            unit=stored.unit,
            received_utc=stored.received_utc,
            meter_status=stored.meter_status,
            wired=stored.wired,
        )
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise StoreCorrupt("a stored reading cannot be read") from error
