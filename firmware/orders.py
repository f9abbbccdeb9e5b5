"""Orders of the administrator by kind: profiles to the registry, tariff events and requests to the store.

Implements `wan.ports.ProfileSink`. Holds no transport and no policy: a request is answered only if the policy
gate lets the answer out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from firmware.document import read_json
from firmware.errors import ConfigurationRefused
from firmware.metering.happenings import Happenings, Request
from firmware.metering.tariff.catalogue import USE_CASES
from firmware.metering.tariff.task import TariffEvent
from firmware.profile.fields import Name, Utc
from firmware.profile.model import ProcessingProfile, ProfileSet
from firmware.profile.tariffs import Amount
from wan.ports import Order, Receipt

READING_REQUEST: Final = "reading-request"
TARIFF_EVENT: Final = "tariff-event"
FARTHEST: Final = timedelta(days=366)
"""An event may be announced so far ahead."""
_REASON_CHARS: Final = 2000


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

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order of kind "profiles"."""

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied."""


class Receipts(Protocol):
    """The part of `firmware.store.stores.ReplayMemory` that is used here."""

    async def receipt(self, message_id: str) -> Receipt | None:
        """Return the receipt of an order that was handled before, None for a new one."""

    async def note(self, receipt: Receipt) -> None:
        """Keep a receipt; durable on return."""


class Orders:
    """Carries out orders of every kind, each once.

    Args:
        profiles: the registry.
        receipts: the same memory that the registry uses.
        happenings: where events and requests are kept.
        now_utc: the clock.
        report: told of each receipt that is made here, and of the consumer whose tariff an event changes (""
        for
            none).
        announce: called when a request may be answered.
    """

    def __init__(
        self,
        profiles: Profiles,
        receipts: Receipts,
        happenings: Happenings,
        now_utc: Callable[[], datetime],
        *,
        report: Callable[[Receipt, str], Awaitable[None]],
        announce: Callable[[], None],
    ) -> None:
        self._profiles, self._receipts, self._happenings = profiles, receipts, happenings
        self._now_utc, self._report, self._announce = now_utc, report, announce

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order once; the same message id again returns the first receipt.

        What the order says is kept before its receipt, under its message id: a kill in between has the order
        carried out again with the same effect.

        Raises:
            StoreUnavailable: the order can be given again.
        """
        carry_out = {READING_REQUEST: self._request, TARIFF_EVENT: self._event}.get(order.kind)
        if carry_out is None:
            return await self._profiles.apply(order)
        known = await self._receipts.receipt(order.message_id)
        if known is not None:
            return known
        try:
            code, reason, consumer = await carry_out(order)
        except ConfigurationRefused as error:
            code, reason, consumer = "invalid", str(error), ""
        receipt = Receipt(order.message_id, code == "ok", code, reason[:_REASON_CHARS])
        await self._receipts.note(receipt)
        await self._report(receipt, consumer)
        if receipt.accepted:
            self._announce()
        return receipt

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied (signature, form)."""
        return await self._profiles.refuse(message_id, code, reason)

    async def _request(self, order: Order) -> tuple[str, str, str]:
        body = read_json(order.body, ReadingRequestBody, file="order").value
        active = self._profiles.active
        communication = next((one for one in active.communication if one.id == body.communication), None)
        processing = None if communication is None else active.processing_of(communication)
        if processing is None:
            return "unknown", f"no communication profile {body.communication}", ""
        if not USE_CASES[processing.taf].on_request:
            return "use-case", f"TAF {processing.taf} ({processing.id}) does not answer requests", ""
        kept = await self._happenings.ask(Request(order.message_id, body.communication, self._now_utc()))
        if not kept:
            return "busy", "too many requests wait", ""
        return "ok", "the answer leaves with the next value", ""

    async def _event(self, order: Order) -> tuple[str, str, str]:
        body = read_json(order.body, TariffEventBody, file="order").value
        profiles = (one for one in self._profiles.active.processing if one.id == body.processing)
        processing = next(profiles, None)
        if processing is None:
            return "unknown", f"no processing profile {body.processing}", ""
        if body.event not in known_events(processing):
            return "event", f"{processing.id} (TAF {processing.taf}) knows no event {body.event}", ""
        if body.amount and processing.prepaid is None:
            return "event", "only a top-up has an amount", ""
        now_utc = self._now_utc()
        at_utc = now_utc if body.at_utc is None else max(body.at_utc, now_utc)
        if at_utc - now_utc > FARTHEST:
            return "event", f"more than {FARTHEST.days} days ahead", ""
        event = TariffEvent(at_utc, body.event, body.amount)
        kept = await self._happenings.tell(processing.id, order.message_id, event)
        if not kept:
            return "busy", "too many events are kept", ""
        return "ok", f"{processing.id}: {body.event} acts from {at_utc.isoformat()}", processing.consumer


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
