"""The two bounded queues of the gateway and who drains them.

Three services. `IntakePipeline` takes telegrams from the drivers and commits them in groups.
`RegistrationPipeline` registers values on the profiles' grids, conceals slots and announces what is due.
`DeliveryPipeline` evaluates and delivers. All progress is in the store: after a restart each goes on where it
stopped, no instant is registered twice and no period is delivered twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from firmware.enforcement.gate import Gate
from firmware.enforcement.schedule import (
    MAX_INSTANTS,
    next_registration,
    registrations,
    slot_ending_at,
)
from firmware.errors import ReadingRefused, ReleaseRefused
from firmware.flow.due import DueDeliveries
from firmware.flow.intake import Intake
from firmware.flow.ports import FALSE_FUTURE, Clock, Profiles, Registered
from firmware.log.diagnostics import INSECURE_SMALL_NET, prefixed
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register, RegisteredValue, half_window, register_value
from firmware.metering.status import BitOrder
from firmware.metering.together import energy_of, last_complete, measured
from firmware.profile.model import MIN_SECURE_MEMBERS, CommunicationProfile, ProcessingProfile, ProfileSet
from lmn.model import MeterId, Obis
from lmn.wired_values import WiredRefusal, WiredValues
from lmn.wmbus.link import ReceivedFrame

_LOG = logging.getLogger("smgw.firmware")
TELEGRAMS_WAITING: Final = 1024
BATCH: Final = 256
"""Telegrams that share one commit at most."""
DELIVERIES_WAITING: Final = 64
SETTLE_S: Final = 0.2
"""After the acceptance window has closed: time for the last telegram to pass through intake."""
LOOK_BACK: Final = timedelta(days=31)
"""So far back a value is looked for from before an interruption."""
LOOK_AGAIN_S: Final = 60.0
"""Without profiles, or with the next instant far away, the profiles are looked at again after this time."""


class IntakePipeline:
    """Takes telegrams from the drivers and commits them in groups. A service."""

    name = "firmware.flow.intake"

    def __init__(self, intake: Intake, *, waiting: int = TELEGRAMS_WAITING, batch: int = BATCH) -> None:
        self._intake, self._batch = intake, batch
        self._telegrams: asyncio.Queue[ReceivedFrame | WiredValues | WiredRefusal] = asyncio.Queue(waiting)
        self._taken: deque[ReceivedFrame | WiredValues | WiredRefusal] = deque()

    def put(self, frame: ReceivedFrame | WiredValues | WiredRefusal) -> None:
        """Take a telegram; never waits. When the queue is full the newest is dropped and counted."""
        try:
            self._telegrams.put_nowait(frame)
        except asyncio.QueueFull:
            self._intake.statistics.dropped += 1

    async def run(self) -> None:
        """Drain the queue until cancelled.

        Raises:
            StoreUnavailable: what was decoded is kept and committed when the service runs again.
        """
        while True:
            while self._taken:
                first = self._taken[0]
                if isinstance(first, ReceivedFrame):
                    self._intake.receive(first)
                else:
                    self._intake.receive_wired(first)
                self._taken.popleft()
            await self._intake.commit()
            self._taken.append(await self._telegrams.get())
            while len(self._taken) < self._batch and not self._telegrams.empty():
                self._taken.append(self._telegrams.get_nowait())


class RegistrationPipeline:
    """Registers values when their instants are over, hands slots to the concealing stage. A service.

    Args:
        profiles: the registry.
        register: recent readings.
        originals: where registered values are kept.
        gate: the only way on.
        clock: the gateway's time.
        announce: called after each round; deliveries may have become due.
        time_valid: whether the clock can be trusted now (status bit 9).
        withdrawn: told of a processing profile whose values of a false time were taken back, and how many.
        told: told of everything that was registered.
        wired: meters that are read by wire.
        settle_s: pause between the end of the acceptance window and registration.
    """

    name = "firmware.flow.registration"

    def __init__(
        self,
        profiles: Profiles,
        register: Register,
        originals: OriginalLists,
        gate: Gate,
        clock: Clock,
        *,
        announce: Callable[[], None],
        time_valid: Callable[[], bool] = lambda: True,
        withdrawn: Callable[[str, int], Awaitable[None]] | None = None,
        told: Registered | None = None,
        wired: frozenset[MeterId] = frozenset(),
        settle_s: float = SETTLE_S,
    ) -> None:
        self._withdrawn, self._told, self._wired = withdrawn, told, wired
        self._profiles, self._register, self._originals = profiles, register, originals
        self._gate, self._clock, self._announce = gate, clock, announce
        self._time_valid, self._settle = time_valid, timedelta(seconds=settle_s)
        self._through: dict[str, datetime] = {}
        self._changed = asyncio.Event()
        self.registered = 0
        profiles.watch(lambda _profiles: self._changed.set())

    async def run(self) -> None:
        """Register what is due, then wait for the next instant or for other profiles, until cancelled."""
        self._through.clear()
        while True:
            self._changed.clear()
            await self.step()
            await self._wait()

    async def step(self) -> None:
        """Register everything that is due now, in the order of time, and conceal the slots that ended.

        Raises:
            StoreUnavailable: what was not kept is registered at the next call.
        """
        now_utc = self._clock.now_utc()
        for processing in self._profiles.active.processing:
            await self._catch_up(processing, now_utc)
        self._announce()

    async def _catch_up(self, processing: ProcessingProfile, now_utc: datetime) -> None:
        reach = half_window(processing.registration_period_s, processing.window_s)
        through = await self._start(processing)
        if through > now_utc + FALSE_FUTURE and await self._take_back(processing, now_utc):
            through = now_utc
        due_utc = now_utc - reach - self._settle
        while instants := registrations(processing, through, due_utc):
            first, *others = (Obis.from_text(text) for text in processing.measurands)
            values = [
                self._value(processing, first, instant, reach, processing.meter) for instant in instants
            ]
            more = [
                self._value(processing, obis, instant, reach, meter)
                for instant in instants
                for meter in processing.meters
                for obis in (others if meter == processing.meter else (first, *others))
            ]
            own = MeterId.from_text(processing.meter)
            await self._originals.add(processing.id, values + more, instants[-1], first=first, meter=own)
            self.registered += len(values) + len(more)
            if self._told is not None:
                await self._told(processing, values, through, instants[-1])
            self._through[processing.id] = through = instants[-1]
            for value in values:
                await self._conceal(processing, value)
            if len(instants) < MAX_INSTANTS:
                return

    async def _take_back(self, processing: ProcessingProfile, now_utc: datetime) -> bool:
        """Forget what a clock that was far ahead has registered: else nothing would be for long."""
        known = await self._originals.registered_through(processing.id)
        if known is None or known <= now_utc + FALSE_FUTURE:
            return False  # a profile that begins in the future
        gone = await self._originals.withdraw(processing.id, now_utc)
        self._through[processing.id] = now_utc
        if self._withdrawn is not None:
            await self._withdrawn(processing.id, gone)
        return True

    async def _start(self, processing: ProcessingProfile) -> datetime:
        """Return up to when a profile is registered; nothing from before its activation is."""
        since = self._profiles.processing_since(processing.id) or self._clock.now_utc()
        known = self._through.get(processing.id)
        if known is None:
            known = await self._originals.registered_through(processing.id)
            if known is not None:
                await self._resume(processing, known)
        start = since if known is None else max(known, since)
        self._through[processing.id] = start
        return start

    async def _resume(self, processing: ProcessingProfile, through: datetime) -> None:
        """Offer the last slot once more: the stop may have come before it was concealed."""
        value = await self._originals.at(processing.id, through)
        if value is not None:
            await self._conceal(processing, value)

    def _value(
        self, processing: ProcessingProfile, obis: Obis, instant: datetime, reach: timedelta, name: str
    ) -> RegisteredValue:
        meter = MeterId.from_text(name)
        return register_value(
            meter,
            obis,
            self._register.around(meter, obis, instant, reach),
            instant,
            reach,
            time_valid=self._time_valid(),
            status_bits=BitOrder(processing.status_bits),
            by_wire=meter in self._wired,
        )

    async def _conceal(self, processing: ProcessingProfile, value: RegisteredValue) -> None:
        for communication in self._profiles.active.communication:
            net = communication.net
            if communication.processing != processing.id or net is None:
                continue
            since = self._profiles.communication_since(communication.id)
            if since is None or value.instant_utc <= max(since, processing.valid_from):
                continue
            if slot_ending_at(net, value.instant_utc) is None:
                continue
            begin_utc = value.instant_utc - timedelta(seconds=processing.registration_period_s)
            wanted = measured(processing)
            now = await self._originals.all_at(processing.id, value.instant_utc, wanted)
            before = await self._originals.all_at(processing.id, begin_utc, wanted)
            if begin_utc < since:
                before = []  # measured under other rules, or for another consumer
            energy = energy_of(before, now, wanted)
            try:
                await self._gate.conceal(
                    communication.id,
                    consumer=processing.consumer,
                    end_utc=value.instant_utc,
                    energy_wh=None if energy is None else energy.import_wh,
                    export_wh=0 if energy is None else energy.export_wh,
                )
                if energy is None and last_complete(now, wanted):
                    await self._owe(communication, processing, now, since)
            except ReleaseRefused:
                continue  # the gate has reported it
            except ReadingRefused:
                log = prefixed(_LOG, INSECURE_SMALL_NET) if net.n_min < MIN_SECURE_MEMBERS else _LOG
                log.warning("%s: the net does not take this slot's value", communication.id)

    async def _owe(
        self,
        communication: CommunicationProfile,
        processing: ProcessingProfile,
        now: Sequence[RegisteredValue],
        since: datetime,
    ) -> None:
        """Hand on the energy of an interruption, whose single slots nobody will ever know."""
        wanted, end_utc = measured(processing), now[0].instant_utc
        entries = await self._originals.between(processing.id, max(since, end_utc - LOOK_BACK), end_utc)
        before = last_complete((entry for entry in entries if entry.instant_utc < end_utc), wanted)
        if (energy := energy_of(before, now, wanted)) is not None:
            await self._gate.owe(
                communication.id,
                consumer=processing.consumer,
                from_utc=before[0].instant_utc,
                to_utc=end_utc,
                energy_wh=energy.import_wh,
                export_wh=energy.export_wh,
            )

    async def _wait(self) -> None:
        now_utc = self._clock.now_utc()
        until_utc = now_utc + timedelta(seconds=LOOK_AGAIN_S)
        for processing in self._profiles.active.processing:
            reach = half_window(processing.registration_period_s, processing.window_s)
            following = next_registration(processing, self._through.get(processing.id, now_utc))
            if following is not None:
                until_utc = min(until_utc, following + reach + self._settle)
        await _first_of(self._clock.sleep_until(until_utc), self._changed.wait())


class DeliveryPipeline:
    """Delivers what has become due (`firmware.flow.due`). A service; its queue holds no values.

    Args:
        due: knows what is due.
        clock: the gateway's time.
    """

    name = "firmware.flow.delivery"

    def __init__(self, due: DueDeliveries, clock: Clock) -> None:
        self.due, self._clock = due, clock
        self._turn = asyncio.Lock()
        self._announced: asyncio.Queue[None] = asyncio.Queue(DELIVERIES_WAITING)

    def announce(self) -> None:
        """Say that something may be due; never waits, and a full queue already says it."""
        try:
            self._announced.put_nowait(None)
        except asyncio.QueueFull:
            return

    async def run(self) -> None:
        """Deliver what is due whenever it is announced, and at start, until cancelled.

        Raises:
            ExceptionGroup, HsmError, StoreUnavailable: not delivered; tried again when the service runs
                again.
        """
        while True:
            await self.step()
            if self.due.next_utc is None:
                await self._announced.get()
            else:
                await _first_of(self._announced.get(), self._clock.sleep_until(self.due.next_utc))
            while not self._announced.empty():
                self._announced.get_nowait()

    async def step(self) -> None:
        """Deliver everything that is due now; raises as `DueDeliveries.step`."""
        async with self._turn:
            await self.due.step()

    async def settle(self, following: ProfileSet) -> None:
        """Hand on what profiles owe that `following` ends; raises as `DueDeliveries.settle`."""
        async with self._turn:
            await self.due.settle(following)


async def _first_of(*waits: Awaitable[object]) -> None:
    """Wait until one of several is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
