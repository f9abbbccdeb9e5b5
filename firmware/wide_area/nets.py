"""Which DC-nets this gateway is a member of: follows the active profiles, gives each net a key of its own.

No rule of the protocol is here: `firmware.enforcement.dcnet` has them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.events import RECONCILE, NetEvent, NetEventKind
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.driver import ForgottenNet, NetMember
from firmware.log.diagnostics import INSECURE_SMALL_NET, prefixed
from firmware.profile.model import CommunicationProfile, ProcessingProfile, ProfileSet
from firmware.store.operations import Delete, Put
from firmware.store.partition import Partition
from firmware.supervisor import Service, ServiceGroup
from hsm.api import KeySlot
from hsm.errors import CertificateRefused

_LOG = logging.getLogger("smgw.dcnet")
_SLOTS: Final = (KeySlot.DCNET_1, KeySlot.DCNET_2, KeySlot.DCNET_3, KeySlot.DCNET_4)
_KIND: Final = "net-slot"

MakeMember = Callable[[CommunicationProfile, KeySlot], NetMember]
"""Makes a member from a profile with concealment "dc-net"; raises DcNetError if it cannot be served."""


Forget = Callable[[str, KeySlot | None], Awaitable[None]]
_Terms = tuple[CommunicationProfile, ProcessingProfile | None]
"""What a member was made of."""


_OF_A_SLOT: Final = frozenset(
    (
        NetEventKind.TOTALLED,
        NetEventKind.OWED,
        NetEventKind.LEFT_OUT,
        NetEventKind.RECOVERED,
        NetEventKind.AUDITED,
        NetEventKind.RECONCILED,
    )
)
"""What tells of a slot; everything else is about the net as it is now."""


def whose(event: NetEvent, processing: ProcessingProfile | None, rules: NetRules) -> str:
    """Name the consumer whose log an event goes to, "" for nobody.

    A slot of before belongs to who lived here then, and so does a reconcile slot whose period began before:
    it carries what both owed.
    """
    if processing is None or event.slot is None or event.kind not in _OF_A_SLOT:
        return "" if processing is None else processing.consumer
    beside = event.kind is NetEventKind.RECONCILED or event.reason.startswith(RECONCILE)
    grid = rules.reconciled() if beside else rules
    return processing.consumer if grid.slot_end(event.slot - 1) >= processing.valid_from else ""


class Nets:
    """Members by net id; one service runs them all.

    Args:
        make: makes a member.
        slots: net id -> key slot as remembered.
        partition: remembers new ones.
        group: runs the members.
        forget: erases what is left of a net that no profile wants any more: (net id, its key slot or None).
    """

    def __init__(
        self,
        make: MakeMember,
        slots: Mapping[str, KeySlot],
        partition: Partition,
        group: ServiceGroup,
        *,
        forget: Forget | None = None,
    ) -> None:
        self._forget = forget
        self._make, self._partition, self._group = make, partition, group
        self._slots = dict(slots)
        self._members: dict[str, tuple[_Terms, _Remembering]] = {}

    @staticmethod
    async def remembered(partition: Partition) -> dict[str, KeySlot]:
        """Return which net has which key slot."""
        return {net: KeySlot(data[0]) for net, data in await partition.items(_KIND)}

    def member(self, net_id: str) -> NetMember | None:
        """Return the member of a net, None while there is none."""
        known = self._members.get(net_id)
        return None if known is None else known[1].member

    def members(self) -> Iterable[NetMember]:
        """Return all members."""
        return [service.member for _, service in self._members.values()]

    def follow(self, profiles: ProfileSet) -> None:
        """Take up an active set: members whose profile is unchanged live on, the others are made anew."""
        wanted = {one.net.net_id: one for one in profiles.communication if one.net is not None}
        terms = {net: (one, profiles.processing_of(one)) for net, one in wanted.items()}
        kept = {net: known for net, known in self._members.items() if known[0] == terms.get(net)}
        gone = self._slots.keys() - wanted.keys()
        for net, profile in wanted.items():
            if net not in kept:
                member = self._new(net, profile, wanted)
                if member is not None:
                    kept[net] = (terms[net], _Remembering(self, net, member))
        self._members = kept
        services: dict[str, Service] = {net: service for net, (_, service) in kept.items()}
        if self._forget is not None:
            services |= {
                f"forget.{net}": ForgottenNet(net, partial(self._forget, net, self._slots.get(net)))
                for net in gone
            }
        self._group.replace(services)

    def _new(
        self, net: str, profile: CommunicationProfile, wanted: Mapping[str, CommunicationProfile]
    ) -> NetMember | None:
        slot = self._slot_of(net, wanted)
        if slot is None:
            _LOG.error("net %s: every key slot for nets is taken", net)
            return None
        try:
            member = self._make(profile, slot)
        except (DcNetError, CertificateRefused) as error:
            _LOG.error("net %s is not served: %s", net, error)
            return None
        self._slots = {other: owned for other, owned in self._slots.items() if owned is not slot} | {
            net: slot
        }
        if member.insecure:
            prefixed(_LOG, INSECURE_SMALL_NET).warning("net %s hides nobody: for trying things out only", net)
        return member

    def _slot_of(self, net: str, wanted: Mapping[str, CommunicationProfile]) -> KeySlot | None:
        """Return the slot a net has, or one that no wanted net has; best one that never had a key."""
        if net in self._slots:
            return self._slots[net]
        taken = {slot for other, slot in self._slots.items() if other in wanted}
        free = [slot for slot in _SLOTS if slot not in taken]
        return min(free, key=lambda slot: slot in self._slots.values(), default=None)

    async def remember(self, net: str) -> None:
        """Keep a net's slot, and that its last owner has it no more; durable on return.

        Comes before the net's key is made in it, which destroys the last owner's.
        """
        slot = self._slots[net]
        last = [other for other, owned in (await self.remembered(self._partition)).items() if owned is slot]
        gone = [Delete(_KIND, other) for other in last if other != net]
        await self._partition.commit([*gone, Put(_KIND, net, bytes((slot,)))])


class _Remembering:
    """A member whose key slot is durable before it starts."""

    def __init__(self, nets: Nets, net: str, member: NetMember) -> None:
        self._nets, self._net, self.member = nets, net, member
        self.name = member.name

    async def run(self) -> None:
        await self._nets.remember(self._net)
        await self.member.run()
