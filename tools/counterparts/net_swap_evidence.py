"""What a swap's presentation shows: both rosters as countersigned, their beacons, all offers. No I/O.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.beacon import BeaconReveal, Nonces, beacon_of
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, KeyBundle, Roster
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_swap_choice import Exchange
from tools.counterparts.net_swap_documents import (
    SideEvidence,
    SwapOffer,
    SwapPresentation,
    SwapProposal,
    SwapSide,
)
from wan.errors import OrderRefused

OpenAttestation = Callable[[Attestation], Awaitable[bytes]]
"""Checks what an administrator signed and returns it; raises `MessageRefused`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One side, checked."""

    roster: Roster
    beacon: bytes
    exchange: Exchange

    @property
    def administrators(self) -> Mapping[str, bytes]:
        """Names of its administrators -> hashes of their certificates."""
        return {one.name: one.certificate_hash for one in self.roster.administrators}


async def proposal_of(shown: SwapPresentation, trust: Trust, emp: bytes) -> SwapProposal:
    """Return what the supplier proposes.

    Args:
        shown: as it came.
        trust: anchors for the supplier's certificate.
        emp: DER of the certificate that we have ordered.

    Raises:
        OrderRefused: `form`, `signer`.
    """
    return SwapProposal.from_bytes(await _by_emp(shown.signed, trust, emp))


async def _by_emp(item: bytes, trust: Trust, emp: bytes) -> bytes:
    try:
        checked = await check_signed(item, trust)
    except MessageRefused as error:
        raise OrderRefused("form", str(error)) from error
    if checked.signer != emp:
        raise OrderRefused("signer", "not signed by the supplier of these nets")
    return checked.content


async def check_side(
    side: SwapSide,
    other: SwapSide,
    first_epoch: int,
    evidence: SideEvidence,
    rules: NetRules,
    *,
    trust: Trust,
    emp: bytes,
    open_attestation: OpenAttestation,
) -> Shown:
    """Check one side of a proposal by what is shown of it.

    Args:
        side: what is proposed for it.
        other: the other side.
        first_epoch: as proposed.
        evidence: of this side.
        rules: that this net must have.
        trust: see `proposal_of`.
        emp: see `proposal_of`.
        open_attestation: checks what administrators signed.

    Raises:
        OrderRefused: `form`, `signer`, `roster` (another one than proposed, or not countersigned by each of
            its administrators), `policy`, `beacon` (a nonce is not the one that was committed to), `offer`
            (one is missing, or for something else).
    """
    try:
        roster = Roster.from_bytes(await _by_emp(evidence.signed, trust, emp))
        if document_hash(roster) != side.roster_hash or roster.net != side.net:
            raise OrderRefused("roster", "another roster than proposed")
        if roster.policy_hash != rules.policy_hash():
            raise OrderRefused("policy", f"net {side.net.hex()} has other rules")
        content = roster.to_bytes()
        countersigned = [
            (hashlib.sha256(one.certificate).digest(), await open_attestation(one))
            for one in evidence.countersigned
        ]
        if countersigned != [(one.certificate_hash, content) for one in roster.administrators]:
            raise OrderRefused("roster", "not countersigned by its administrators")
        beacon = _beacon(roster, evidence)
        offered = await _offers(roster, side, other, first_epoch, evidence, open_attestation)
    except (DcNetError, MessageRefused) as error:
        raise OrderRefused("form", str(error)) from error
    members = frozenset(entry.certificate_hash for entry in roster.entries)
    exchange = Exchange(rules, members, frozenset(side.gone), frozenset(side.come), offered)
    return Shown(roster, beacon, exchange)


def _beacon(roster: Roster, evidence: SideEvidence) -> bytes:
    bundles = [KeyBundle.from_bytes(one) for one in evidence.bundles]
    if [document_hash(one) for one in bundles] != [entry.bundle_hash for entry in roster.entries]:
        raise OrderRefused("beacon", "other bundles than those of the roster")
    nonces = Nonces.from_bytes(evidence.nonces)
    shown = [nonces.emp, *nonces.administrators, *nonces.members]
    wanted = [
        roster.emp_commitment,
        *(one.commitment for one in roster.administrators),
        *(one.commitment for one in bundles),
    ]
    if [BeaconReveal(roster.net, roster.version, one).commitment for one in shown] != wanted:
        raise OrderRefused("beacon", "a nonce is not the one that was committed to")
    return beacon_of(document_hash(roster), nonces)


async def _offers(
    roster: Roster,
    side: SwapSide,
    other: SwapSide,
    first_epoch: int,
    evidence: SideEvidence,
    open_attestation: OpenAttestation,
) -> frozenset[bytes]:
    """Return who may go: of every administrator its own gateways, as far as it offers them."""
    if len(evidence.offers) != len(roster.administrators):
        raise OrderRefused("offer", "not every administrator's is shown")
    found: set[bytes] = set()
    for administrator, attestation in zip(roster.administrators, evidence.offers, strict=True):
        said = SwapOffer.from_bytes(await open_attestation(attestation))
        if hashlib.sha256(attestation.certificate).digest() != administrator.certificate_hash:
            raise OrderRefused("offer", f"not signed by {administrator.name}")
        about = (said.net, said.target, said.roster_hash, said.first_epoch, said.administrator)
        if about != (side.net, other.net, side.roster_hash, first_epoch, administrator.name):
            raise OrderRefused("offer", f"{administrator.name} offers something else")
        own = {e.certificate_hash for e in roster.entries if e.administrator == administrator.name}
        if not set(said.certificates) <= own:
            raise OrderRefused("offer", f"{administrator.name} offers gateways that are not its own")
        found |= set(said.certificates)
    return frozenset(found)
