"""What the logs are told: each event of the gateway's parts as legal log entries and an operator's line.

One method an event. Neither entries nor lines ever hold a reading, a key or a plaintext.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from firmware.clock.clock import Clock
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.gate import Denial
from firmware.errors import LogFull, StoreCorrupt
from firmware.flow.delivery import Sent
from firmware.flow.intake import Rejection
from firmware.log.audit import Audit, code, text
from firmware.log.diagnostics import INSECURE_SMALL_NET
from firmware.log.entry import Event, Level, Outcome, cut
from firmware.log.journal import Logs
from firmware.log.news import News
from firmware.store.operations import Delete, Operation, Put
from firmware.store.partition import Partition
from lmn.model import MeterId
from wan.ports import Receipt

_GATEWAY = logging.getLogger("smgw.firmware")
_LMN = logging.getLogger("smgw.lmn")
_NET = logging.getLogger("smgw.dcnet")
_NET_EVENTS: Final = {
    NetEventKind.JOINED: (Event.CONTRACT_CHANGE, Outcome.SUCCESS),
    NetEventKind.TOTALLED: (Event.CONCEALED_CONTRIBUTION, Outcome.SUCCESS),
    NetEventKind.OWED: (Event.CONCEALMENT_ABORTED, Outcome.FAILURE),
    NetEventKind.QUARANTINE: (Event.PEER_MISBEHAVED, Outcome.FAILURE),
    NetEventKind.LEFT_OUT: (Event.PEER_MISBEHAVED, Outcome.FAILURE),
    NetEventKind.REFUSED: (Event.CONCEALMENT_ABORTED, Outcome.FAILURE),
    NetEventKind.RECOVERED: (Event.CONCEALMENT_REPAIRED, Outcome.SUCCESS),
    NetEventKind.AUDITED: (Event.CONCEALMENT_REPAIRED, Outcome.SUCCESS),
    NetEventKind.RECONCILED: (Event.CONCEALMENT_REPAIRED, Outcome.SUCCESS),
    NetEventKind.DISPUTED: (Event.PEER_MISBEHAVED, Outcome.FAILURE),
    NetEventKind.SWITCHED: (Event.CONTRACT_CHANGE, Outcome.SUCCESS),
    NetEventKind.REDRAWN: (Event.PEER_MISBEHAVED, Outcome.FAILURE),
    NetEventKind.REVOKED: (Event.CONTRACT_CHANGE, Outcome.SUCCESS),
    NetEventKind.LEFT: (Event.CONTRACT_CHANGE, Outcome.SUCCESS),
    NetEventKind.V_MODE: (Event.CONCEALMENT_REPAIRED, Outcome.SUCCESS),
}


@dataclass(slots=True)
class Counts:
    """How often things happened since the gateway started."""

    denied: int = 0
    orders_applied: int = 0
    orders_refused: int = 0
    released: int = 0


_UNTOLD: Final = "untold"
_NEWS: Final = "untold-consumer"
_LOOKED_AT: Final = 100
"""So far back in a log an entry is looked for that a kill may have let through."""


class Chronicle:
    """Writes the logs.

    Args:
        logs: all of them.
        clock: for the pace of repeated entries.
        partition: the system partition, for what two logs must be told of one event.
    """

    def __init__(self, logs: Logs, clock: Clock, partition: Partition) -> None:
        self._logs, self._partition = logs, partition
        self._committed: set[str] = set()
        """Orders whose entry goes into the commit of their effect."""
        self._audit = Audit(logs.system, logs.calibration, clock)
        self.counts = Counts()

    async def fault(self, service: str, error: BaseException) -> None:
        """A service failed and is started again, or a peer did something wrong."""
        _GATEWAY.warning("%s: %s: %s", service, code(error), text(error))
        await self._audit.note(service, error)

    async def refused_pins(self, count: int) -> None:
        """The module refused PINs before it could be opened, and with it the logs."""
        _GATEWAY.warning("the security module refused %d PIN(s) before this start", count)
        await self._logs.system.write(
            Event.PIN_REFUSED, Outcome.FAILURE, level=Level.FATAL, subject="hsm", repeated=count - 1
        )

    def receipt_entries(self, receipt: Receipt, news: Sequence[News] = ()) -> Sequence[Operation]:
        """Return what is logged of an order about profiles, to be committed with what it did."""
        if not receipt.accepted:
            return self._entries(receipt, ())
        # The other logs are in other partitions: what they must be told is remembered until they were.
        return (*self._entries(receipt, news), Put(_UNTOLD, receipt.message_id, b""))

    def _entries(self, receipt: Receipt, news: Sequence[News]) -> tuple[Operation, ...]:
        self._committed.add(receipt.message_id)
        if not receipt.accepted:
            return (self._logs.system.operation(Event.ORDER_REFUSED, **_refusal(receipt)),)
        applied = self._logs.system.operation(
            Event.ORDER_APPLIED, subject=receipt.message_id, user="gwa", text=receipt.reason
        )
        told = (
            Put(_NEWS, f"{receipt.message_id}/{number}", msgspec.json.encode(one))
            for number, one in enumerate(news)
        )
        return applied, *told

    async def receipt(self, receipt: Receipt) -> None:
        """An order of the administrator was carried out or refused."""
        if receipt.message_id in self._committed:
            self._committed.discard(receipt.message_id)
        elif not receipt.accepted:
            await self._logs.system.write(Event.ORDER_REFUSED, **_refusal(receipt))
        if receipt.accepted:
            self.counts.orders_applied += 1
            _GATEWAY.info("order %s: %s", receipt.message_id, receipt.reason)
            await self._tell_calibration(receipt.message_id)
            await self._tell_news(receipt.message_id)
        else:
            self.counts.orders_refused += 1
            _GATEWAY.warning("order %s is refused: %s: %s", receipt.message_id, receipt.code, receipt.reason)

    async def recover(self) -> None:
        """Tell the other logs what a kill kept from them; call once, at start."""
        await self._tell_news(None)
        untold = [order for order, _ in await self._partition.items(_UNTOLD)]
        if not untold:
            return
        _, newest = await self._logs.calibration.span()
        told = {
            entry.subject
            for entry in await self._logs.calibration.entries(max(0, newest - _LOOKED_AT))
            if entry.event is Event.PROFILE_CHANGE
        }
        for order in untold:
            if order in told:
                await self._partition.commit((Delete(_UNTOLD, order),))
            else:
                await self._tell_calibration(order)

    async def _tell_calibration(self, order: str) -> None:
        try:
            await self._logs.calibration.write(Event.PROFILE_CHANGE, subject=order, user="gwa")
        except LogFull:
            return  # a state of its own; it is told at the start after that
        await self._partition.commit((Delete(_UNTOLD, order),))

    async def _tell_news(self, order: str | None) -> None:
        """Tell the logs what waits for them, of one order; of None what a kill has left."""
        for key, data in await self._partition.items(_NEWS):
            identity = key.rpartition("/")[0]
            if order is not None and identity != order:
                continue
            try:
                news = msgspec.json.decode(data, type=News)
            except msgspec.MsgspecError as error:
                raise StoreCorrupt("what a consumer must be told cannot be read") from error
            journal = self._logs.consumer(news.consumer) if news.consumer else self._logs.calibration
            told = False
            if order is None:
                _, newest = await journal.span()
                told = any(
                    (entry.event, entry.subject, entry.text) == (news.event, identity, cut(news.text))
                    for entry in await journal.entries(max(0, newest - _LOOKED_AT))
                )
            if not told:
                level = Level.WARNING if news.event is Event.CONCEALMENT_UNDONE else None
                try:
                    await journal.write(news.event, level=level, subject=identity, user="gwa", text=news.text)
                except LogFull:
                    continue  # a state of its own; the calibration log is told at the start after that
            await self._partition.commit((Delete(_NEWS, key),))

    def instruction_entries(self, receipt: Receipt, consumer: str) -> Sequence[Operation]:
        """Return what is logged of an order that changes no profile, to be committed with its receipt."""
        if not consumer:
            return self._entries(receipt, ())
        news = News(consumer=consumer, event=Event.CONTRACT_CHANGE, text=receipt.reason)
        return self._entries(receipt, (news,))

    async def instruction(self, receipt: Receipt, _consumer: str) -> None:
        """An order that changes no profile was carried out or refused; the consumer it concerns is told."""
        if not receipt.accepted:
            await self.receipt(receipt)
            return
        self._committed.discard(receipt.message_id)
        self.counts.orders_applied += 1
        _GATEWAY.info("order %s is carried out", receipt.message_id)
        await self._tell_news(receipt.message_id)

    async def heard(self, meter: MeterId) -> None:
        """The first telegram of a meter since start was accepted."""
        _LMN.info("first telegram of %s", meter)
        await self._logs.system.write(Event.METER_OK, subject=str(meter))

    async def rejection(self, rejection: Rejection) -> None:
        """Telegrams were rejected."""
        meter = "" if rejection.meter is None else str(rejection.meter)
        _LMN.warning("%d telegram(s) of %s rejected: %s", rejection.count, meter or "?", rejection.code)
        await self._logs.system.write(
            Event.TELEGRAM_REFUSED,
            Outcome.FAILURE,
            sub_event=rejection.code,
            subject=meter,
            repeated=rejection.count - 1,
        )

    async def denial(self, denial: Denial) -> None:
        """The policy gate let something not leave; the consumer it is about is told, too."""
        self.counts.denied += 1
        _GATEWAY.warning(
            "%s denied: %s: %s", denial.request.communication, denial.reason.value, denial.detail
        )
        journals = [self._logs.system]
        if denial.request.consumer:
            journals.append(self._logs.consumer(denial.request.consumer))
        for journal in journals:
            await journal.write(
                Event.RELEASE_DENIED,
                Outcome.FAILURE,
                sub_event=denial.reason.value,
                subject=denial.request.communication,
                destination=denial.request.recipient,
                text=denial.detail,
            )

    async def sent(self, sent: Sent) -> None:
        """Data of a consumer is on its way."""
        self.counts.released += 1
        _GATEWAY.info("%s: %d value(s) for %s", sent.communication, sent.entries, sent.recipient)
        await self._logs.consumer(sent.consumer).write(
            Event.DATA_RELEASED,
            subject=sent.communication,
            destination=sent.recipient,
            message_id=sent.message_id,
            entries=str(sent.entries),
            from_utc=sent.from_utc.isoformat(),
            to_utc=sent.to_utc.isoformat(),
            pseudonym=sent.pseudonym,
        )

    def arrived(self, consumer: str, recipient: str, message_id: str) -> Sequence[Operation]:
        """Return what a consumer's log is told of data that arrived, to be committed with that it did."""
        entry = self._logs.consumer(consumer).operation(
            Event.DATA_SENT, destination=recipient, message_id=message_id
        )
        return (entry,)

    async def certificate(self, whose: str, certificate: bytes) -> None:
        """A certificate took the place of another."""
        digest = hashlib.sha256(certificate).hexdigest()
        await self._logs.system.write(Event.CERTIFICATE_CHANGE, subject=whose, sha256=digest)

    async def withdrawn(self, processing: str, count: int) -> None:
        """Values that were registered at a false time were taken back."""
        _GATEWAY.warning("%s: %d value(s) of a false time are taken back", processing, count)
        for journal in (self._logs.system, self._logs.calibration):
            if not await journal.is_full():
                await journal.write(
                    Event.VALUES_WITHDRAWN, level=Level.WARNING, subject=processing, count=str(count)
                )

    def total_entries(self, consumer: str, event: NetEvent) -> Sequence[Operation]:
        """Return what a consumer's log is told of a total, to be committed with the ledger's entry.

        `consumer` is "" for a slot that is about nobody of now.
        """
        if not consumer:
            return ()
        kind, _ = _NET_EVENTS[event.kind]
        return (self._logs.consumer(consumer).operation(kind, **_net(event)),)

    async def net(self, consumer: str, event: NetEvent) -> None:
        """Something happened in a DC-net that hides a consumer's values; "" is nobody."""
        kind, outcome = _NET_EVENTS[event.kind]
        slot = "" if event.slot is None else str(event.slot)
        warning = _warning(event)
        level = logging.INFO if outcome is Outcome.SUCCESS else logging.WARNING
        _NET.log(level, "%snet %s slot %s: %s %s", warning, event.net, slot, event.kind.value, event.reason)
        if event.kind is NetEventKind.TOTALLED:
            return  # `total_entries` went along with the ledger's own
        if consumer:
            await self._logs.consumer(consumer).write(kind, **_net(event))
        await self._logs.system.write(kind, **_net(event))


def _refusal(receipt: Receipt) -> dict[str, Any]:
    return {
        "outcome": Outcome.FAILURE,
        "sub_event": receipt.code,
        "subject": receipt.message_id,
        "user": "gwa",
        "text": receipt.reason,
    }


def _warning(event: NetEvent) -> str:
    return f"[{INSECURE_SMALL_NET}] " if event.insecure_small_net else ""


def _net(event: NetEvent) -> dict[str, Any]:
    return {
        "outcome": _NET_EVENTS[event.kind][1],
        "level": Level.WARNING if event.insecure_small_net else None,
        "sub_event": event.kind.value,
        "subject": event.net,
        "text": _warning(event) + event.reason,
        "slot": "" if event.slot is None else str(event.slot),
        "anonymity_set": str(event.members),
    }
