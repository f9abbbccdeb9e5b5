"""What a member believes of a roster: signers, content, key bundles, and the nonces that draw its graph.

Checks only; keys follow in `membership`. Private to this package. Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconReveal, Nonces
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import (
    Administrator,
    Attestation,
    KeyBundle,
    Roster,
    RosterEntry,
    RosterPublication,
    SignedBundle,
)
from firmware.enforcement.dcnet.policy import NetRules

MAX_ROSTER_EPOCHS: Final = 400
"""A roster is redrawn every 30 days; one much older is not believed, nor ratcheted through."""


class Signatures(Protocol):
    """Signing and checking the control plane; each check returns the signed content.

    Checks raise `WanError` or `HsmError` (signature, signer, path) when they refuse.
    """

    @property
    def certificate(self) -> bytes:
        """DER of this gateway's SIG certificate."""

    async def sign(self, content: bytes) -> bytes:
        """Sign as this gateway."""

    async def by_emp(self, signed: bytes) -> bytes:
        """Check that the net's EMP signed."""

    async def by_gwa(self, signed: bytes) -> bytes:
        """Check that this gateway's administrator signed."""

    async def by_administrator(self, signed: bytes, certificate: bytes) -> bytes:
        """Check that `certificate` (DER) is an administrator's SIG one of our PKI and its key signed."""

    async def by_member(self, signed: bytes, certificate: bytes) -> bytes:
        """Check that `certificate` (DER) is a gateway's SIG certificate of our PKI and its key signed."""

    def sealed(self) -> Signatures:
        """For what was checked when it was taken, and has been in the sealed store since: contents only.

        Certificates run out and are renewed while a roster holds; what was right then is right still.
        """


@dataclass(frozen=True, slots=True)
class CheckedRoster:
    """A roster that passed every check of `check_roster`."""

    roster: Roster
    mine: RosterEntry
    bundles: tuple[KeyBundle, ...]
    """In the order of the indices."""


async def check_roster(
    rules: NetRules,
    publication: RosterPublication,
    own: KeyBundle,
    *,
    today: int,
    signatures: Signatures,
) -> CheckedRoster:
    """Check a published roster; after this, and not before, our beacon nonce may be revealed.

    Args:
        rules: the policy the administrator signed.
        publication: as it came from the EMP.
        own: the bundle this gateway published.
        today: the current epoch (UTC day number).
        signatures: checks signers against what the profiles pin.

    Raises:
        MembershipRefused: with the check that failed.
        MalformedObject: a document is not in its canonical form.
        WanError, HsmError: a signature or a certificate path is refused.
    """
    content = await signatures.by_emp(publication.signed)
    roster = Roster.from_bytes(content)
    check_content(rules, roster, own, today)
    mine = next(entry for entry in roster.entries if entry.bundle_hash == document_hash(own))
    await _check_countersigned(roster, content, mine, publication, signatures)
    return CheckedRoster(roster, mine, await _check_bundles(roster, publication.bundles, signatures))


async def _check_countersigned(
    roster: Roster,
    content: bytes,
    mine: RosterEntry,
    publication: RosterPublication,
    signatures: Signatures,
) -> None:
    """Each administrator of the roster has signed this very content; ours with the key that is pinned."""
    if len(publication.countersigned) != len(roster.administrators):
        raise MembershipRefused(
            "countersignature",
            f"{len(publication.countersigned)} of {len(roster.administrators)} administrators have signed",
        )
    for administrator, item in zip(roster.administrators, publication.countersigned, strict=True):
        if hashlib.sha256(item.certificate).digest() != administrator.certificate_hash:
            raise MembershipRefused("countersignature", f"{administrator.name}: another certificate")
        if await _signed(administrator, mine, item, signatures) != content:
            raise MembershipRefused("countersignature", f"{administrator.name} signed another roster")


async def _signed(
    administrator: Administrator, mine: RosterEntry, item: Attestation, signatures: Signatures
) -> bytes:
    """Return what an administrator of the roster signed; our own is known by its pinned key."""
    if administrator.name == mine.administrator:
        return await signatures.by_gwa(item.signed)
    return await signatures.by_administrator(item.signed, item.certificate)


async def check_authorisations(
    checked: CheckedRoster, attested: Sequence[Attestation], today: int, signatures: Signatures
) -> dict[str, PeerAuthorisation]:
    """Check each administrator's authorisation of peers; return them by the administrators' names.

    Args:
        checked: the roster.
        attested: as published, in the order of the roster's administrators.
        today: the current epoch.
        signatures: checks signers against what the profiles pin.

    Raises:
        MembershipRefused: `authorisation`; one is missing, for another roster, or over.
        MalformedObject: one is not in its canonical form.
        WanError, HsmError: a signature or a certificate path is refused.
    """
    roster = checked.roster
    if len(attested) != len(roster.administrators):
        raise MembershipRefused("authorisation", "not every administrator has authorised peers")
    found = {}
    for administrator, item in zip(roster.administrators, attested, strict=True):
        if hashlib.sha256(item.certificate).digest() != administrator.certificate_hash:
            raise MembershipRefused("authorisation", f"{administrator.name}: another certificate")
        content = await _signed(administrator, checked.mine, item, signatures)
        given = PeerAuthorisation.from_bytes(content)
        if (given.net, given.version, given.roster_hash) != (
            roster.net,
            roster.version,
            document_hash(roster),
        ):
            raise MembershipRefused("authorisation", f"{administrator.name}: for another roster")
        if given.valid_until < today:
            raise MembershipRefused("authorisation", f"{administrator.name}: over since {given.valid_until}")
        found[administrator.name] = given
    return found


def check_content(rules: NetRules, roster: Roster, own: KeyBundle, today: int) -> None:
    """Check a roster's content against the policy and our own bundle.

    Raises:
        MembershipRefused: with the check that failed.
    """
    size = len(roster.entries)
    if (roster.net, roster.version) != (own.net, own.version):
        raise MembershipRefused("net", "a roster of another net or version")
    if roster.policy_hash != rules.policy_hash() or roster.schema_hash != rules.schema_hash():
        raise MembershipRefused("policy", "the roster was made for another policy")
    if not rules.n_min <= size <= rules.n_max:
        raise MembershipRefused("size", f"{size} members")
    if (smallest := size // rules.cells) - 1 < rules.required_degree():
        raise MembershipRefused("degree", f"{smallest - 1} neighbours, {rules.required_degree()} required")
    if not today - MAX_ROSTER_EPOCHS <= roster.first_epoch <= today + 1:
        raise MembershipRefused("epoch", f"the roster's first epoch is {roster.first_epoch}")
    for what, values in (
        ("pseudonym", [entry.pseudonym for entry in roster.entries]),
        ("certificate", [entry.certificate_hash for entry in roster.entries]),
        ("bundle", [entry.bundle_hash for entry in roster.entries]),
    ):
        if len(set(values)) != size:
            raise MembershipRefused("twice", f"two members with one {what}")
    if document_hash(own) not in {entry.bundle_hash for entry in roster.entries}:
        raise MembershipRefused("absent", "this gateway is not in the roster")


async def _check_bundles(
    roster: Roster, published: Sequence[SignedBundle], signatures: Signatures
) -> tuple[KeyBundle, ...]:
    if len(published) != len(roster.entries):
        raise MembershipRefused("bundles", f"{len(published)} bundles for {len(roster.entries)} members")
    bundles = []
    for entry, item in zip(roster.entries, published, strict=True):
        if hashlib.sha256(item.certificate).digest() != entry.certificate_hash:
            raise MembershipRefused("certificate", f"member {entry.index}: another certificate")
        bundle = KeyBundle.from_bytes(await signatures.by_member(item.signed, item.certificate))
        if document_hash(bundle) != entry.bundle_hash:
            raise MembershipRefused("bundle", f"member {entry.index}: another bundle")
        if (bundle.net, bundle.version, bundle.pseudonym, bundle.certificate_hash) != (
            roster.net,
            roster.version,
            entry.pseudonym,
            entry.certificate_hash,
        ):
            raise MembershipRefused("bundle", f"member {entry.index}: made for something else")
        bundles.append(bundle)
    if len({bundle.point for bundle in bundles}) != len(bundles):
        raise MembershipRefused("twice", "two members with one key")
    commitments = {roster.emp_commitment, *(one.commitment for one in roster.administrators)}
    commitments |= {bundle.commitment for bundle in bundles}
    if len(commitments) != 1 + len(roster.administrators) + len(bundles):
        raise MembershipRefused("twice", "two parties with one commitment")
    return tuple(bundles)


def check_nonces(checked: CheckedRoster, nonces: Nonces) -> None:
    """Check that every party gave the nonce it had committed to.

    Args:
        checked: holds the commitments, in roster and bundles.
        nonces: as published.

    Raises:
        MembershipRefused: `beacon` (another roster's, or one missing) or `reveal` (not the committed nonce).
    """
    roster, commitments = checked.roster, [bundle.commitment for bundle in checked.bundles]
    if (nonces.net, nonces.version) != (roster.net, roster.version):
        raise MembershipRefused("beacon", "nonces of another net or roster")
    if (len(nonces.administrators), len(nonces.members)) != (len(roster.administrators), len(commitments)):
        raise MembershipRefused("beacon", "not every party has revealed its nonce")
    committed = (
        ("the supplier", nonces.emp, roster.emp_commitment),
        *(
            (f"administrator {one.name}", nonce, one.commitment)
            for one, nonce in zip(roster.administrators, nonces.administrators, strict=True)
        ),
        *(
            (f"member {index}", nonce, commitment)
            for index, (nonce, commitment) in enumerate(zip(nonces.members, commitments, strict=True), 1)
        ),
    )
    for who, nonce, commitment in committed:
        if BeaconReveal(roster.net, roster.version, nonce).commitment != commitment:
            raise MembershipRefused("reveal", f"{who}: not the nonce it had committed to")
