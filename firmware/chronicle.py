"""What the logs are told: each event of the gateway's parts as legal log entries and an operator's line.

One method an event. Neither entries nor lines ever hold a reading, a key or a plaintext.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from firmware.clock import Clock
from firmware.delivery import Sent
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.gate import Denial
from firmware.intake import Rejection
from firmware.log.audit import Audit, code, text
from firmware.log.diagnostics import INSECURE_SMALL_NET
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Logs
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
    NetEventKind.REFUSED: (Event.CONCEALMENT_ABORTED, Outcome.FAILURE),
}


@dataclass(slots=True)
class Counts:
    """How often things happened since the gateway started."""

    denied: int = 0
    orders_applied: int = 0
    orders_refused: int = 0
    released: int = 0


class Chronicle:
    """Writes the logs."""

    def __init__(self, logs: Logs, clock: Clock) -> None:
        self._logs = logs
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

    async def receipt(self, receipt: Receipt) -> None:
        """An order of the administrator was carried out or refused."""
        if receipt.accepted:
            self.counts.orders_applied += 1
            _GATEWAY.info("order %s: %s", receipt.message_id, receipt.reason)
            await self._logs.system.write(Event.ORDER_APPLIED, subject=receipt.message_id, user="gwa")
            await self._logs.calibration.write(Event.PROFILE_CHANGE, subject=receipt.message_id, user="gwa")
            return
        self.counts.orders_refused += 1
        _GATEWAY.warning("order %s is refused: %s: %s", receipt.message_id, receipt.code, receipt.reason)
        await self._logs.system.write(
            Event.ORDER_REFUSED,
            Outcome.FAILURE,
            sub_event=receipt.code,
            subject=receipt.message_id,
            user="gwa",
            text=receipt.reason,
        )

    async def instruction(self, receipt: Receipt, consumer: str) -> None:
        """An order that changes no profile was carried out or refused: a tariff event, a reading request.

        The consumer whose tariff it changes is told.
        """
        if not receipt.accepted:
            await self.receipt(receipt)
            return
        self.counts.orders_applied += 1
        _GATEWAY.info("order %s is carried out", receipt.message_id)
        await self._logs.system.write(Event.ORDER_APPLIED, subject=receipt.message_id, user="gwa")
        if consumer:
            await self._logs.consumer(consumer).write(
                Event.CONTRACT_CHANGE, subject=receipt.message_id, user="gwa", text=receipt.reason
            )

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
        )

    async def net(self, consumer: str, event: NetEvent) -> None:
        """Something happened in a DC-net that hides a consumer's values."""
        kind, outcome = _NET_EVENTS[event.kind]
        slot = "" if event.slot is None else str(event.slot)
        warning = f"[{INSECURE_SMALL_NET}] " if event.insecure_small_net else ""
        level = logging.INFO if outcome is Outcome.SUCCESS else logging.WARNING
        _NET.log(level, "%snet %s slot %s: %s %s", warning, event.net, slot, event.kind.value, event.reason)
        journals = [self._logs.consumer(consumer)]
        if event.kind is not NetEventKind.TOTALLED:
            journals.append(self._logs.system)
        for journal in journals:
            await journal.write(
                kind,
                outcome,
                level=Level.WARNING if event.insecure_small_net else None,
                sub_event=event.kind.value,
                subject=event.net,
                text=warning + event.reason,
                slot=slot,
                anonymity_set=str(event.members),
            )
