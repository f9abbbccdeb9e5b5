"""Who in a roster has shown its neighbours the right keys, as the supplier sees it: it relays and counts.

Shares the codecs of the product and none of its checks. It cannot judge a tag, having no key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.confirmation import Confirmations, EdgeConfirm, EdgeDispute
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.faults import DisputedEdge
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_journal import Journal, Room
from tools.counterparts.server import Emit


class OpensMembers(Protocol):
    """The part of `net_founding.CoordinatorKeys` that is used here."""

    async def open_bundle(self, bundle: SignedBundle) -> tuple[str, bytes]:
        """Check what a gateway signed; return (gateway id, content). Raises `MessageRefused`."""


class ConfirmationRefused(Exception):
    """What a member sent is no confirmation or dispute of its own edges."""


class Confirmed:
    """Confirmations and disputes of one roster."""

    def __init__(self, rules: NetRules, keys: OpensMembers, emit: Emit, kept: Room | None = None) -> None:
        """Begin without a roster: nothing is taken yet. What is taken outlives this process in `kept`."""
        self._kept = kept or Journal().room("confirmed")
        self._rules, self._keys, self._emit = rules, keys, emit
        self._roster: Roster | None = None
        self._roster_hash = b""
        self._members: tuple[str, ...] = ()
        self._neighbours: dict[int, frozenset[int]] = {}
        self._shown: dict[int, tuple[Attestation, EdgeConfirm]] = {}
        self._disputed: set[tuple[int, int]] = set()
        self.reports: list[bytes] = []
        """What the administrators have to be told; whoever does so takes it out."""
        self.withdrawn: set[int] = set()
        """Indices that an administrator withdrew."""
        self.changed = asyncio.Event()

    def begin(self, roster: Roster, members: Iterable[str], edges: Iterable[graph.Edge]) -> None:
        """Take confirmations of these edges from now on."""
        self._roster, self._members = roster, tuple(members)
        self._roster_hash = document_hash(roster)
        self._neighbours = graph.neighbours(edges)
        for _, data in self._kept.items("confirm/"):
            shown, content = _pair(data)
            said = EdgeConfirm.from_bytes(content)
            self._shown[said.index] = (Attestation.from_bytes(shown), said)
        for edge, report in self._kept.items("dispute/"):
            a, b = edge.split("-")
            self._disputed.add((int(a), int(b)))
            self.reports += [report] if report else []
        self.withdrawn = {int(index) for index, _ in self._kept.items("withdrawn/")}

    def withdraw(self, indices: Iterable[int]) -> None:
        """Have these withdrawn by their administrators, and no others."""
        wanted = set(indices)
        for index in self.withdrawn - wanted:
            self._kept.drop(f"withdrawn/{index}")
        for index in wanted - self.withdrawn:
            self._kept.put(f"withdrawn/{index}", b"")
        self.withdrawn = wanted

    @property
    def present(self) -> frozenset[int]:
        """Who may take part: confirmed, not withdrawn, and no two of them in dispute.

        Of two in dispute the one with more disputes stays out, both if they have equally many.
        """
        disputes = Counter(one for edge in self._disputed for one in edge)
        out = set(self.withdrawn)
        for a, b in sorted(self._disputed, key=lambda edge: -max(disputes[edge[0]], disputes[edge[1]])):
            if a not in out and b not in out:
                out |= {one for one in (a, b) if disputes[one] == max(disputes[a], disputes[b])}
        return frozenset(self._shown) - out

    def _report(self, edge: tuple[int, int], report: bytes) -> None:
        self.reports.append(report)
        self._kept.put(f"dispute/{edge[0]}-{edge[1]}", report)

    def reported(self) -> None:
        """The administrators know of all that is in `reports`, or are going to."""
        self.reports.clear()
        for edge, report in self._kept.items("dispute/"):
            if report:
                self._kept.put(f"dispute/{edge}", b"")

    @property
    def disputed(self) -> frozenset[tuple[str, str]]:
        """Gateway ids of the ends of disputed edges."""
        return frozenset((self._members[a - 1], self._members[b - 1]) for a, b in self._disputed)

    async def confirm(self, gateway: str, body: bytes) -> int:
        """Take a member's tags; HTTP status of the answer. Raises `ConfirmationRefused`."""
        if (roster := self._roster) is None:
            return 425
        try:
            item = Attestation.from_bytes(body)
            signer, content = await self._keys.open_bundle(SignedBundle(item.certificate, item.signed))
            said = EdgeConfirm.from_bytes(content)
        except (DcNetError, MessageRefused) as error:
            raise ConfirmationRefused(str(error)) from error
        self._own(gateway, signer, said)
        if hashlib.sha256(item.certificate).digest() != roster.entries[said.index - 1].certificate_hash:
            raise ConfirmationRefused("signed with another certificate than in the roster")
        if {peer for peer, _ in said.tags} != self._neighbours.get(said.index, frozenset()):
            raise ConfirmationRefused("the tags are not those of its neighbours")
        known = self._shown.get(said.index)
        if known is not None:
            return 200 if known[1] == said else 409
        self._shown[said.index] = (item, said)
        self._kept.put(f"confirm/{said.index}", encode([body, content]))
        self._tell("confirmed", gateway)
        return 201

    async def dispute(self, gateway: str, certificate: bytes, body: bytes) -> int:
        """Take a dispute; HTTP status of the answer. Raises `ConfirmationRefused`."""
        if self._roster is None:
            return 425
        try:
            signer, content = await self._keys.open_bundle(SignedBundle(certificate, body))
            said = EdgeDispute.from_bytes(content)
        except (DcNetError, MessageRefused) as error:
            raise ConfirmationRefused(str(error)) from error
        self._own(gateway, signer, said)
        shown = self._shown.get(said.peer)
        if shown is None or document_hash(shown[1]) != said.shown:
            raise ConfirmationRefused("it disputes what nobody has shown")
        if said.peer not in self._neighbours.get(said.index, ()):
            raise ConfirmationRefused("no such edge")
        edge = (min(said.index, said.peer), max(said.index, said.peer))
        if edge not in self._disputed:
            self._disputed.add(edge)
            self._report(edge, DisputedEdge(body, shown[0].signed).to_bytes())
        self._tell("dispute", gateway, peer=self._members[said.peer - 1])
        return 201

    def for_member(self, gateway: str) -> bytes | None:
        """Return what a member's neighbours have shown so far, None before there is a graph."""
        if self._roster is None or gateway not in self._members:
            return None
        own = self._members.index(gateway) + 1
        peers = sorted(self._neighbours.get(own, frozenset()) & self._shown.keys())
        return Confirmations(tuple(self._shown[peer][0] for peer in peers)).to_bytes()

    def _own(self, gateway: str, signer: str, said: EdgeConfirm | EdgeDispute) -> None:
        index, roster = said.index, self._roster
        if signer != gateway or not 1 <= index <= len(self._members) or self._members[index - 1] != gateway:
            raise ConfirmationRefused("another member's")
        # All three: members ignore what differs in one, and would wait for ever for whom we count as here.
        meant = (self._rules.net, 0 if roster is None else roster.version, self._roster_hash)
        if (said.net, said.version, said.roster_hash) != meant:
            raise ConfirmationRefused("for another roster")

    def _tell(self, event: str, gateway: str, **more: str) -> None:
        net = self._rules.net.hex()
        version = 0 if self._roster is None else self._roster.version
        self._emit({"event": event, "net": net, "version": version, "gateway": gateway} | more)
        self.changed.set()


def _pair(data: bytes) -> tuple[bytes, bytes]:
    record: Any = decode(data)
    return record[0], record[1]
