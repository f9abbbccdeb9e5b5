"""How a supplier founds a DC-net: bundles and commitments, draft, countersignatures, nonces, beacon.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError, MembershipRefused
from firmware.enforcement.dcnet.founding.authorisation import (
    GraphPublication,
    PeerAuthorisation,
    authorised_edges,
)
from firmware.enforcement.dcnet.founding.beacon import (
    NONCE_BYTES,
    BeaconCommit,
    BeaconReveal,
    Nonces,
    beacon_of,
    draw,
)
from firmware.enforcement.dcnet.founding.succession import NO_ROSTER
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import (
    Administrator,
    Attestation,
    KeyBundle,
    Roster,
    RosterDraft,
    RosterEntry,
    RosterPublication,
    SignedBundle,
)
from firmware.enforcement.dcnet.policy import LANES, NetRules, Recovery
from firmware.enforcement.dcnet.primitives import graph, kdf
from hsm.errors import HsmError
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_confirmed import Confirmed
from tools.counterparts.net_distinct import MAX_BUNDLE_BYTES, shared_part, who_copied
from tools.counterparts.net_journal import Journal, Room
from tools.counterparts.net_reconcile import terms_of
from tools.counterparts.net_tally import Terms
from tools.counterparts.server import Emit
from wan.errors import WanError

_T = TypeVar("_T")


class CoordinatorKeys(Protocol):
    """The supplier's keys and its judgement of members' certificates; `net_keys.CmsKeys` is one."""

    async def sign(self, content: bytes) -> bytes:
        """Sign as the EMP."""

    async def agree(self, point: bytes) -> bytes:
        """ECKA of the EMP's ENC key; raises `HsmError` for a bad point."""

    async def open_bundle(self, bundle: SignedBundle) -> tuple[str, bytes]:
        """Check a bundle's certificate and signature; return (gateway id, content).

        Raises `MessageRefused` if they are not good.
        """

    async def open_attestation(self, attestation: Attestation) -> bytes:
        """Check what an administrator signed and return it. Raises `MessageRefused`."""


class Countersigner(Protocol):
    """One administrator as the supplier asks it; each raises `WanError`, `OSError` or `ClientError`."""

    async def commit(self, version: int) -> bytes:
        """Return an `Attestation` of a `BeaconCommit`."""

    async def countersign(self, draft: bytes) -> bytes:
        """Return an `Attestation` of the roster in a `RosterDraft`."""

    async def reveal(self, version: int) -> bytes:
        """Return the `BeaconReveal` of the roster that it has countersigned."""

    async def authorise(self, version: int) -> bytes:
        """Return an `Attestation` of a `PeerAuthorisation` for that roster."""

    async def cosign(self, signed: bytes) -> bytes:
        """Return an `Attestation` of a manifest or a recovery order that the supplier has signed."""

    async def faults(self, report: bytes) -> bytes:
        """Take what a canary audit brought (signed `AuditReport`, or `TwoAccounts`); nothing comes back."""

    async def revoked(self) -> bytes:
        """Return an `Attestation` of the newest `PeerWithdrawal`."""


class FoundingRefused(Exception):
    """What a member sent does not belong into this roster."""


class MembersSilent(Exception):
    """Members did not reveal their nonces in time, or have none of their own: the roster is given up."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(f"{len(names)} members keep silent")
        self.names = names


class DraftStale(Exception):
    """The epoch of a draft has begun before every administrator countersigned it: it is given up."""


class Founding:
    """The way to one roster of one net. With what was kept of it, it goes on where it was.

    Args:
        rules: of the net.
        members: gateway id -> name of its administrator, in the order of the indices; who may be in it.
        keys: the supplier's.
        emit: takes events.
        administrators: by their names in the roster.
        now_utc: the supplier's clock.
        version: of the roster.
        previous: hash of the roster in force, zeros for none.
        patience_s: so long members may take to reveal their nonces; None: for ever.
        kept: outlives this process.
    """

    def __init__(
        self,
        rules: NetRules,
        members: Mapping[str, str],
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        administrators: Mapping[str, Countersigner],
        now_utc: Callable[[], datetime],
        version: int,
        previous: bytes = NO_ROSTER,
        patience_s: float | None = None,
        kept: Room | None = None,
    ) -> None:
        self._kept = kept or Journal().room("founding")
        self._patience_s = patience_s
        self.version, self.first_epoch = version, 0
        """Which roster, and in which epoch it shall begin; 0: in the one of its draft."""
        self._rules, self._members, self._keys, self._emit = rules, dict(members), keys, emit
        self._all_administrators = administrators
        self._administrators: dict[str, Countersigner] = {}
        self._now_utc, self._version = now_utc, version
        if (nonce := self._kept.get("nonce")) is None:
            self._kept.put("nonce", nonce := secrets.token_bytes(NONCE_BYTES))
            self._kept.put("previous", previous)
        self._previous = self._kept.get("previous") or NO_ROSTER
        self._reveal = BeaconReveal(rules.net, version, nonce)
        self._bundles: dict[str, tuple[SignedBundle, KeyBundle]] = {}
        self._revealed: dict[str, bytes] = {}
        self._all_here, self._all_revealed = asyncio.Event(), asyncio.Event()
        self.publication: bytes | None = None
        """The countersigned roster, as soon as there is one."""
        self.graph: bytes | None = None
        """Everybody's nonces and the authorisations, as soon as the last one is here."""
        self.adjacent: Mapping[int, frozenset[int]] = {}
        """The key graph, as soon as it is drawn."""
        self.reconcile_terms: Terms | None = None
        """Of the reconcile net, if there is one."""
        self.edges: frozenset[tuple[int, int]] = frozenset()
        self.confirming = Confirmed(rules, keys, emit, self._kept)
        self._restore()

    def _restore(self) -> None:
        """Bring back what was kept; the graph and what follows from it comes with `found`."""
        for member, data in self._kept.items("bundle/"):
            signed, content = _list(data)
            self._bundles[member] = (SignedBundle.from_bytes(signed), KeyBundle.from_bytes(content))
        self._revealed = dict(self._kept.items("reveal/"))
        self.publication = self._kept.get("publication")
        if (graph_kept := self._kept.get("graph")) is not None:
            self.graph = _list(graph_kept)[0]
        if (members_kept := self._kept.get("members")) is not None:
            self.first_epoch, members = _list(members_kept)
            self._members = dict(members)
            self._all_here.set()
            if len(self._revealed) == len(self._members):
                self._all_revealed.set()

    def archive(self) -> None:
        """Keep of a roster that is long past only what others may still follow it by."""
        self._bundles, self._revealed = {}, {}
        self._kept.clear(
            "bundle/", "reveal/", "draft", "countersigned/", "confirm/", "dispute/", "withdrawn/"
        )

    @property
    def archived(self) -> bool:
        """Whether nothing more can be done with it."""
        return self.settled and not self._bundles

    @property
    def members(self) -> tuple[str, ...]:
        """Gateway ids in the order of the indices; final once `found` has drafted the roster."""
        return tuple(self._members)

    @property
    def offered(self) -> frozenset[str]:
        """Whose bundles are here."""
        return frozenset(self._bundles)

    @property
    def settled(self) -> bool:
        """Whether the members are fixed."""
        return self._all_here.is_set()

    @property
    def bundles(self) -> tuple[bytes, ...]:
        """Contents of the members' key bundles, in the order of the indices."""
        return tuple(self._bundles[member][1].to_bytes() for member in self._members)

    def certificate_of(self, member: str) -> bytes:
        """DER of the certificate that a member's bundle was signed with."""
        return self._bundles[member][0].certificate

    def allow(self, members: Mapping[str, str]) -> None:
        """Let others than before offer bundles; only until the members are settled."""
        self._members = dict(members)
        for name in self._bundles.keys() - members.keys():
            self._kept.drop(f"bundle/{name}")
        self._bundles = {name: one for name, one in self._bundles.items() if name in members}

    def settle(self, members: Iterable[str]) -> None:
        """Let these, whose bundles are here, be the roster's members."""
        chosen = set(members)
        self._members = {name: by for name, by in self._members.items() if name in chosen}
        entries = [list(entry) for entry in self._members.items()]
        self._kept.put("members", encode([self.first_epoch, entries]))
        self._all_here.set()

    async def found(self) -> tuple[Roster, Terms]:
        """Draft the roster, have it countersigned, publish it; then collect and publish the nonces.

        What was done before, by a process before this one as well, is not done again.

        Raises:
            MembersSilent: members did not reveal in time, or commit to what is not theirs to reveal.
            DraftStale: its epoch began before it was countersigned.
        """
        await self._all_here.wait()
        names = sorted(set(self._members.values()))
        self._administrators = {name: self._all_administrators[name] for name in names}
        roster, signed = await self._drafted(names)
        bundles = tuple(self._bundles[member][0] for member in self._members)
        draft = RosterDraft(signed, bundles)
        countersigned = [await self._countersigned(name, draft, roster) for name in names]
        roster_hash = document_hash(roster)
        secrets_of = {
            index: await self._keys.agree(self._bundles[member][1].point)
            for index, member in enumerate(self._members, start=1)
        }
        mac_keys = {
            index: kdf.mac_key(z, roster_hash, self._rules.net, self._version)
            for index, z in secrets_of.items()
        }
        dealt = self._rules.holders if self._rules.recovery is Recovery.WITNESS else 0
        size, lanes = len(self._members), len(LANES)
        terms = Terms(self._rules.net, self._version, size, lanes, mac_keys, shares=dealt)
        if self._rules.reconcile_slots:
            self.reconcile_terms = terms_of(terms, self._rules.reconciled(), secrets_of, roster_hash)
        if self.publication is None:
            self.publication = RosterPublication(draft.signed, tuple(countersigned), bundles).to_bytes()
            self._kept.put("publication", self.publication)
            net = self._rules.net.hex()
            self._emit({"event": "roster", "net": net, "version": self._version, "members": [*self._members]})
        told = self.graph is not None
        nonces, authorised = await self._graph(names)
        self._try_graph(roster, nonces, authorised, self._emit if not told else _nobody)
        return roster, terms

    async def _drafted(self, names: Iterable[str]) -> tuple[Roster, bytes]:
        """Return the one roster of this version, and the same signed by us."""
        if (data := self._kept.get("draft")) is None:
            administrators = [await self._ask(name, "commit", self._commitment) for name in names]
            commitments = {self._reveal.commitment, *(one.commitment for one in administrators)}
            chosen = {member: self._bundles[member][1] for member in self._members}
            if copied := who_copied(chosen, commitments):
                raise MembersSilent(copied)
            roster = self._draft(administrators)
            content = roster.to_bytes()
            self._kept.put("draft", data := encode([content, await self._keys.sign(content)]))
        content, signed = _list(data)
        return Roster.from_bytes(content), signed

    async def _countersigned(self, name: str, draft: RosterDraft, roster: Roster) -> Attestation:
        if (given := self._kept.get(f"countersigned/{name}")) is None:

            def stale() -> bool:
                later = self._previous != NO_ROSTER
                return (
                    later and self._rules.epoch_of(self._rules.slot_at(self._now_utc())) >= roster.first_epoch
                )

            asked = await self._ask(name, "countersign", self._countersigner(draft), stale)
            self._kept.put(f"countersigned/{name}", given := asked.to_bytes())
        return Attestation.from_bytes(given)

    async def _graph(self, names: Iterable[str]) -> tuple[Nonces, dict[str, PeerAuthorisation]]:
        """Collect all nonces and authorisations, publish them, and return them."""
        if (data := self._kept.get("graph")) is not None:
            self.graph, contents = _list(data)
            allowed = {name: PeerAuthorisation.from_bytes(content) for name, content in contents}
            return GraphPublication.from_bytes(self.graph).nonces, allowed
        try:
            async with asyncio.timeout(self._patience_s):
                await self._all_revealed.wait()
        except TimeoutError:
            raise MembersSilent(frozenset(self._members.keys() - self._revealed.keys())) from None
        nonces = Nonces(
            self._rules.net,
            self._version,
            self._reveal.nonce,
            tuple([await self._ask(name, "reveal", self._nonce) for name in names]),
            tuple(self._revealed[member] for member in self._members),
        )
        given = {name: await self._ask(name, "authorise", self._authorisation) for name in names}
        self.graph = GraphPublication(nonces, tuple(item for item, _ in given.values())).to_bytes()
        contents = [[name, authorised.to_bytes()] for name, (_, authorised) in given.items()]
        self._kept.put("graph", encode([self.graph, contents]))
        return nonces, {name: authorised for name, (_, authorised) in given.items()}

    def _try_graph(
        self, roster: Roster, nonces: Nonces, authorised: Mapping[str, PeerAuthorisation], emit: Emit
    ) -> None:
        """Tell what key graph there is; members find out for themselves."""
        event = {"net": self._rules.net.hex(), "version": self._version}
        try:
            edges = draw(self._rules, len(self._members), beacon_of(document_hash(roster), nonces))
        except MembershipRefused as error:
            emit({"event": "refused", "what": "beacon", "reason": str(error)} | event)
        else:
            self.edges = authorised_edges(roster, edges, authorised)
            self.adjacent = graph.neighbours(self.edges)
            emit({"event": "beacon", "edges": len(self.edges)} | event)
        self.confirming.begin(roster, self.members, self.edges)

    @property
    def certificates(self) -> dict[int, bytes]:
        """DER of each member's SIG certificate, by its index."""
        return {
            index: self._bundles[member][0].certificate for index, member in enumerate(self._members, start=1)
        }

    def _draft(self, administrators: Iterable[Administrator]) -> Roster:
        rules = self._rules
        entries = tuple(
            RosterEntry(
                index,
                self._bundles[member][1].pseudonym,
                hashlib.sha256(self._bundles[member][0].certificate).digest(),
                administrator,
                document_hash(self._bundles[member][1]),
            )
            for index, (member, administrator) in enumerate(self._members.items(), start=1)
        )
        return Roster(
            rules.net,
            self._version,
            self._previous,
            rules.policy_hash(),
            rules.schema_hash(),
            self.first_epoch or rules.epoch_of(max(0, rules.slot_at(self._now_utc()))),
            self._reveal.commitment,
            tuple(administrators),
            entries,
        )

    # -- what administrators are asked -------------------------------------------------------------------

    async def _commitment(self, name: str, one: Countersigner) -> Administrator:
        attestation = Attestation.from_bytes(await one.commit(self._version))
        commit = BeaconCommit.from_bytes(await self._keys.open_attestation(attestation))
        return Administrator(name, hashlib.sha256(attestation.certificate).digest(), commit.commitment)

    def _countersigner(self, draft: RosterDraft) -> Callable[[str, Countersigner], Awaitable[Attestation]]:
        async def countersign(_name: str, one: Countersigner) -> Attestation:
            return Attestation.from_bytes(await one.countersign(draft.to_bytes()))

        return countersign

    async def _nonce(self, _name: str, one: Countersigner) -> bytes:
        return BeaconReveal.from_bytes(await one.reveal(self._version)).nonce

    async def _authorisation(self, _name: str, one: Countersigner) -> tuple[Attestation, PeerAuthorisation]:
        attestation = Attestation.from_bytes(await one.authorise(self._version))
        content = await self._keys.open_attestation(attestation)
        return attestation, PeerAuthorisation.from_bytes(content)

    async def _ask(
        self,
        name: str,
        what: str,
        question: Callable[[str, Countersigner], Awaitable[_T]],
        stale: Callable[[], bool] = lambda: False,
    ) -> _T:
        """Ask until it answers well; a refusal may end when the administrator's lists change."""
        while True:
            if stale():
                raise DraftStale(f"roster {self._version} was not countersigned before its epoch")
            try:
                return await question(name, self._administrators[name])
            except (WanError, OSError, ClientError, DcNetError, MessageRefused) as error:
                net = self._rules.net.hex()
                self._emit({"event": "refused", "net": net, "what": what, "reason": str(error)})
            await asyncio.sleep(max(1.0, self._rules.poll_ms / 1000))

    # -- what members send -------------------------------------------------------------------------------

    async def bundle(self, gateway: str, body: bytes) -> int:
        """Take a member's key bundle; HTTP status of the answer. Raises `FoundingRefused`."""
        if len(body) > MAX_BUNDLE_BYTES:
            raise FoundingRefused(f"{len(body)} bytes")
        try:
            signed = SignedBundle.from_bytes(body)
            signer, content = await self._keys.open_bundle(signed)
            bundle = KeyBundle.from_bytes(content)
            await self._keys.agree(bundle.point)  # refuses a point off the curve before it is in a roster
        except (DcNetError, MessageRefused, HsmError) as error:
            raise FoundingRefused(str(error)) from error
        if gateway not in self._members:
            raise FoundingRefused("no contract")
        named = hashlib.sha256(signed.certificate).digest()
        made_for = (signer, bundle.net, bundle.version, bundle.certificate_hash)
        if made_for != (gateway, self._rules.net, self._version, named):
            raise FoundingRefused("made for something else")
        if (known := self._bundles.get(gateway)) is not None:
            return 200 if known[1] == bundle else 409
        if self._all_here.is_set():
            return 425  # the roster is drafted: the next one
        if what := shared_part(bundle, (one for _, one in self._bundles.values())):
            raise FoundingRefused(f"another member's {what}")
        self._bundles[gateway] = (signed, bundle)
        self._kept.put(f"bundle/{gateway}", encode([body, content]))
        return 201

    async def reveal(self, gateway: str, body: bytes) -> int:
        """Take a member's nonce; HTTP status of the answer. Raises `FoundingRefused`."""
        if self.publication is None:
            return 425  # nobody reveals before the roster is fixed
        try:
            reveal = BeaconReveal.from_bytes(body)
        except DcNetError as error:
            raise FoundingRefused(str(error)) from error
        if gateway not in self._members or gateway not in self._bundles:
            raise FoundingRefused("not in this roster, or it is past")
        if reveal.commitment != self._bundles[gateway][1].commitment:
            raise FoundingRefused("not the nonce that the bundle commits to")
        self._revealed[gateway] = reveal.nonce
        self._kept.put(f"reveal/{gateway}", reveal.nonce)
        if len(self._revealed) == len(self._members):
            self._all_revealed.set()
        return 201

    async def dispute(self, gateway: str, body: bytes) -> int:
        """Take a dispute of an edge; HTTP status. Raises `FoundingRefused`, `ConfirmationRefused`."""
        if gateway not in self._bundles:
            raise FoundingRefused("not in this roster")
        return await self.confirming.dispute(gateway, self._bundles[gateway][0].certificate, body)


def _nobody(_event: Mapping[str, Any]) -> None:
    """Take what was told before."""


def _list(data: bytes) -> list[Any]:
    items = decode(data)
    assert isinstance(items, list), "our own record"
    return items
