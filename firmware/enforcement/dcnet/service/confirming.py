"""A member and its neighbours show each other that they hold one key; the supplier carries it.

Part of the driver. Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.confirmation import (
    Confirmations,
    EdgeConfirm,
    confirm_for,
    dispute_of,
    tag_for,
)
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.documents import from_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest
from firmware.enforcement.dcnet.messages.roster import Attestation
from firmware.enforcement.dcnet.service.client import NetClient
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.service.witnessing import content_of

Tell = Callable[[NetEventKind, int | None, int, str], Awaitable[None]]
"""(kind, slot, size of the set, reason) for the logs."""


class Confirming:
    """Confirms the edges of one membership.

    Args:
        gateway_id: lower case, as in URLs.
        signatures: signs our tags, checks the neighbours'.
        client: the way to the net's EMP.
        tell: takes what the logs are told.
        withdrawn: certificate hashes that the administrator withdrew.
        log: diagnostics.
    """

    def __init__(
        self,
        gateway_id: str,
        *,
        signatures: Signatures,
        client: NetClient,
        tell: Tell,
        withdrawn: Callable[[], frozenset[bytes]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._gateway_id, self._signatures = gateway_id, signatures
        self._client, self._tell, self._log = client, tell, log
        self._withdrawn = withdrawn
        self._sent: bytes | None = None
        self._told = False
        self._disputes: dict[int, bytes | None] = {}
        """Neighbour -> signed dispute that the EMP has not got yet, None once it has."""

    async def go_on(self, membership: Membership, epoch: int) -> bool:
        """Hand in our tags and look for the neighbours'; whether this member may begin.

        It may once every neighbour has confirmed, or the supplier has signed, by the EpochManifest of
        `epoch`, that those who have not are not expected.

        Raises:
            MembershipRefused: `revoked`; a withdrawn peer is our neighbour again, or we are withdrawn.
        """
        roster, version = membership.roster, membership.roster.version
        check_usable(membership, frozenset(), self._withdrawn())
        if again := sorted(membership.ring.peers & _gone(membership, self._withdrawn())):
            raise MembershipRefused("revoked", f"members {again} were withdrawn by the administrator")
        if not self._told:
            if self._sent is None:
                said = confirm_for(roster, membership.index, membership.ring.tags())
                signed = await self._signatures.sign(said.to_bytes())
                self._sent = Attestation(self._signatures.certificate, signed).to_bytes()
            self._told = await self._client.confirm(version, self._gateway_id, self._sent)
            if not self._told:
                return False
        await self.collect(membership)
        missing = membership.ring.unconfirmed
        if not missing:
            return True
        enough = len(membership.ring.peers - missing) >= membership.rules.required_degree()
        if not enough or (signed_epoch := await self._client.epoch(epoch)) is None:
            return False
        content = await content_of(membership.rules, roster, self._signatures, signed_epoch)
        started = EpochManifest.from_bytes(content)
        if started.version != version:
            return False  # another roster is in force in that epoch
        membership.check_epoch(started, epoch)
        return not missing & from_bitmap(started.present, membership.size)

    async def collect(self, membership: Membership) -> bool:
        """Take what neighbours have confirmed since; whether something new came. A wrong tag is disputed."""
        missing, version = membership.ring.unconfirmed, membership.roster.version
        if not missing or (data := await self._client.confirmations(version, self._gateway_id)) is None:
            return False
        for item in Confirmations.from_bytes(data).items:
            try:
                content = await self._signatures.by_member(item.signed, item.certificate)
                shown = EdgeConfirm.from_bytes(content)
                own = (membership.roster, membership.index)
                tag = tag_for(*own, item.certificate, shown, membership.roster_hash)
            except REFUSED as error:  # as good as none; others may have confirmed
                self._log.info("a confirmation is ignored: %s", error)
                continue
            if shown.index in missing and not membership.ring.confirm(shown.index, tag):
                await self._accuse(membership, shown)
        for peer, signed in self._disputes.items():
            if signed is not None and await self._client.dispute(version, self._gateway_id, signed):
                self._disputes[peer] = None
        return membership.ring.unconfirmed != missing

    async def _accuse(self, membership: Membership, shown: EdgeConfirm) -> None:
        """Dispute an edge, once: it stays unusable in this roster."""
        if shown.index not in self._disputes:
            dispute = dispute_of(membership.roster, membership.index, shown)
            self._disputes[shown.index] = await self._signatures.sign(dispute.to_bytes())
            reason = f"the tag of member {shown.index} is wrong"
            await self._tell(NetEventKind.DISPUTED, None, membership.size, reason)


def check_usable(membership: Membership, expected: frozenset[int], withdrawn: frozenset[bytes]) -> None:
    """Refuse a slot in which pads would be shared with somebody they must not be shared with.

    Args:
        membership: ours.
        expected: P of the slot.
        withdrawn: certificate hashes that the administrator withdrew.

    Raises:
        MembershipRefused: `revoked` or `confirmation`.
    """
    gone = _gone(membership, withdrawn)
    if membership.index in gone:
        raise MembershipRefused("revoked", "the administrator has withdrawn this gateway")
    if cut := sorted(membership.ring.peers & expected & gone):
        raise MembershipRefused("revoked", f"the administrator has withdrawn {cut}")
    if open_ := sorted(membership.ring.unconfirmed & expected):
        raise MembershipRefused("confirmation", f"no right tag of {open_}")


def _gone(membership: Membership, withdrawn: frozenset[bytes]) -> frozenset[int]:
    """Return the indices of withdrawn members."""
    entries = membership.roster.entries
    return frozenset(entry.index for entry in entries if entry.certificate_hash in withdrawn)
