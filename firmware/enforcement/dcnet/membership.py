"""Who belongs to the net: checks of a roster and its key bundles, and the edge keys that follow from them.

No I/O of its own; agreements are asked of the security module. Private to this package.
In this stage the roster is static and the graph complete. Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from firmware.enforcement.dcnet import graph, kdf
from firmware.enforcement.dcnet.arithmetic import Prf
from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.messages import (
    EpochManifest,
    KeyBundle,
    KeyExchange,
    Roster,
    RosterPublication,
    SignedBundle,
    document_hash,
    from_bitmap,
)
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.view import View
from hsm.api import KeySlot, SecurityModule

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

    async def by_member(self, signed: bytes, certificate: bytes) -> bytes:
        """Check that `certificate` (DER) is a gateway's SIG certificate of our PKI and its key signed."""


@dataclass(slots=True)
class _Chain:
    """Key chain of one edge; moves forward only."""

    epoch: int
    key: bytes = field(repr=False)

    def key_of(self, net: bytes, epoch: int) -> bytes:
        """Return EK of `epoch` and forget the chain keys before it."""
        if epoch < self.epoch:
            raise MembershipRefused("epoch", f"the keys of epoch {epoch} are erased")
        while self.epoch < epoch:
            self.key, self.epoch = kdf.chain_next(self.key, net), self.epoch + 1
        return kdf.epoch_key(self.key, net, epoch)


class Membership:
    """One gateway in one roster version: its index, its edges, its MAC key."""

    def __init__(
        self, rules: NetRules, roster: Roster, index: int, chains: dict[int, _Chain], mac_key: bytes
    ) -> None:
        """Hold what `join` has checked and derived."""
        self.rules, self.roster, self.index = rules, roster, index
        self.roster_hash = document_hash(roster)
        self.size = len(roster.entries)
        self.mac_key = mac_key
        self._chains = chains
        edges = graph.complete_graph(entry.index for entry in roster.entries)
        self._adjacent = graph.neighbours(edges)
        self._view: View | None = None

    def __repr__(self) -> str:
        return f"Membership(net={self.rules.net.hex()}, version={self.roster.version}, index={self.index})"

    @property
    def adjacent(self) -> Mapping[int, frozenset[int]]:
        """The whole key graph: member -> neighbours."""
        return self._adjacent

    def view(self, epoch: int) -> View:
        """Return what the rounds of `epoch` need; keys of earlier epochs are erased by this.

        Raises:
            MembershipRefused: the epoch lies before one already used, or too far ahead.
        """
        if self._view is None or self._view.epoch != epoch:
            if epoch > self.roster.first_epoch + MAX_ROSTER_EPOCHS:
                raise MembershipRefused("epoch", f"epoch {epoch} is too far from the roster's first")
            net = self.rules.net
            edges = {peer: Prf(chain.key_of(net, epoch)) for peer, chain in self._chains.items()}
            self._view = View(
                self.rules, self.roster.version, epoch, self.size, self.index, edges, self._adjacent
            )
        return self._view

    def check_epoch(self, manifest: EpochManifest, epoch: int) -> None:
        """Check that a signed EpochManifest starts a chain of `epoch` in this roster.

        Raises:
            MembershipRefused: other net, roster or epoch.
            MalformedObject: its bitmap does not fit the roster.
        """
        rules = self.rules
        if (manifest.net, manifest.version, manifest.roster_hash) != (
            rules.net,
            self.roster.version,
            self.roster_hash,
        ):
            raise MembershipRefused("epoch-roster", "an epoch manifest of another net or roster")
        if manifest.epoch != epoch or rules.epoch_of(manifest.first_slot) != epoch:
            raise MembershipRefused("epoch", f"an epoch manifest of epoch {manifest.epoch}, not {epoch}")
        from_bitmap(manifest.present, self.size)


async def make_bundle(
    rules: NetRules,
    version: int,
    pseudonym: bytes,
    point: bytes,
    signatures: Signatures,
) -> SignedBundle:
    """Sign this gateway's key bundle for a roster version."""
    certificate_hash = hashlib.sha256(signatures.certificate).digest()
    bundle = KeyBundle(rules.net, version, pseudonym, KeyExchange.ECKA, point, b"", certificate_hash)
    return SignedBundle(signatures.certificate, await signatures.sign(bundle.to_bytes()))


async def join(
    rules: NetRules,
    publication: RosterPublication,
    own: KeyBundle,
    *,
    today: int,
    signatures: Signatures,
    module: SecurityModule,
    key_slot: KeySlot,
    emp_point: bytes,
) -> Membership:
    """Check a published roster and derive this gateway's keys in it.

    Args:
        rules: the policy the administrator signed.
        publication: as it came from the EMP.
        own: the bundle this gateway published.
        today: the current epoch (UTC day number).
        signatures: checks signers against what the profiles pin.
        module: holds the DCNET key.
        key_slot: where.
        emp_point: the EMP's public ENC key.

    Raises:
        MembershipRefused: with the check that failed.
        MalformedObject: a document is not in its canonical form.
        WanError, HsmError: a signature or a certificate path is refused, or the module fails.
    """
    if (await module.public_key(key_slot)).point != own.point:
        raise MembershipRefused("key", "the key of our bundle is no longer in the module")
    content = await signatures.by_emp(publication.signed)
    if not publication.countersigned:
        raise MembershipRefused("countersignature", "no administrator has signed the roster")
    for countersigned in publication.countersigned:
        if await signatures.by_gwa(countersigned) != content:
            raise MembershipRefused("countersignature", "the administrator signed another roster")
    roster = Roster.from_bytes(content)
    check_roster(rules, roster, own, today)
    bundles = await _check_bundles(roster, publication.bundles, signatures)
    mine = next(entry for entry in roster.entries if entry.bundle_hash == document_hash(own))
    roster_hash = document_hash(roster)
    chains = {}
    for entry, bundle in zip(roster.entries, bundles, strict=True):
        if entry.index != mine.index:
            secret = await module.agree(key_slot, bundle.point)
            lower, higher = sorted((mine, entry), key=lambda member: member.index)
            root = kdf.edge_root(secret, roster_hash, lower.pseudonym, higher.pseudonym)
            chains[entry.index] = _Chain(roster.first_epoch, kdf.chain_start(root, rules.net))
    secret = await module.agree(key_slot, emp_point)
    mac_key = kdf.mac_key(secret, roster_hash, rules.net, roster.version)
    return Membership(rules, roster, mine.index, chains, mac_key)


def check_roster(rules: NetRules, roster: Roster, own: KeyBundle, today: int) -> None:
    """Check a roster's content against the policy and our own bundle.

    Raises:
        MembershipRefused: with the check that failed.
    """
    size = len(roster.entries)
    if (roster.net, roster.version) != (own.net, own.version):
        raise MembershipRefused("net", "a roster of another net or version")
    if roster.policy_hash != rules.policy_hash() or roster.schema_hash != rules.schema_hash():
        raise MembershipRefused("policy", "the roster was made for another policy")
    if not rules.n_min <= size <= min(rules.n_max, graph.COMPLETE_UP_TO):
        raise MembershipRefused("size", f"{size} members")
    if size - 1 < rules.required_degree():
        raise MembershipRefused("degree", f"{size - 1} neighbours, {rules.required_degree()} required")
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
) -> list[KeyBundle]:
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
    return bundles
