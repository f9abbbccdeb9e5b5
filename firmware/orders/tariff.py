"""Orders about tariffs: an event that a tariff reacts to, a request for a reading. No I/O.

A request is answered only if the policy gate lets the answer out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from firmware.document import read_json
from firmware.metering.happenings import Happenings, Request
from firmware.metering.tariff.catalogue import USE_CASES
from firmware.metering.tariff.task import TariffEvent
from firmware.orders.desk import Carrier, Done
from firmware.profile.fields import Name, Utc
from firmware.profile.model import ProcessingProfile, ProfileSet
from firmware.profile.tariffs import Amount
from wan.ports import Order

READING_REQUEST: Final = "reading-request"
TARIFF_EVENT: Final = "tariff-event"
FARTHEST: Final = timedelta(days=366)
"""An event may be announced so far ahead."""


class ReadingRequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a "reading-request": what TAF 6 keeps, or the present value of TAF 9."""

    communication: Name
    """Id of the communication profile under which the answer leaves."""


class TariffEventBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a "tariff-event": an event of TAF 5, a switching of TAF 11, a top-up of TAF 12."""

    processing: Name
    event: Name
    at_utc: Utc | None = None
    """When it acts; at once if absent or past, so that no delivered period changes."""
    amount: Amount = 0
    """Of a top-up, in the unit of the credit."""


class Profiles(Protocol):
    """The part of `firmware.profile.registry.Registry` that is used here."""

    @property
    def active(self) -> ProfileSet:
        """Return the active set."""


class TariffOrders:
    """Keeps events and requests under the message id of their order, so that one repeated changes nothing.

    Args:
        profiles: the registry.
        happenings: where events and requests are kept.
        now_utc: the clock.
        announce: called when a request may be answered.
    """

    def __init__(
        self,
        profiles: Profiles,
        happenings: Happenings,
        now_utc: Callable[[], datetime],
        *,
        announce: Callable[[], None],
    ) -> None:
        self._profiles, self._happenings = profiles, happenings
        self._now_utc, self._announce = now_utc, announce

    def carriers(self) -> dict[str, Carrier]:
        """Return what carries the two kinds out."""
        return {READING_REQUEST: self._request, TARIFF_EVENT: self._event}

    async def _request(self, order: Order) -> Done:
        body = read_json(order.body, ReadingRequestBody, file="order").value
        active = self._profiles.active
        communication = next((one for one in active.communication if one.id == body.communication), None)
        processing = None if communication is None else active.processing_of(communication)
        if processing is None:
            return Done("unknown", f"no communication profile {body.communication}")
        if not USE_CASES[processing.taf].on_request:
            return Done("use-case", f"TAF {processing.taf} ({processing.id}) does not answer requests")
        kept = await self._happenings.ask(Request(order.message_id, body.communication, self._now_utc()))
        if not kept:
            return Done("busy", "too many requests wait")
        self._announce()
        return Done("ok", "the answer leaves with the next value")

    async def _event(self, order: Order) -> Done:
        body = read_json(order.body, TariffEventBody, file="order").value
        profiles = (one for one in self._profiles.active.processing if one.id == body.processing)
        processing = next(profiles, None)
        if processing is None:
            return Done("unknown", f"no processing profile {body.processing}")
        if body.event not in known_events(processing):
            return Done("event", f"{processing.id} (TAF {processing.taf}) knows no event {body.event}")
        if body.amount and processing.prepaid is None:
            return Done("event", "only a top-up has an amount")
        now_utc = self._now_utc()
        at_utc = now_utc if body.at_utc is None else max(body.at_utc, now_utc)
        if at_utc - now_utc > FARTHEST:
            return Done("event", f"more than {FARTHEST.days} days ahead")
        event = TariffEvent(at_utc, body.event, body.amount)
        kept = await self._happenings.tell(processing.id, order.message_id, event)
        if not kept:
            return Done("busy", "too many events are kept")
        self._announce()
        said = f"{processing.id}: {body.event} acts from {at_utc.isoformat()}"
        return Done("ok", said, processing.consumer)


def known_events(processing: ProcessingProfile) -> frozenset[str]:
    """Return the ids of the events that a profile reacts to."""
    names: set[str] = set()
    if processing.event_variable is not None:
        names.update(event.id for event in processing.event_variable.events)
    if processing.control is not None:
        names.update(processing.control.events)
    if processing.prepaid is not None:
        names.add(processing.prepaid.top_up)
    return frozenset(names)
