"""What a running gateway tells of its DC-nets, and whom: the answer to `smgw dcnet show`. No I/O of its own.

How a net stands is operation, so whoever reads the system log may see it. What a household is owed is its
own: the consumer whose net it is sees that, and no other net, from where his profile begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.standing import describe
from firmware.enforcement.roles import Reader, Role, may_read, require_read
from firmware.errors import AccessRefused
from firmware.life.control import Request
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.journal import Journal
from firmware.profile.registry import Registry


class NetStatus:
    """Answers, by the role table of the logs.

    Args:
        member: the member of a net, None while it is not served.
        registry: knows which net hides whose values.
        system: the log that is told of refusals.
    """

    def __init__(
        self, member: Callable[[str], NetMember | None], registry: Registry, system: Journal
    ) -> None:
        self._member, self._registry, self._system = member, registry, system

    async def tell(self, request: Request) -> Mapping[str, Any]:
        """Return every net that the asker may see.

        Raises:
            AccessRefused: the role may see none; that is logged.
            StoreUnavailable, StoreCorrupt: the ledger cannot be read.
        """
        reader = Reader(request.role, request.name)
        if reader.role is not Role.CONSUMER:
            await self._require(reader)
        nets = []
        active = self._registry.active
        for profile in active.communication:
            if profile.net is None:
                continue
            processing = active.processing_of(profile)
            consumer = "" if processing is None else processing.consumer
            own = may_read(reader, LogKind.CONSUMER, consumer)
            if reader.role is Role.CONSUMER and not own:
                continue
            member = self._member(profile.net.net_id)
            about = {"profile": profile.id, "supplier": profile.recipient}
            if member is None:
                nets.append({**about, "net": profile.net.net_id, "state": "not served"})
                continue
            owed = await member.owed() if own else None
            slots = await member.slots()
            if reader.role is Role.CONSUMER and processing is not None:
                # Whoever lived here before was in the same net.
                first = member.rules.slot_at(processing.valid_from)
                slots = [one for one in slots if one.slot >= first]
                owed = [one for one in owed or () if one.first_slot >= first]
            head = member.chain.head
            shown = describe(member.rules, member.state, member.membership, head, slots, owed)
            nets.append(about | shown | await member.faults())
        return {"nets": nets}

    async def _require(self, reader: Reader) -> None:
        try:
            require_read(reader, LogKind.SYSTEM)
        except AccessRefused as refused:
            await self._system.write(
                Event.ACCESS_DENIED,
                Outcome.FAILURE,
                level=Level.WARNING,
                subject="dcnet",
                user=str(reader),
                text=str(refused),
            )
            raise
