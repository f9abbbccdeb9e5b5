"""What is due to whom: evaluates it and hands it on, profile by profile. Holds progress in the store only.

Due is: the end of a delivery period, an event that the use case sends, a request of the administrator. What
was due is noted once it is on its way; after a stop in between the same data set has the same message id. No
I/O of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from firmware.enforcement.content import longest_occasion
from firmware.enforcement.schedule import MAX_INSTANTS, cycle_begin, deliveries, delivery_window, has_cycle
from firmware.errors import StoreCorrupt
from firmware.flow.delivery import Delivery
from firmware.flow.evaluation import Evaluator, Since
from firmware.flow.ports import FALSE_FUTURE, Clock, Profiles
from firmware.metering.happenings import Happenings, Request
from firmware.metering.original import OriginalLists
from firmware.metering.register import half_window
from firmware.metering.tariff.catalogue import USE_CASES
from firmware.metering.tariff.task import Occasion
from firmware.profile.model import CommunicationProfile, ProcessingProfile, ProfileSet
from firmware.profile.record import goes_on
from hsm.errors import CertificateRefused, HsmError
from wan.errors import WanError

_LOG = logging.getLogger("smgw.firmware")
FORGET_EVERY: Final = 50
"""While many periods are caught up with: after so many deliveries transient values are let go of."""
Wait = Callable[[CommunicationProfile, datetime], timedelta]
"""How long after its period's acceptance window a profile's delivery may leave."""
Report = Callable[[str, BaseException], None]
"""Told of each fault: name of the service, what happened. Must not raise."""


class DueDeliveries:
    """Delivers what is due. One call at a time.

    Args:
        profiles: the registry.
        originals: the registered values.
        delivery: the way out.
        clock: the gateway's time.
        happenings: tariff events and requests.
        evaluator: makes data sets of them.
        wait: how long a delivery waits; at once if None.
        report: told of what a profile that ends owed and could not hand on.
    """

    def __init__(
        self,
        profiles: Profiles,
        originals: OriginalLists,
        delivery: Delivery,
        clock: Clock,
        happenings: Happenings,
        evaluator: Evaluator,
        wait: Wait | None = None,
        report: Report | None = None,
    ) -> None:
        self._report = report
        self._wait_for = wait or (lambda _profile, _end_utc: timedelta())
        self.next_utc: datetime | None = None
        """When something that waits may leave; None: nothing waits."""
        self._profiles, self._originals, self._delivery, self._clock = profiles, originals, delivery, clock
        self._happenings, self._evaluator = happenings, evaluator
        self._forgotten: dict[str, datetime] = {}

    async def step(self) -> None:
        """Deliver everything that is due now and registered; one recipient's fault holds up no other's data.

        Raises:
            ExceptionGroup: holds the fault of each profile that could not be served.
        """
        active = self._profiles.active
        self.next_utc = None
        faults: list[Exception] = []
        for communication in active.communication:
            processing = active.processing_of(communication)
            if processing is not None and communication.concealment == "none":
                try:
                    await self._catch_up(communication, processing)
                except (WanError, CertificateRefused) as fault:
                    faults.append(fault)
        for request in await self._happenings.waiting():
            try:
                await self._answer(request)
            except (WanError, CertificateRefused) as fault:
                faults.append(fault)
        for processing in active.processing:
            await self._forget(processing)
        if faults:
            raise ExceptionGroup("not everything could be delivered", faults)

    async def settle(self, following: ProfileSet) -> None:
        """Before a set takes the place of the active one: hand on what waits under profiles that it ends.

        What was due while its profile was in force is owed; that it still waits for its offset hides only
        when it leaves. What cannot be handed on now is logged and given up, because nothing may keep the
        administrator from ending a profile: neither a module that is away nor a damaged partition.

        It is part of carrying out an order, so it runs in every operating state in which orders are taken,
        also where delivering is forbidden: it puts releases into the outbox and brings nothing to anybody.
        They wait there until the outbox may run.

        Raises:
            StoreUnavailable: nothing may change now; what is owed can still be kept when there is room.
        """
        active = self._profiles.active
        for communication in active.communication:
            processing = active.processing_of(communication)
            if (
                self._stays(communication, following)
                or processing is None
                or communication.concealment != "none"
            ):
                continue
            try:
                await self._catch_up(communication, processing, early=True)
            except (WanError, CertificateRefused, HsmError, StoreCorrupt) as fault:
                _LOG.warning("%s ends before what it owed was handed on: %s", communication.id, fault)
                if self._report is not None:
                    self._report("firmware.flow.delivery", fault)

    def _stays(self, communication: CommunicationProfile, following: ProfileSet) -> bool:
        """Tell whether what is due under a profile now still is under another set."""
        before = self._profiles.active.processing_of(communication)
        now, now_utc = following.processing_of(communication), self._clock.now_utc()
        if communication not in following.communication or not goes_on(before, now, now_utc):
            return False
        return now == before or now is None or now.valid_until is None or now.valid_until >= now_utc

    async def _catch_up(
        self, communication: CommunicationProfile, processing: ProcessingProfile, *, early: bool = False
    ) -> None:
        """Deliver what a profile owes; `early`: also what still waits for its offset."""
        since = self._since(communication, processing)
        registered = await self._originals.registered_through(processing.id)
        if since is None or registered is None:
            return
        delivered = await self._originals.delivered_through(communication.id)
        if delivered is not None and delivered > registered + FALSE_FUTURE:
            await self._originals.note_delivered(communication.id, registered)
            delivered = registered  # what was delivered beyond belongs to a false time
        begin_utc = since.communication_utc
        through = begin_utc if delivered is None else max(delivered, begin_utc)
        ends = deliveries(processing, through, registered)
        complete = len(ends) < MAX_INSTANTS
        until = registered if complete else ends[-1]
        due = [Occasion(*delivery_window(processing, end), "") for end in ends]
        # What the cycle sends at an instant anyway needs no second sending for an event.
        found = await self._evaluator.occasions(processing, through, until, since)
        due += [one for one in found if one.to_utc not in set(ends)]
        due.sort(key=lambda one: (one.to_utc, one.why))
        for done, (occasion, following) in enumerate(zip_longest(due, due[1:]), start=1):
            if not done % FORGET_EVERY:
                await self._forget(processing)  # or a long list would be read again for each of its values
            if not early and self._is_early(communication, processing, occasion.to_utc):
                return  # all behind it is younger; what is noted so far stays noted
            dataset = await self._evaluator.dataset(processing, occasion, since)
            await self._delivery.deliver(communication, dataset)
            if following is None or following.to_utc != occasion.to_utc:
                through = occasion.to_utc
                await self._originals.note_delivered(communication.id, through)
        if USE_CASES[processing.taf].fired is not None and through < until:
            await self._originals.note_delivered(communication.id, until)  # looked at, nothing happened

    def _is_early(
        self, communication: CommunicationProfile, processing: ProcessingProfile, end_utc: datetime
    ) -> bool:
        """Tell whether a delivery still waits for its offset, and remember when to look again."""
        wait = self._wait_for(communication, end_utc)
        due_utc = end_utc + half_window(processing.registration_period_s, processing.window_s) + wait
        if not wait or self._clock.now_utc() >= due_utc:
            return False
        self.next_utc = due_utc if self.next_utc is None else min(due_utc, self.next_utc)
        return True

    def _since(self, communication: CommunicationProfile, processing: ProcessingProfile) -> Since | None:
        told = self._profiles.communication_since(communication.id)
        made = self._profiles.processing_since(processing.id)
        return None if told is None or made is None else Since(told, made)

    async def _answer(self, request: Request) -> None:
        """Deliver what was asked for, as soon as there is a value; what the gate denies is answered, too."""
        active = self._profiles.active
        communication = next((one for one in active.communication if one.id == request.communication), None)
        processing = None if communication is None else active.processing_of(communication)
        since = None
        if communication is not None and processing is not None:
            since = self._since(communication, processing)
        if communication is None or processing is None or since is None:
            await self._happenings.answered(request.message_id)  # its profile is gone
            return
        registered = await self._originals.registered_through(processing.id)
        if registered is None or registered <= max(since.communication_utc, processing.valid_from):
            return
        from_utc = max(registered - longest_occasion(processing), processing.valid_from)
        digest = hashlib.sha256(request.message_id.encode()).hexdigest()[:16]
        occasion = Occasion(from_utc, registered, f"request-{digest}")
        dataset = await self._evaluator.dataset(processing, occasion, since)
        await self._delivery.deliver(communication, dataset)
        await self._happenings.answered(request.message_id)

    async def _forget(self, processing: ProcessingProfile) -> None:
        """Let go of transient values that everybody has; the newest stays for requests and comparisons."""
        if not USE_CASES[processing.taf].transient:
            return
        through = await self._originals.registered_through(processing.id)
        for communication in self._profiles.active.communication:
            if communication.processing != processing.id or communication.concealment != "none":
                continue
            if not has_cycle(processing) and USE_CASES[processing.taf].fired is None:
                continue
            delivered = await self._originals.delivered_through(communication.id)
            if delivered is None or through is None:
                return
            # A period that has only begun will need all of its values.
            through = min(through, cycle_begin(processing, delivered) if has_cycle(processing) else delivered)
        known = self._forgotten.get(processing.id)
        if through is not None and (known is None or known < through):
            await self._originals.forget(processing.id, known, through)
            self._forgotten[processing.id] = through
