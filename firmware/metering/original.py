"""Original lists in the store: registered values, and how far registration and delivery got.

No clock. Values are kept in one kind a day, so that a year of them is never read at once. An instant is
registered
once: the first entry stays, whatever comes later. Progress and values go into the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

import msgspec

from firmware.errors import StoreCorrupt
from firmware.metering import running
from firmware.metering.dataset import decimal_text
from firmware.metering.register import RegisteredValue
from firmware.metering.status import billable
from firmware.store.operations import Delete, Insert, Operation, Put
from lmn.model import MeterId, Obis

_DAY = timedelta(days=1)


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    meter: str
    obis: str
    instant_utc: datetime
    value: str | None
    unit: str
    status: int


class Partition(Protocol):
    """The part of `firmware.store.partition.Partition` that is used here."""

    async def get(self, kind: str, key: str) -> bytes | None:
        """Return what is under `key`, None if nothing is."""

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (key, plaintext) of a kind."""

    async def kinds(self) -> list[str]:
        """Return the kinds that have items."""

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Carry out all operations or none; durable on return."""


class OriginalLists:
    """The registered values of all processing profiles."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def add(
        self,
        processing: str,
        values: Sequence[RegisteredValue],
        through_utc: datetime,
        *,
        first: Obis | None = None,
        meter: MeterId | None = None,
    ) -> None:
        """Keep values and note that everything up to `through_utc` is registered, in one transaction.

        Args:
            processing: id of the processing profile.
            values: in any order and in any batches; of one instant and measurand the first one stays.
            through_utc: how far registration has got.
            first: the profile's first measurand, whose entries `at` finds; None: there is no other.
            meter: the profile's first meter, likewise.

        Raises:
            StoreUnavailable: nothing was kept.
        """
        operations: list[Operation] = [
            Insert(
                _kind(processing, value.instant_utc),
                _key(value.instant_utc) + _place(value.meter, value.obis, first, meter),
                _encode(value),
            )
            for value in values
        ]
        operations.append(Put("progress", f"registered/{processing}", _key(through_utc).encode()))
        await self._partition.commit(operations)

    async def registered_through(self, processing: str) -> datetime | None:
        """Return up to when a profile's instants are registered, None if none is."""
        return await self._instant(f"registered/{processing}")

    async def delivered_through(self, communication: str) -> datetime | None:
        """Return the end of the last period that was delivered (or denied), None if none was."""
        return await self._instant(f"delivered/{communication}")

    async def note_delivered(self, communication: str, through_utc: datetime) -> None:
        """Note that the periods up to `through_utc` are done with; durable on return."""
        await self._partition.commit(
            [Put("progress", f"delivered/{communication}", _key(through_utc).encode())]
        )

    async def withdraw(self, processing: str, after_utc: datetime) -> int:
        """Take back what was registered for instants after `after_utc`, and that it was; return how many.

        For values of a time that turned out wrong: their instants are still to come.
        """
        through = await self.registered_through(processing)
        if through is None or through <= after_utc:
            return 0
        gone: list[Operation] = [
            Delete(kind, key)
            for kind in _kinds(processing, after_utc, through)
            for key, text in await self._partition.items(kind)
            if after_utc < _decode(text).instant_utc <= through
        ]
        count = len(gone)
        for day in _days(after_utc, through):
            # What was counted of those values; of the first day what was not is counted again.
            kind = running.kind(processing, day)
            gone += [Delete(kind, key) for key, _ in await self._partition.items(kind)]
        progress = Put("progress", f"registered/{processing}", _key(after_utc).encode())
        await self._partition.commit([*gone, progress])
        return count

    async def at(self, processing: str, instant_utc: datetime) -> RegisteredValue | None:
        """Return the first measurand's entry of one instant, None if it was never registered."""
        text = await self._partition.get(_kind(processing, instant_utc), _key(instant_utc))
        return None if text is None else _decode(text)

    async def all_at(
        self, processing: str, instant_utc: datetime, wanted: Sequence[tuple[MeterId, Obis]]
    ) -> list[RegisteredValue]:
        """Return the entries of one instant; `wanted` are meters and measurands, those of `at` first."""
        meter, first = wanted[0]
        kind, key = _kind(processing, instant_utc), _key(instant_utc)
        texts = [await self._partition.get(kind, key + _place(*one, first, meter)) for one in wanted]
        return [_decode(text) for text in texts if text is not None]

    async def between(self, processing: str, from_utc: datetime, to_utc: datetime) -> list[RegisteredValue]:
        """Return the entries of (from_utc, to_utc], oldest first."""
        found: list[RegisteredValue] = []
        for kind in _kinds(processing, from_utc, to_utc):
            found += (_decode(text) for _, text in await self._partition.items(kind))
        inside = (value for value in found if from_utc < value.instant_utc <= to_utc)
        return sorted(inside, key=lambda value: value.instant_utc)

    async def nearest(
        self,
        processing: str,
        obis: Obis,
        days: Iterable[datetime],
        fits: Callable[[RegisteredValue], bool],
        *,
        newest: bool,
    ) -> RegisteredValue | None:
        """Return the newest or oldest fitting entry of a measurand, looking through `days` one by one."""
        for day in days:
            items = await self._partition.items(_kind(processing, day))
            entries = [entry for entry in (_decode(text) for _, text in items) if entry.obis == obis]
            fitting = [entry for entry in entries if fits(entry)]
            if fitting:
                ordered = sorted(fitting, key=lambda entry: entry.instant_utc)
                return ordered[-1 if newest else 0]
        return None

    async def forget(self, processing: str, after_utc: datetime | None, before_utc: datetime) -> None:
        """Delete the entries of a profile that are older than an instant; durable on return.

        The newest value of each measurand stays, and the newest that counts: whoever looks for a change needs
        it where one is missing, or of a meter that was tampered with.

        Args:
            processing: id of the processing profile.
            after_utc: what is older than this was forgotten before; None: nobody knows.
            before_utc: what lies at it or after it stays.
        """
        if after_utc is None:
            last = _kind(processing, before_utc)
            kinds = [kind for kind in await self._partition.kinds() if _prefix(processing) <= kind <= last]
        else:
            kinds = list(_kinds(processing, after_utc, before_utc))
        old = [
            (kind, key, entry)
            for kind in kinds
            for key, text in await self._partition.items(kind)
            if (entry := _decode(text)).instant_utc < before_utc
        ]
        newest: dict[tuple[MeterId, Obis, bool], datetime] = {}
        for _, _, entry in old:
            for place in _places(entry):
                newest[place] = max(entry.instant_utc, newest.get(place, entry.instant_utc))
        gone = [
            Delete(kind, key)
            for kind, key, entry in old
            if all(newest[place] != entry.instant_utc for place in _places(entry))
        ]
        if gone:
            await self._partition.commit(gone)

    async def _instant(self, key: str) -> datetime | None:
        text = await self._partition.get("progress", key)
        try:
            return None if text is None else datetime.fromisoformat(text.decode())
        except ValueError as error:
            raise StoreCorrupt(f"progress {key} cannot be read") from error


def _places(entry: RegisteredValue) -> list[tuple[MeterId, Obis, bool]]:
    """Return what an entry can be the newest of: values of its measurand, and those that count."""
    if entry.value is None:
        return []
    counts = (False, True) if billable(entry.status) else (False,)
    return [(entry.meter, entry.obis, one) for one in counts]


def _place(meter: MeterId, obis: Obis, first: Obis | None, first_meter: MeterId | None) -> str:
    """Return what tells an entry from that of the profile's first meter and measurand at the same instant."""
    if first_meter not in (None, meter):
        return f"/{meter}/{obis}"
    return "" if first in (None, obis) else f"/{obis}"


def _key(instant_utc: datetime) -> str:
    return instant_utc.astimezone(UTC).isoformat()


def _kind(processing: str, instant_utc: datetime) -> str:
    return f"{_prefix(processing)}{instant_utc.astimezone(UTC):%Y%m%d}"


def _prefix(processing: str) -> str:
    return f"original/{processing}/"


def _kinds(processing: str, from_utc: datetime, to_utc: datetime) -> Iterable[str]:
    return (_kind(processing, day) for day in _days(from_utc, to_utc))


def _days(from_utc: datetime, to_utc: datetime) -> Iterable[datetime]:
    day = from_utc.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= to_utc:
        yield day
        day += _DAY


def _encode(value: RegisteredValue) -> bytes:
    text = None if value.value is None else decimal_text(value.value)
    entry = _Entry(str(value.meter), str(value.obis), value.instant_utc, text, value.unit, value.status)
    return msgspec.json.encode(entry)


def _decode(text: bytes) -> RegisteredValue:
    try:
        entry = msgspec.json.decode(text, type=_Entry)
        value = None if entry.value is None else Decimal(entry.value)
        return RegisteredValue(
            MeterId.from_text(entry.meter),
            Obis.from_text(entry.obis),
            entry.instant_utc,
            value,
            entry.unit,
            entry.status,
        )
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise StoreCorrupt("a registered value cannot be read") from error
