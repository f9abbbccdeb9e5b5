"""Who belongs to the net: the key graph that a checked roster and its beacon give, and the edge keys in it.

No I/O of its own; agreements are asked of the security module. Private to this package.
Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation, authorised_edges
from firmware.enforcement.dcnet.founding.beacon import Nonces, beacon_of, draw, joints
from firmware.enforcement.dcnet.founding.keyring import KeyRing, edge_keys
from firmware.enforcement.dcnet.founding.roster import (
    MAX_ROSTER_EPOCHS,
    CheckedRoster,
    Signatures,
    check_nonces,
)
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest
from firmware.enforcement.dcnet.messages.roster import KeyBundle, KeyExchange, Roster, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph, kdf
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.primitives.cells import Joints, reach
from firmware.enforcement.dcnet.slot.view import View
from hsm.api import KeySlot, SecurityModule
from hsm.errors import CommandRefused

_NO_SUCH_KEY: Final = 0x6A88


Rings = tuple[KeyRing, KeyRing | None]
"""A member's keys in a net, and in its reconcile net if there is one."""


class Membership:
    """One gateway in one roster version: its index, its edges, its MAC key."""

    def __init__(
        self,
        rules: NetRules,
        roster: Roster,
        index: int,
        adjacent: Mapping[int, frozenset[int]],
        valid_until: int,
        ring: KeyRing,
        reconcile: Membership | None = None,
        joints: Joints | None = None,
    ) -> None:
        """Hold what `join` has checked and derived; `reconcile` is the same roster in the reconcile net."""
        self.reconcile, self.joints = reconcile, joints
        self.rules, self.roster, self.index = rules, roster, index
        self.roster_hash = document_hash(roster)
        self.size = len(roster.entries)
        self.ring = ring
        self._adjacent, self._valid_until = adjacent, valid_until
        self._view: View | None = None

    def __repr__(self) -> str:
        return f"Membership(net={self.rules.net.hex()}, version={self.roster.version}, index={self.index})"

    @property
    def mac_key(self) -> bytes:
        """Key of our frames' MACs."""
        return self.ring.mac_key

    @property
    def adjacent(self) -> Mapping[int, frozenset[int]]:
        """The whole key graph: member -> neighbours."""
        return self._adjacent

    def view(self, epoch: int) -> View:
        """Return what the rounds of `epoch` need; keys of earlier epochs are erased by this.

        Raises:
            MembershipRefused: the epoch lies before one already used, or too far ahead, or the
                administrators' authorisations of peers are over.
        """
        if epoch > self._valid_until:
            raise MembershipRefused("authorisation", f"peers are authorised until epoch {self._valid_until}")
        if self._view is None or self._view.epoch != epoch:
            if epoch > self.roster.first_epoch + MAX_ROSTER_EPOCHS:
                raise MembershipRefused("epoch", f"epoch {epoch} is too far from the roster's first")
            net = self.rules.net
            self.ring.move(net, epoch)
            edges = {peer: Prf(key) for peer, key in self.ring.epoch_keys(net).items()}
            said = (self.rules, self.roster.version, epoch, self.size, self.index)
            self._view = View(*said, edges, self._adjacent, self.joints)
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
    commitment: bytes,
    signatures: Signatures,
) -> SignedBundle:
    """Sign this gateway's key bundle for a roster version; `commitment` is that to its beacon nonce."""
    certificate_hash = hashlib.sha256(signatures.certificate).digest()
    bundle = KeyBundle(rules.net, version, pseudonym, KeyExchange.ECKA, point, commitment, certificate_hash)
    return SignedBundle(signatures.certificate, await signatures.sign(bundle.to_bytes()))


async def join(
    rules: NetRules,
    checked: CheckedRoster,
    nonces: Nonces,
    authorised: Mapping[str, PeerAuthorisation],
    *,
    module: SecurityModule,
    key_slot: KeySlot,
    emp_point: bytes,
    rings: Rings | None = None,
) -> Membership:
    """Draw the key graph from everybody's nonces and derive this gateway's keys in it.

    An edge that the administrator of one of its ends does not authorise is left out, and the floors count
    without it.

    Args:
        rules: the policy the administrator signed.
        checked: the roster.
        nonces: as they came from the EMP; checked here.
        authorised: what each administrator authorises, checked.
        module: holds the DCNET key.
        key_slot: where.
        emp_point: the EMP's public ENC key.
        rings: our keys as kept once the edges were confirmed; the module is not asked then.

    Raises:
        MembershipRefused: with the check that failed.
        HsmError: the module refuses a key, or fails.
    """
    roster, mine = checked.roster, checked.mine
    if rings is None and not await holds(module, key_slot, checked.bundles[mine.index - 1].point):
        raise MembershipRefused("key", "the key of our bundle is no longer in the module")
    check_nonces(checked, nonces)
    roster_hash = document_hash(roster)
    beacon = beacon_of(roster_hash, nonces)
    drawn, between = draw(rules, len(roster.entries), beacon), joints(rules, len(roster.entries), beacon)
    adjacent = check_graph(rules, mine.index, authorised_edges(roster, drawn, authorised), between)
    valid_until = min(found.valid_until for found in authorised.values())
    if rings is None:
        rings = await _agreed(rules, checked, adjacent[mine.index], module, key_slot, emp_point)
    ring, beside = rings
    if any(one is not None and one.peers != adjacent[mine.index] for one in rings):
        raise MembershipRefused("key", "the kept keys are those of another graph")
    reconcile = None
    if beside is not None:
        reconcile = Membership(
            rules.reconciled(), roster, mine.index, adjacent, valid_until, beside, joints=between
        )
    return Membership(rules, roster, mine.index, adjacent, valid_until, ring, reconcile, between)


async def _agreed(
    rules: NetRules,
    checked: CheckedRoster,
    peers: Iterable[int],
    module: SecurityModule,
    key_slot: KeySlot,
    emp_point: bytes,
) -> Rings:
    """Agree with each neighbour once; return the keys of the net and, if it has one, of its reconcile net."""
    roster, mine = checked.roster, checked.mine
    roster_hash = document_hash(roster)
    roots = {}
    for peer in sorted(peers):
        secret = await module.agree(key_slot, checked.bundles[peer - 1].point)
        lower, higher = sorted((mine, roster.entries[peer - 1]), key=lambda member: member.index)
        roots[peer] = kdf.edge_root(secret, roster_hash, lower.pseudonym, higher.pseudonym)
    with_emp = await module.agree(key_slot, emp_point)

    def ring_of(net: bytes) -> KeyRing:
        edges = {
            peer: edge_keys(root, net, roster_hash, lower=mine.index < peer) for peer, root in roots.items()
        }
        mac_key = kdf.mac_key(with_emp, roster_hash, net, roster.version)
        return KeyRing(roster.first_epoch, mac_key, edges)

    return ring_of(rules.net), ring_of(rules.reconciled().net) if rules.reconcile_slots else None


async def holds(module: SecurityModule, key_slot: KeySlot, point: bytes) -> bool:
    """Tell whether the module holds the key with this public point in a slot.

    Raises:
        HsmError: the module fails.
    """
    try:
        return (await module.public_key(key_slot)).point == point
    except CommandRefused as refused:
        if refused.sw != _NO_SUCH_KEY:
            raise
        return False


def check_graph(
    rules: NetRules, index: int, edges: Iterable[graph.Edge], between: Joints | None = None
) -> Mapping[int, frozenset[int]]:
    """Return who is whose neighbour, if member `index` may take part in such a key graph.

    Args:
        rules: the policy.
        index: our own.
        edges: authorised at both ends.
        between: the cells and the bridges that were drawn, if there is more than one cell.

    Raises:
        MembershipRefused: `degree`, fewer neighbours than d_min + 2; `component`, fewer than N_min members
            are connected with us.
    """
    adjacent = graph.neighbours(edges)
    if (degree := len(adjacent.get(index, ()))) < rules.required_degree():
        raise MembershipRefused("degree", f"{degree} neighbours, {rules.required_degree()} required")
    if (connected := len(reach(index, adjacent, adjacent.keys(), between))) < rules.n_min:
        raise MembershipRefused("component", f"{connected} members hang together, {rules.n_min} required")
    return adjacent
