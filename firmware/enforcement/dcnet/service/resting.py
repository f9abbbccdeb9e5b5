"""Edges that rest: an audit has shown that their other ends state other pads; the next roster has new keys.

The supplier only carries what the other end has signed; whether it differs from ours is judged here, and is
durable before the next slot. Spec: docs/dcnet.md, disputed edges.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.faults import CanaryStatement, OtherEnds
from firmware.enforcement.dcnet.service.auditing import LastAudit
from firmware.enforcement.dcnet.service.client import NetClient
from firmware.enforcement.dcnet.service.confirming import Tell
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import StoreCorrupt

RESTING: Final = "resting"
"""Record, with the roster's version: neighbours whose edges rest."""
_ANSWERED: Final = "other-ends"
"""Record: slot of the last audit whose finding we have seen."""
_ASKED_SLOTS: Final = 96
"""So many slots long a finding is asked for."""


class RestingEdges:
    """Of one net, in the roster that is in force.

    Args:
        client: the way to the net's EMP.
        ledger: keeps what rests.
        signatures: checks what the other ends have signed.
        tell: takes what the logs are told.
        log: diagnostics.
    """

    def __init__(
        self,
        client: NetClient,
        ledger: Ledger,
        signatures: Signatures,
        tell: Tell,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._client, self._ledger, self._signatures = client, ledger, signatures
        self._tell, self._log = tell, log

    async def admit(self, membership: Membership, expected: frozenset[int]) -> None:
        """Refuse a slot in which the other end of a resting edge is expected.

        Raises:
            MembershipRefused: `disputed`.
            StoreCorrupt: what was kept is no such record.
        """
        if cut := sorted(await self.edges(membership.roster.version) & expected):
            raise MembershipRefused("disputed", f"the edges with {cut} rest until there are new keys")

    async def edges(self, version: int) -> frozenset[int]:
        """Return the neighbours whose edges rest in a roster. Raises `StoreCorrupt`."""
        return frozenset(await self._numbers(f"{RESTING}-{version}"))

    async def look(self, membership: Membership, last: LastAudit | None, slot: int) -> None:
        """Ask once, after an audit that we answered, what was found about our edges.

        Args:
            membership: ours.
            last: the last audit.
            slot: the one that is about to be served.
        """
        if last is None or not last.slot < slot <= last.slot + _ASKED_SLOTS:
            return
        if await self._numbers(_ANSWERED) == [last.slot]:
            return
        try:
            content = await self._signatures.by_member(last.signed, self._signatures.certificate)
            said = CanaryStatement.from_bytes(content)
            if said.version != membership.roster.version:
                return
            if (body := await self._client.other_ends(said.slot, said.index)) is None:
                return
            found = OtherEnds.from_bytes(body)
        except REFUSED as error:
            self._log.info("slot %d: a finding is ignored: %s", last.slot, error)
            return
        differ = set[int]()
        for item in found.items:
            try:
                content = await self._signatures.by_member(item.signed, item.certificate)
                differ |= _differs(membership, said, CanaryStatement.from_bytes(content), item.certificate)
            except REFUSED as error:
                self._log.info("slot %d: the other end of an edge is ignored: %s", last.slot, error)
        if differ:
            version = membership.roster.version
            await self._ledger.keep(
                f"{RESTING}-{version}", encode(sorted(await self.edges(version) | differ))
            )
            reason = f"members {sorted(differ)} state other pads; the edges rest until there are new keys"
            await self._tell(NetEventKind.DISPUTED, said.slot, membership.size, reason)
        await self._ledger.keep(_ANSWERED, encode([last.slot]))

    async def _numbers(self, name: str) -> list[int]:
        if (data := await self._ledger.kept(name)) is None:
            return []
        try:
            items: Any = decode_kept(data)
            return [int(one) for one in items]
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("a record of resting edges has another form than expected") from error


def _differs(
    membership: Membership, own: CanaryStatement, other: CanaryStatement, certificate: bytes
) -> set[int]:
    """Return the other end's index if it has signed another word for our edge.

    Raises:
        MembershipRefused: not about our slot, or not that member's.
    """
    meant = (own.net, own.version, own.slot, own.manifest_hash)
    entries, pads = membership.roster.entries, dict(own.pads)
    if (other.net, other.version, other.slot, other.manifest_hash) != meant:
        raise MembershipRefused("disputed", "a statement about another slot")
    if other.index not in pads:
        raise MembershipRefused("disputed", "no neighbour of ours")
    if hashlib.sha256(certificate).digest() != entries[other.index - 1].certificate_hash:
        raise MembershipRefused("disputed", f"member {other.index} has another certificate")
    return {other.index} if dict(other.pads).get(own.index) != pads[other.index] else set()
