"""Who belongs to the net: the key graph that a checked roster and its beacon give, and the edge keys in it.

No I/O of its own; agreements are asked of the security module. Private to this package.
Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation, authorised_edges
from firmware.enforcement.dcnet.founding.beacon import Nonces, beacon_of, draw
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
from firmware.enforcement.dcnet.slot.view import View
from hsm.api import KeySlot, SecurityModule


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
        self,
        rules: NetRules,
        roster: Roster,
        index: int,
        adjacent: Mapping[int, frozenset[int]],
        valid_until: int,
        chains: dict[int, _Chain],
        mac_key: bytes,
    ) -> None:
        """Hold what `join` has checked and derived."""
        self.rules, self.roster, self.index = rules, roster, index
        self.roster_hash = document_hash(roster)
        self.size = len(roster.entries)
        self.mac_key = mac_key
        self._chains, self._adjacent, self._valid_until = chains, adjacent, valid_until
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
            MembershipRefused: the epoch lies before one already used, or too far ahead, or the
                administrators' authorisations of peers are over.
        """
        if epoch > self._valid_until:
            raise MembershipRefused("authorisation", f"peers are authorised until epoch {self._valid_until}")
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

    Raises:
        MembershipRefused: with the check that failed.
        HsmError: the module refuses a key, or fails.
    """
    roster, mine = checked.roster, checked.mine
    if (await module.public_key(key_slot)).point != checked.bundles[mine.index - 1].point:
        raise MembershipRefused("key", "the key of our bundle is no longer in the module")
    check_nonces(checked, nonces)
    roster_hash = document_hash(roster)
    drawn = draw(rules, len(roster.entries), beacon_of(roster_hash, nonces))
    adjacent = check_graph(rules, mine.index, authorised_edges(roster, drawn, authorised))
    valid_until = min(found.valid_until for found in authorised.values())
    chains = {}
    for peer in sorted(adjacent[mine.index]):
        secret = await module.agree(key_slot, checked.bundles[peer - 1].point)
        lower, higher = sorted((mine, roster.entries[peer - 1]), key=lambda member: member.index)
        root = kdf.edge_root(secret, roster_hash, lower.pseudonym, higher.pseudonym)
        chains[peer] = _Chain(roster.first_epoch, kdf.chain_start(root, rules.net))
    secret = await module.agree(key_slot, emp_point)
    mac_key = kdf.mac_key(secret, roster_hash, rules.net, roster.version)
    return Membership(rules, roster, mine.index, adjacent, valid_until, chains, mac_key)


def check_graph(rules: NetRules, index: int, edges: Iterable[graph.Edge]) -> Mapping[int, frozenset[int]]:
    """Return who is whose neighbour, if member `index` may take part in such a key graph.

    Raises:
        MembershipRefused: `degree`, fewer neighbours than d_min + 2; `component`, fewer than N_min members
            are connected with us.
    """
    adjacent = graph.neighbours(edges)
    if (degree := len(adjacent.get(index, ()))) < rules.required_degree():
        raise MembershipRefused("degree", f"{degree} neighbours, {rules.required_degree()} required")
    if (connected := len(graph.component(index, adjacent, adjacent.keys()))) < rules.n_min:
        raise MembershipRefused("component", f"{connected} members hang together, {rules.n_min} required")
    return adjacent
