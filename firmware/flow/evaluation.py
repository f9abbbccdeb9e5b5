"""From original lists in the store to what is delivered: gathers a task, evaluates it, signs if asked to.

Each derived register is the result of a pure function of the original list, so that a restart cannot change
it; what running registers held is kept only because they outlive the list. Holds no rule of a tariff
(`firmware.metering.tariff`) and no policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from firmware.enforcement.schedule import delivery_window
from firmware.metering.dataset import Dataset
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from firmware.metering.running import RunningRegisters
from firmware.metering.signature import Sign, sign_values
from firmware.metering.tariff.catalogue import USE_CASES, Form, evaluate, fired, held_after
from firmware.metering.tariff.steps import counts
from firmware.metering.tariff.task import Held, Occasion, Task
from firmware.profile.model import ProcessingProfile
from lmn.model import Obis

LOOK_BACK: Final = timedelta(days=62)
"""So far before a period a value is looked for from which counting goes on."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Since:
    """From when on a recipient may be told."""

    communication_utc: datetime
    """Values up to here were measured under other rules and stay inside."""
    processing_utc: datetime
    """Since when the processing profile has its present content; events before it belong to another one."""


class Evaluator:
    """Evaluates processing profiles over their original lists.

    Args:
        originals: the registered values.
        happenings: tariff events.
        running: registers that run on over billing periods; None: counted from the beginning each time.
        gateway: the gateway's id, lower case; part of signed values.
        sign: signs a digest by the SIG key; None: a profile that wants signed values gets none evaluated.
    """

    def __init__(
        self,
        originals: OriginalLists,
        happenings: Happenings,
        gateway: str = "",
        sign: Sign | None = None,
        running: RunningRegisters | None = None,
    ) -> None:
        self._originals, self._happenings, self._running = originals, happenings, running
        self._gateway, self._sign = gateway, sign

    async def occasions(
        self, processing: ProcessingProfile, after_utc: datetime, until_utc: datetime, since: Since
    ) -> tuple[Occasion, ...]:
        """Return what must leave outside the cycle for (after_utc, until_utc], oldest first.

        Args:
            processing: whose events.
            after_utc: up to when it was looked before.
            until_utc: up to when values are registered.
            since: what lies before it stays inside.
        """
        if USE_CASES[processing.taf].fired is None or after_utc >= until_utc:
            return ()
        found = fired(await self._task(processing, after_utc, until_utc, since))
        clipped = (replace(one, from_utc=max(one.from_utc, processing.valid_from)) for one in found)
        return tuple(one for one in clipped if one.from_utc < one.to_utc)

    async def dataset(self, processing: ProcessingProfile, occasion: Occasion, since: Since) -> Dataset:
        """Evaluate one period.

        Raises:
            HsmError: the module did not sign.
            StoreUnavailable, StoreCorrupt: the original list cannot be read.
        """
        task = await self._task(processing, occasion.from_utc, occasion.to_utc, since)
        if processing.registers == "running":
            task = replace(task, carried=await self._carried(processing, occasion.from_utc, since))
            await self._keep(task, since)
        entries = evaluate(task)
        signatures: tuple[bytes, ...] = ()
        if processing.signed_values:
            if self._sign is None:
                raise ValueError("signed values need the module's SIG key")
            signatures = await sign_values(entries, self._gateway, self._sign)
        return Dataset(
            processing=processing.id,
            taf=processing.taf,
            consumer=processing.consumer,
            from_utc=occasion.from_utc.astimezone(UTC),
            to_utc=occasion.to_utc.astimezone(UTC),
            entries=entries,
            occasion=occasion.why,
            usage_point=processing.usage_point or "",
            tariff=processing.tariff or "",
            signatures=signatures,
        )

    async def _task(
        self, processing: ProcessingProfile, from_utc: datetime, to_utc: datetime, since: Since
    ) -> Task:
        use_case = USE_CASES[processing.taf]
        # What is left of a credit, and what a register holds that runs on, count from the contract's
        # beginning, whoever is told and by which certificate.
        from_the_beginning = use_case.form is Form.CREDIT or processing.registers == "running"
        since_utc = since.processing_utc if from_the_beginning else since.communication_utc
        measurands = [Obis.from_text(text) for text in processing.measurands]
        begin_utc = max(from_utc, since_utc)
        entries = [
            value
            for value in await self._originals.between(processing.id, begin_utc, to_utc)
            if str(value.meter) == processing.meter and value.obis in measurands
        ]
        if use_case.looks_back:
            for obis in measurands:
                entries += await self._before(processing, obis, begin_utc, since_utc)
        if use_case.form is Form.CREDIT:
            entries += await self._first(processing, measurands[0], since_utc, begin_utc, entries)
        events = tuple(
            event
            for event in await self._happenings.events(processing.id)
            if event.at_utc >= since.processing_utc
        )
        return Task(processing, tuple(entries), from_utc, to_utc, events)

    async def _carried(self, processing: ProcessingProfile, at_utc: datetime, since: Since) -> Held:
        """Return what running registers hold at the beginning of a period, counting what was not kept."""
        held, behind = Held(), list[datetime]()
        while at_utc > max(since.processing_utc, processing.valid_from):
            kept = None
            if self._running is not None:
                kept = await self._running.at(processing.id, since.processing_utc, at_utc)
            if kept is not None:
                held = kept
                break
            behind.append(at_utc)
            at_utc = delivery_window(processing, at_utc)[0]
        for end_utc in reversed(behind):
            task = await self._task(processing, delivery_window(processing, end_utc)[0], end_utc, since)
            task = replace(task, carried=held)
            held = await self._keep(task, since)
        return held

    async def _keep(self, task: Task, since: Since) -> Held:
        result = held_after(task)
        if self._running is not None:
            await self._running.keep(task.profile.id, since.processing_utc, task.to_utc, result)
        return result

    async def _before(
        self, processing: ProcessingProfile, obis: Obis, at_utc: datetime, since_utc: datetime
    ) -> list[RegisteredValue]:
        """Return the last value that counts at or before an instant, if there is one.

        Where a tariff counts over measuring periods, one that lies on their ends.
        """
        earliest = max(since_utc, at_utc - LOOK_BACK)
        rule = processing.load_variable
        measuring_s = None if rule is None else rule.measuring_period_s
        grid = timedelta(seconds=measuring_s or processing.registration_period_s)
        found = await self._originals.nearest(
            processing.id,
            obis,
            _days(at_utc, earliest),
            lambda one: (
                earliest < one.instant_utc <= at_utc
                and counts(one)
                and str(one.meter) == processing.meter
                and not (one.instant_utc - processing.valid_from) % grid
            ),
            newest=True,
        )
        return [] if found is None else [found]

    async def _first(
        self,
        processing: ProcessingProfile,
        obis: Obis,
        since_utc: datetime,
        until_utc: datetime,
        known: list[RegisteredValue],
    ) -> list[RegisteredValue]:
        """Return the first value that counts since the activation, unless it is known already."""
        found = await self._originals.nearest(
            processing.id,
            obis,
            reversed(list(_days(until_utc, max(since_utc, processing.valid_from)))),
            lambda one: (
                since_utc < one.instant_utc <= until_utc
                and counts(one)
                and str(one.meter) == processing.meter
            ),
            newest=False,
        )
        return [] if found is None or found in known else [found]


def _days(last_utc: datetime, first_utc: datetime) -> Iterator[datetime]:
    """Yield an instant of each UTC day from that of `last_utc` back to that of `first_utc`."""
    day = last_utc.astimezone(UTC)
    while day.date() >= first_utc.astimezone(UTC).date():
        yield day
        day -= _DAY
