"""What logs are told of meters: silent or heard again, another status, a billing period that ended.

A service that looks for silence, and a listener to registration. A meter is silent when no telegram of it was
accepted for two registration periods, at least ten minutes and at most a day: whatever disturbs it, a line, a
receiver or itself, its consumer sees that values are missing and since when (PP-0073, FAU_GEN.1/CON; kinds of
events: logs of shipped gateways). What was said last is kept with the entry, so that a kill or a restart
neither repeats nor loses one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from firmware.clock.clock import Clock
from firmware.enforcement.schedule import MAX_INSTANTS, deliveries
from firmware.errors import StoreCorrupt
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Logs
from firmware.metering.register import RegisteredValue
from firmware.metering.status import GatewayStatus, gateway_half
from firmware.metering.tariff.catalogue import USE_CASES, Form
from firmware.profile.model import ProcessingProfile
from firmware.profile.registry import Registry
from firmware.store.operations import Operation, Put
from firmware.store.partition import Partition
from lmn.model import MeterId

LOOK_S: Final = 60.0
SILENT_PERIODS: Final = 2
SHORTEST_SILENCE_S, LONGEST_SILENCE_S = 600.0, 86400.0
KIND: Final = "meter-state"
_FLAGS: Final = GatewayStatus.METER_TAMPER | GatewayStatus.METER_ERROR | GatewayStatus.WARNING
"""What of a status the logs are told when it changes."""


class _Said(msgspec.Struct, frozen=True, array_like=True):
    silent: bool = False
    flags: int = 0


class MeterWatch:
    """Tells the system log and each meter's consumer.

    Args:
        registry: says which meters count, and whose they are.
        logs: the system log and the consumers'.
        partition: the consumer partition, remembers what was said.
        clock: the gateway's; silence is measured by how it runs, not by what it shows.
    """

    name = "firmware.flow.meter-watch"

    def __init__(self, registry: Registry, logs: Logs, partition: Partition, clock: Clock) -> None:
        self._registry, self._logs, self._partition, self._clock = registry, logs, partition, clock
        self._heard: dict[MeterId, float] = {}
        self._awaited: dict[str, float] = {}
        self._told: dict[str, _Said] = {}
        self._closed: dict[str, datetime] = {}

    def heard(self, meter: MeterId) -> None:
        """A telegram of a meter is durable; called for each, so it does nothing but note the time."""
        self._heard[meter] = self._clock.monotonic()

    async def run(self) -> None:
        """Look for silence until cancelled.

        Raises:
            StoreUnavailable, StoreCorrupt: what was not said is said when the service runs again.
        """
        # While this did not run nobody may have listened: silence counts from now.
        for memory in (self._told, self._heard, self._awaited):
            memory.clear()
        while True:
            await self.step()
            await self._clock.sleep(LOOK_S)

    async def step(self) -> None:
        """Tell of each meter that has become silent, or speaks again."""
        now_s = self._clock.monotonic()
        for meter, (consumer, limit_s) in self._watched().items():
            heard_s = self._heard.get(MeterId.from_text(meter))
            # What was not heard since start is as silent as it was, and becomes so from then on.
            quiet_s = now_s - (self._awaited.setdefault(meter, now_s) if heard_s is None else heard_s)
            said = await self._said(meter)
            if said.silent == (quiet_s >= limit_s) or (said.silent and heard_s is None):
                continue
            silent = not said.silent
            await self._tell(
                meter,
                consumer,
                msgspec.structs.replace(said, silent=silent),
                Event.METER_COMMUNICATION_FAULT if silent else Event.METER_OK,
                Outcome.FAILURE if silent else Outcome.SUCCESS,
                "silent" if silent else "heard-again",
            )

    async def registered(
        self,
        processing: ProcessingProfile,
        values: Sequence[RegisteredValue],
        after_utc: datetime,
        through_utc: datetime,
    ) -> None:
        """Values of a profile were registered; durable.

        Args:
            processing: whose.
            values: oldest first; missing ones say nothing of a meter.
            after_utc: up to when it was registered before.
            through_utc: up to when it is now.
        """
        for value in values:
            if value.value is None:
                continue
            said, flags = await self._said(str(value.meter)), int(gateway_half(value.status) & _FLAGS)
            if flags != said.flags:
                await self._tell(
                    str(value.meter),
                    processing.consumer,
                    msgspec.structs.replace(said, flags=flags),
                    Event.METER_STATUS,
                    Outcome.FAILURE if flags else Outcome.SUCCESS,
                    "+".join(_names(flags)) or "ok",
                )
        await self._close(processing, after_utc, through_utc)

    async def _close(self, processing: ProcessingProfile, after_utc: datetime, through_utc: datetime) -> None:
        """Tell the consumer of each billing period that ended; the mark and the entry are one commit."""
        if USE_CASES[processing.taf].form is Form.SERIES:
            return
        key = f"closed/{processing.id}"
        known = self._closed.get(processing.id)
        if known is None:
            text = await self._partition.get("progress", key)
            known = after_utc if text is None else _instant(text)
        # Also where values were taken back: what a false time has closed is closed again.
        ends = deliveries(processing, min(known, after_utc) if known > through_utc else known, through_utc)
        journal = self._logs.consumer(processing.consumer)
        for end_utc in ends[-MAX_INSTANTS:]:
            entry = journal.operation(
                Event.REGISTRATION_CLOSED, subject=processing.id, until_utc=end_utc.isoformat()
            )
            await self._partition.commit((entry, Put("progress", key, end_utc.isoformat().encode())))
        self._closed[processing.id] = ends[-1] if ends else known

    def _watched(self) -> dict[str, tuple[str, float]]:
        """Return meter -> (consumer, seconds of silence that are told) of the active profiles."""
        active = self._registry.active
        found: dict[str, tuple[str, float]] = {}
        for meter in active.meters:
            periods = [one.registration_period_s for one in active.processing if meter.meter in one.meters]
            if periods:
                limit_s = min(max(SILENT_PERIODS * min(periods), SHORTEST_SILENCE_S), LONGEST_SILENCE_S)
                found[meter.meter] = meter.consumer, limit_s
        return found

    async def _said(self, meter: str) -> _Said:
        if meter not in self._told:
            text = await self._partition.get(KIND, meter)
            try:
                self._told[meter] = _Said() if text is None else msgspec.json.decode(text, type=_Said)
            except msgspec.MsgspecError as error:
                raise StoreCorrupt("what was said of a meter cannot be read") from error
        return self._told[meter]

    async def _tell(
        self, meter: str, consumer: str, said: _Said, event: Event, outcome: Outcome, sub_event: str
    ) -> None:
        level = Level.INFO if outcome is Outcome.SUCCESS else Level.WARNING
        entry: Operation = self._logs.consumer(consumer).operation(
            event, outcome, level=level, sub_event=sub_event, subject=meter
        )
        await self._partition.commit((entry, Put(KIND, meter, msgspec.json.encode(said))))
        self._told[meter] = said
        await self._logs.system.write(event, outcome, level=level, sub_event=sub_event, subject=meter)


def _names(flags: int) -> Iterator[str]:
    names = {
        GatewayStatus.METER_TAMPER: "tamper",
        GatewayStatus.METER_ERROR: "error",
        GatewayStatus.WARNING: "warning",
    }
    return (name for flag, name in names.items() if flags & flag)


def _instant(text: bytes) -> datetime:
    try:
        return datetime.fromisoformat(text.decode())
    except ValueError as error:
        raise StoreCorrupt("up to when periods are closed cannot be read") from error
