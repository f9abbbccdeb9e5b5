"""Running registers at the ends of billing periods, kept so that they outlive the values they came from.

They are the sum of what each period counted, from the day on that a processing profile has its present
content. What is kept only saves counting again: as long as the original list reaches back, the same comes out
without it. One kind a day, by which the retention of derived values and the wiping of a consumer go.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from firmware.errors import StoreCorrupt
from firmware.metering.tariff.task import Held
from firmware.store.operations import Operation, Put
from firmware.store.retention import CONSUMPTION


class Partition(Protocol):
    """The part of `firmware.store.partition.Partition` that is used here."""

    async def get(self, kind: str, key: str) -> bytes | None:
        """Return what is under `key`, None if nothing is."""

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Carry out all operations or none; durable on return."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    amounts: tuple[tuple[int, int], ...]
    unit: str | None
    through_utc: datetime | None
    incomplete: bool


class RunningRegisters:
    """What the registers of all stage tariffs held."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def at(self, processing: str, since_utc: datetime, end_utc: datetime) -> Held | None:
        """Return what a profile's registers held at the end of a period, None if that was not kept."""
        text = await self._partition.get(kind(processing, end_utc), _key(since_utc, end_utc))
        if text is None:
            return None
        try:
            kept = msgspec.json.decode(text, type=_Kept)
        except msgspec.MsgspecError as error:
            raise StoreCorrupt("a running register cannot be read") from error
        return Held(kept.amounts, kept.unit, kept.through_utc, kept.incomplete)

    async def keep(self, processing: str, since_utc: datetime, end_utc: datetime, held: Held) -> None:
        """Keep what a profile's registers hold at the end of a period; durable on return.

        Args:
            processing: id of the processing profile.
            since_utc: since when it has its present content, and counts.
            end_utc: end of the period.
            held: the same whenever it is computed.
        """
        kept = _Kept(held.amounts, held.unit, held.through_utc, held.incomplete)
        put = Put(kind(processing, end_utc), _key(since_utc, end_utc), msgspec.json.encode(kept))
        await self._partition.commit([put])


def kind(processing: str, instant_utc: datetime) -> str:
    """Return the kind that holds the periods that end on an instant's UTC day."""
    return f"{CONSUMPTION}/{processing}/{instant_utc.astimezone(UTC):%Y%m%d}"


def _key(since_utc: datetime, end_utc: datetime) -> str:
    return f"{end_utc.astimezone(UTC).isoformat()}/{since_utc.astimezone(UTC).isoformat()}"
