"""What an administrator makes of audits: judges by what members have signed, and keeps who is where.

The supplier tells and proves nothing by telling: its words count only where a member's signature, or the root
that a member has signed for, says the same. Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from firmware.enforcement.dcnet.errors import DcNetError, MalformedObject
from firmware.enforcement.dcnet.founding.confirmation import EdgeConfirm, EdgeDispute
from firmware.enforcement.dcnet.messages.commit import CommitV
from firmware.enforcement.dcnet.messages.conduct import SlotDigest
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.faults import (
    AuditReport,
    CanaryStatement,
    DisputedEdge,
    ShownFrame,
    TwoAccounts,
    WrongProof,
)
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import CANARY_LANE, NetRules, reconcile_net
from firmware.enforcement.dcnet.primitives import merkle
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_proofs import failing_check
from tools.counterparts.server import Emit
from wan.errors import OrderRefused

if TYPE_CHECKING:
    from tools.counterparts.net_ordered import OrderedNet

VISIT: Final = 3
"""So many disputed edges, silences or denials: somebody should go and look."""
MOST_PROOFS: Final = 16
"""So many wrong proofs of one gateway are kept; it is out with the first."""
COUNTED: Final = ("disputes", "silent", "denied", "contradictions", "proofs")
"""What is counted of each gateway."""
_VISITED: Final = ("disputes", "silent", "denied")
_RING: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Blame:
    """Whom an audit names, and how sure that is."""

    contradictions: frozenset[int] = frozenset()
    """What they have signed cannot be true: proven."""
    edges: frozenset[tuple[int, int]] = frozenset()
    """(smaller, larger): the ends have signed different pads; one of them lies."""
    silent: frozenset[int] = frozenset()
    """Nothing of them is here. The supplier may have kept it back."""
    denied: frozenset[int] = frozenset()
    """The supplier says they opened another word than they have signed: one of the two lies."""
    unproven: frozenset[int] = frozenset()
    """The supplier says they submitted another word than they have signed, and does not prove it."""
    proofs: frozenset[int] = frozenset()
    """They have signed commitments in V-mode whose range proof is wrong: proven."""

    @property
    def named(self) -> frozenset[int]:
        """Everybody who is on probation now; what is unproven is nobody's fault but the supplier's."""
        ends = {end for edge in self.edges for end in edge}
        return self.contradictions | self.proofs | self.silent | self.denied | ends


def judge_signed(
    manifest: Manifest,
    size: int,
    statements: Mapping[int, CanaryStatement],
    *,
    words: Mapping[int, tuple[int, int]],
    shown: Collection[ShownFrame] = (),
    excused: Collection[int] = (),
) -> Blame:
    """Judge by what members have signed.

    Args:
        manifest: of the slot; every statement names its hash.
        size: of the roster.
        statements: by member; signatures, slot and manifest checked.
        words: accepted member -> canary words (submitted, opened), as the supplier says.
        shown: Submit frames under the manifest's root.
        excused: members whose budget was spent.

    Raises:
        OrderRefused: `frame`; what is shown is not the member's Submit under this root.
    """
    accepted = sorted(from_bitmap(manifest.accepted, size))
    heard = {index: one for index, one in statements.items() if index in accepted}
    taken = {one.index: _submit(one, manifest, accepted) for one in shown}
    wrong, edges, denied, unproven = set[int](), set[tuple[int, int]](), set[int](), set[int]()
    for index, one in heard.items():
        if not _true_in_itself(one, accepted, size):
            wrong.add(index)
        for peer, word in one.pads:
            if peer in heard and dict(heard[peer].pads).get(index) != word:
                edges.add((min(index, peer), max(index, peer)))
        claimed = words.get(index, (one.submitted, one.opened))
        if (frame := taken.get(index)) is not None:
            if (one.submitted, one.submit_digest) != (frame.lanes[CANARY_LANE], digest(frame.to_bytes())):
                wrong.add(index)
        elif claimed[0] != one.submitted:
            unproven.add(index)
        if claimed[1] != one.opened:
            denied.add(index)
    silent = set(accepted) - heard.keys() - set(excused)
    return Blame(
        frozenset(wrong),
        frozenset(edges),
        frozenset(silent),
        frozenset(denied - wrong),
        frozenset(unproven - wrong),
    )


def _true_in_itself(one: CanaryStatement, accepted: Collection[int], size: int) -> bool:
    """Whether masks and pads give the words that the same statement says were sent."""
    inside = outside = 0
    for peer, word in one.pads:
        if not 1 <= peer <= size or peer == one.index:
            return False
        signed = word if peer > one.index else -word
        inside += signed
        outside += 0 if peer in accepted else signed
    sent, opened = (1 + one.mask + inside) % _RING, (one.mask + outside) % _RING
    return (sent, opened) == (one.submitted, one.opened)


def _submit(shown: ShownFrame, manifest: Manifest, accepted: list[int]) -> Frame:
    """Return the frame that was taken of a member: it opened only under a root that has it."""
    try:
        frame = Frame.from_bytes(shown.frame)
    except MalformedObject as error:
        raise OrderRefused("frame", str(error)) from error
    said = (frame.type, frame.net, frame.version, frame.slot, frame.index)
    if said != (FrameType.SUBMIT, manifest.net, manifest.version, manifest.slot, shown.index):
        raise OrderRefused("frame", "a frame of another net, roster, slot or member")
    if len(frame.lanes) <= CANARY_LANE or shown.index not in accepted:
        raise OrderRefused("frame", "not a submission of an accepted member")
    position = accepted.index(shown.index)
    if not merkle.contains(manifest.root, digest(shown.frame), position, len(accepted), shown.siblings):
        raise OrderRefused("frame", "not under the root of the manifest")
    return frame


def _proof(body: bytes) -> TwoAccounts | DisputedEdge | WrongProof | None:
    """Return what proves by itself, None for a report that its supplier must have signed."""
    for kind in (TwoAccounts, DisputedEdge, WrongProof):
        with contextlib.suppress(MalformedObject):
            return kind.from_bytes(body)
    return None


def _account(content: bytes) -> CanaryStatement | SlotDigest:
    try:
        return CanaryStatement.from_bytes(content)
    except MalformedObject:
        return SlotDigest.from_bytes(content)


def standing_of(kept: Mapping[str, bytes], net: str) -> dict[str, dict[str, Any]]:
    """Return what an administrator has kept of each gateway that an audit has named.

    Args:
        kept: its records.
        net: net id, hex.
    """
    known: dict[str, dict[str, Any]] = json.loads(kept.get(f"faults-{net}", b"{}"))
    return known


class FaultKeeper:
    """What an administrator knows of audits: judges again, keeps probation, excludes, asks for visits.

    Args:
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the signers' certificates.
        kept: outlives this process.
        emit: takes events.
    """

    def __init__(
        self,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        kept: MutableMapping[str, bytes],
        emit: Emit,
    ) -> None:
        self._ordered, self._trust, self._kept, self._emit = ordered, trust, kept, emit

    async def take(self, net: str, body: bytes) -> bytes:
        """Take a supplier's report, or what a member has signed against itself; nothing comes back.

        Raises:
            OrderRefused: not the supplier's, not of a roster that we countersigned, another one of a slot, or
                it contradicts itself.
        """
        ordered = self._ordered(net)
        if ordered is None:
            raise OrderRefused("policy", "no such net was ordered")
        proof = _proof(body)
        if isinstance(proof, TwoAccounts):
            await self._accounts(net, ordered, proof)
        elif isinstance(proof, DisputedEdge):
            await self._disputed(net, proof)
        elif isinstance(proof, WrongProof):
            await self._wrong_proof(net, ordered, proof)
        else:
            await self._report(net, ordered, body)
        return b""

    async def _report(self, net: str, ordered: OrderedNet, body: bytes) -> None:
        try:
            checked = await check_signed(body, self._trust)
            report = AuditReport.from_bytes(checked.content)
            manifest = Manifest.from_bytes(report.manifest)
            roster = self._roster(net, report.version)
            size = len(roster.entries)
            excused = from_bitmap(report.excused, size)
            statements = await self._statements(report, manifest, roster)
            from_bitmap(manifest.accepted, size)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        if checked.signer != ordered.emp_certificate:
            raise OrderRefused("signer", "not signed by the supplier of this net")
        regular = bytes.fromhex(net)
        if report.net not in (regular, reconcile_net(regular)):
            raise OrderRefused("net", "about another net")
        if (manifest.net, manifest.version, manifest.slot) != (report.net, report.version, report.slot):
            raise OrderRefused("manifest", "the manifest of another net, roster or slot")
        words = {index: (submitted, opened) for index, submitted, opened in report.words}
        if not words.keys() <= set(range(1, size + 1)):
            raise OrderRefused("form", "a member that is not in the roster")
        found = judge_signed(manifest, size, statements, words=words, shown=report.shown, excused=excused)
        name = f"audit-{report.net.hex()}-{report.slot}"
        if (before := self._kept.get(name)) is not None:
            if before == checked.content:
                return
            raise OrderRefused("second", "another audit of this slot was reported before")
        self._note(net, report.version, report.slot, found, name)
        self._kept[name] = checked.content

    async def _accounts(self, net: str, ordered: OrderedNet, accounts: TwoAccounts) -> None:
        """Exclude a member that has signed two accounts of one slot."""
        try:
            both = (accounts.statement, accounts.other)
            one, two = [await check_signed(item, self._trust) for item in both]
            said, other = CanaryStatement.from_bytes(one.content), _account(two.content)
            roster, rules = self._roster(net, said.version), NetRules.from_profile(ordered.policy)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        entries = {entry.certificate_hash: entry.index for entry in roster.entries}
        index = entries.get(hashlib.sha256(one.signer).digest())
        if one.signer != two.signer or (said.index, other.index) != (index, index):
            raise OrderRefused("signer", "two accounts of different members")
        if rules.reconcile_slots and said.net == rules.reconciled().net:
            rules = rules.reconciled()
        if (said.net, other.net, other.version) != (rules.net, rules.net, said.version):
            raise OrderRefused("net", "about another net, or of different rosters")
        if isinstance(other, CanaryStatement):
            same = other.slot != said.slot or other == said
        elif other.epoch != rules.epoch_of(said.slot):
            raise OrderRefused("digest", "the digest of another epoch")
        else:
            sent = {(frames.slot, frames.submitted, frames.opened) for frames in other.frames}
            same = (said.slot, said.submit_digest, said.open_digest) in sent
        if same:
            raise OrderRefused("accounts", "both can be true")
        name = f"accounts-{said.net.hex()}-{said.slot}-{said.index}"
        if name not in self._kept:
            self._note(net, said.version, said.slot, Blame(contradictions=frozenset({said.index})), name)
            self._kept[name] = accounts.to_bytes()

    async def _disputed(self, net: str, disputed: DisputedEdge) -> None:
        """Count an edge whose ends do not hold one key; once in a roster, whichever end says so."""
        try:
            one, two = [await check_signed(item, self._trust) for item in (disputed.dispute, disputed.shown)]
            said, shown = EdgeDispute.from_bytes(one.content), EdgeConfirm.from_bytes(two.content)
            roster = self._roster(net, said.version)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        entries = {entry.certificate_hash: entry.index for entry in roster.entries}
        signers = [entries.get(hashlib.sha256(item.signer).digest()) for item in (one, two)]
        if signers != [said.index, said.peer] or shown.index != said.peer:
            raise OrderRefused("signer", "a dispute of other members than those who signed")
        about = (said.net, said.roster_hash, shown.roster_hash)
        name = document_hash(roster)
        if about != (bytes.fromhex(net), name, name) or document_hash(shown) != said.shown:
            raise OrderRefused("dispute", "about another net, roster or confirmation")
        if said.index not in {peer for peer, _ in shown.tags}:
            raise OrderRefused("dispute", "there is no such edge")
        edge = (min(said.index, said.peer), max(said.index, said.peer))
        record = f"edge-{net}-{said.version}-{edge[0]}-{edge[1]}"
        if record not in self._kept:
            self._note(net, said.version, None, Blame(edges=frozenset({edge})), record)
            self._kept[record] = disputed.to_bytes()

    async def _wrong_proof(self, net: str, ordered: OrderedNet, shown: WrongProof) -> None:
        """Exclude a member that has signed commitments whose proof fails, once we have seen it fail."""
        try:
            checked = await check_signed(shown.signed, self._trust)
            said = CommitV.from_bytes(checked.content)
            roster = self._roster(net, said.version)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        entries = {entry.certificate_hash: entry.index for entry in roster.entries}
        if said.index != entries.get(hashlib.sha256(checked.signer).digest()):
            raise OrderRefused("signer", "commitments of another member than who signed them")
        if said.net != bytes.fromhex(net):
            raise OrderRefused("net", "about another net")
        name = f"proof-{net}-{said.version}-{said.slot}-{said.index}"
        gateway = json.loads(self._kept[f"names-{net}-{said.version}"])["gateways"][said.index - 1]
        often = self.standing(net).get(gateway, {}).get("proofs", 0) >= MOST_PROOFS
        if name not in self._kept and not often:
            failed = failing_check(said, roster, NetRules.from_profile(ordered.policy))
            blame = Blame(proofs=frozenset({said.index}))
            self._note(net, said.version, said.slot, blame, name, check=failed)
            self._kept[name] = shown.to_bytes()

    def excluded(self, net: str) -> frozenset[str]:
        """Return the gateway ids that may be in no further roster of a net."""
        return frozenset(gateway for gateway, about in self.standing(net).items() if about["excluded"])

    def visits(self, net: str) -> frozenset[str]:
        """Return the gateway ids that somebody should go and look at."""
        return frozenset(gateway for gateway, about in self.standing(net).items() if about.get("visit"))

    def standing(self, net: str) -> dict[str, dict[str, Any]]:
        """Return what is known of each gateway that an audit has named."""
        return standing_of(self._kept, net)

    def _roster(self, net: str, version: int) -> Roster:
        known = self._kept.get(f"roster-{net}-{version}")
        if known is None or f"names-{net}-{version}" not in self._kept:
            raise OrderRefused("roster", "no roster of this version was countersigned")
        return Roster.from_bytes(known)

    async def _statements(
        self, report: AuditReport, manifest: Manifest, roster: Roster
    ) -> dict[int, CanaryStatement]:
        entries = {entry.certificate_hash: entry.index for entry in roster.entries}
        meant = (report.net, report.version, report.slot, document_hash(manifest))
        found = {}
        for body in report.statements:
            checked = await check_signed(body, self._trust)
            said = CanaryStatement.from_bytes(checked.content)
            index = entries.get(hashlib.sha256(checked.signer).digest())
            if (said.net, said.version, said.slot, said.manifest_hash, said.index) != (*meant, index):
                raise OrderRefused("statement", "a statement of another slot, or not its member's")
            if said.index in found:
                raise OrderRefused("statement", "two statements of one member")
            found[said.index] = said
        return found

    def _note(
        self, net: str, version: int, slot: int | None, found: Blame, record: str, **more: object
    ) -> None:
        """Count what was found, once for each gateway, also if we are killed before `record` is kept."""
        names = json.loads(self._kept[f"names-{net}-{version}"])["gateways"]
        standing = self.standing(net)
        # Who was counted for this record by a process that was killed may not have been told: told again.
        visits = {one for one in self.visits(net) if standing[one].get("of") != record}
        counts = {
            "disputes": {end for edge in found.edges for end in edge},
            "silent": found.silent,
            "denied": found.denied,
            "contradictions": found.contradictions,
            "proofs": found.proofs,
        }
        for index in sorted(found.named):
            about = standing.setdefault(names[index - 1], {"slots": []})
            if about.get("of") == record:
                continue
            about["of"] = record
            for what in COUNTED:
                about[what] = about.get(what, 0) + (index in counts[what])
            about["slots"] += [] if slot is None else [slot]
            about["excluded"] = bool(about["contradictions"] or about["proofs"])
            about["visit"] = max(about[what] for what in _VISITED) >= VISIT
        self._kept[f"faults-{net}"] = json.dumps(standing, indent=1).encode()
        self._emit(
            {
                "event": "probation",
                "net": net,
                "slot": slot,
                "gateways": [names[index - 1] for index in sorted(found.named)],
                "edges": [[names[end - 1] for end in edge] for edge in sorted(found.edges)],
                "denied": [names[index - 1] for index in sorted(found.denied)],
                "unproven": [names[index - 1] for index in sorted(found.unproven)],
                "proofs": [names[index - 1] for index in sorted(found.proofs)],
                "excluded": sorted(self.excluded(net)),
            }
            | more
        )
        for gateway in sorted(self.visits(net) - visits):
            why = {what: standing[gateway][what] for what in _VISITED}
            self._emit({"event": "visit", "net": net, "slot": slot, "gateway": gateway} | why)
