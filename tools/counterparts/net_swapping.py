"""A supplier with several nets pairs a lone change with a swap: asks for offers, proposes, has it ordered.

A change of fewer than churn_min gateways that has waited its epochs is paired with members of this net and
of another one who change places. The administrators of both decide; see `net_swap_judge`.
Spec: docs/dcnet.md, swaps.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.authorisation import GraphPublication
from firmware.enforcement.dcnet.founding.beacon import beacon_of
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, RosterPublication
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_rosters import Rosters
from tools.counterparts.net_swap_choice import Exchange, NoSwap, choose, same_apart_from_id, seed_of
from tools.counterparts.net_swap_documents import (
    SideEvidence,
    SwapOffer,
    SwapPresentation,
    SwapProposal,
    SwapSide,
    SwapWarrant,
)
from tools.counterparts.net_versions import PlannedSwap, Version
from tools.counterparts.server import Emit
from wan.errors import OrderRefused, WanError

LEAD_EPOCHS: Final = 2
"""A swap begins so many epochs after the present one: gateways have a whole one to found rosters in."""
_FAILED: Final = (WanError, OSError, ClientError, DcNetError, MessageRefused)


class SwapAdministrator(Protocol):
    """One administrator asked about one net; each raises `WanError`, `OSError` or `ClientError`."""

    async def swap_offer(self, target: str, first_epoch: int) -> bytes:
        """Return an `Attestation` of its `SwapOffer` for those who may change into `target`."""

    async def swap(self, presentation: bytes) -> bytes:
        """Return an `Attestation` of its `SwapConsent` to a `SwapPresentation`."""

    async def swap_orders(self, warrant: bytes) -> bytes:
        """Have it give its gateways their orders, shown a `SwapWarrant`; nothing comes back."""


@dataclass(frozen=True, slots=True)
class SwapNet:
    """One net as the swapper sees it."""

    rules: NetRules
    rosters: Rosters
    administrators: Mapping[str, SwapAdministrator]

    @property
    def net(self) -> str:
        """Its id, hex."""
        return self.rules.net.hex()

    @property
    def free(self) -> bool:
        """Whether its next roster may still hold this or that, and nobody has planned it."""
        rosters = self.rosters
        return rosters.in_force is not None and rosters.gathering and rosters.swap is None


@dataclass
class _Underway:
    """A swap that is proposed, until its orders are given or it is too late."""

    nets: tuple[SwapNet, SwapNet]
    versions: tuple[Version, Version]
    proposal: SwapProposal
    presentation: bytes
    consents: dict[str, Attestation] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    """What was told of it; each thing once."""

    @property
    def identity(self) -> bytes:
        """The proposal's hash."""
        return document_hash(self.proposal)

    @property
    def asked(self) -> dict[str, SwapAdministrator]:
        """Everybody in one of the two rosters, by name."""
        return {
            one.name: net.administrators[one.name]
            for net, version in zip(self.nets, self.versions, strict=True)
            for one in version.roster.administrators
        }


class Swapper:
    """Looks after all nets of one supplier.

    Args:
        nets: all of them; those with the same rules may exchange members.
        keys: the supplier's.
        emit: takes events.
        now_utc: the supplier's clock.
        kept: who came where by a swap; outlives this process.
        look_s: so long between two looks.
    """

    def __init__(
        self,
        nets: Sequence[SwapNet],
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        now_utc: Callable[[], datetime],
        kept: MutableMapping[str, bytes],
        look_s: float = 1.0,
    ) -> None:
        self._nets, self._keys, self._emit = tuple(nets), keys, emit
        self._now_utc, self._kept, self._look_s = now_utc, kept, look_s
        self._underway: _Underway | None = None
        self._tried: dict[str, int] = {}
        for net in self._nets:
            net.rosters.move_in(self._moved_into(net))

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Go one step on: with the swap under way, else with a net whose change has waited."""
        self._prune()
        if self._underway is not None:
            await self._go_on(self._underway)
            return
        for net in self._nets:
            epoch = net.rosters.next_epoch() - 1 + LEAD_EPOCHS
            if net.rosters.lone and net.free and self._tried.get(net.net) != epoch:
                self._tried[net.net] = epoch
                await self._try(net, epoch)
                return

    # -- to a proposal -----------------------------------------------------------------------------------

    async def _try(self, net: SwapNet, epoch: int) -> None:
        """Propose a swap with the first net that it is possible with; says why with none."""
        others = [one for one in self._nets if one is not net and one.free]
        others = [one for one in others if same_apart_from_id(one.rules, net.rules)]
        if not others:
            self._tell_impossible(net, NoSwap("partner", "no other net with the same rules may change now"))
        others.sort(key=lambda one: seed_of({each.rules.net: _beacon(each) for each in (net, one)}))
        for other in others:
            try:
                self._underway = await self._propose(net, other, epoch)
            except NoSwap as none:
                self._tell_impossible(net, none)
            else:
                await self._go_on(self._underway)
                return

    def _tell_impossible(self, net: SwapNet, none: NoSwap) -> None:
        self._emit({"event": "swap-impossible", "net": net.net, "code": none.code, "reason": str(none)})

    async def _propose(self, net: SwapNet, other: SwapNet, epoch: int) -> _Underway:
        one, two = sorted((net, other), key=lambda each: each.rules.net)
        versions = _in_force(one), _in_force(two)
        offers = await self._offers(one, two, epoch), await self._offers(two, one, epoch)
        if not all(_stands(each, version) for each, version in zip((one, two), versions, strict=True)):
            raise NoSwap("partner", "a roster is drafted just now")
        exchanges = [
            _exchange(each, version, await self._offered(found))
            for each, version, found in zip((one, two), versions, offers, strict=True)
        ]
        seed = seed_of({each.rules.net: _beacon(each) for each in (one, two)})
        chosen = choose(exchanges[0], exchanges[1], seed)
        sides = [
            SwapSide(
                each.rules.net,
                document_hash(version.roster),
                tuple(sorted(exchange.gone)),
                tuple(sorted(exchange.come)),
                tuple(sorted(out)),
            )
            for each, version, exchange, out in zip((one, two), versions, exchanges, chosen, strict=True)
        ]
        proposal = SwapProposal(epoch, (sides[0], sides[1]))
        evidence = [_evidence(version, found) for version, found in zip(versions, offers, strict=True)]
        signed = await self._keys.sign(proposal.to_bytes())
        shown = SwapPresentation(signed, (evidence[0], evidence[1])).to_bytes()
        underway = _Underway((one, two), versions, proposal, shown)
        moves = {each.net: self._names(underway, number) for number, each in enumerate((one, two))}
        self._say(underway, "swap-proposed", leave=moves)
        return underway

    async def _offers(self, net: SwapNet, target: SwapNet, epoch: int) -> list[Attestation]:
        found = []
        for administrator in _in_force(net).roster.administrators:
            try:
                asked = net.administrators[administrator.name].swap_offer(target.net, epoch)
                found.append(Attestation.from_bytes(await asked))
            except _FAILED as error:
                raise NoSwap("offer", f"{administrator.name}: {error}") from error
        return found

    async def _offered(self, offers: Sequence[Attestation]) -> frozenset[bytes]:
        found: set[bytes] = set()
        for one in offers:
            try:
                found |= set(SwapOffer.from_bytes(await self._keys.open_attestation(one)).certificates)
            except _FAILED as error:
                raise NoSwap("offer", str(error)) from error
        return frozenset(found)

    # -- to its orders -----------------------------------------------------------------------------------

    async def _go_on(self, underway: _Underway) -> None:
        """Ask for consents, then have the orders given, until all are or it is too late."""
        stand = all(_stands(*pair) for pair in zip(underway.nets, underway.versions, strict=True))
        if not stand and not underway.carried:
            self._say(underway, "swap-late", code="roster", missing=[])
            self._underway = None
            return
        late = self._nets[0].rosters.next_epoch() - 1 + LEAD_EPOCHS > underway.proposal.first_epoch
        if late:
            code = "carried" if underway.carried else "consent"
            missing = sorted(underway.asked.keys() - (underway.carried or underway.consents.keys()))
            self._say(underway, "swap-late", code=code, missing=missing)
            self._underway = None
            self._plan(underway, frozenset(underway.carried))
            return
        for name, administrator in sorted(underway.asked.items()):
            if name not in underway.consents:
                try:
                    given = Attestation.from_bytes(await administrator.swap(underway.presentation))
                except OrderRefused as refused:
                    asked = refused.code == "asked"
                    event = "swap-asked" if asked else "swap-refused"
                    self._say(underway, event, administrator=name, reason=str(refused))
                    if not asked:
                        self._underway = None
                        return
                except _FAILED as error:
                    self._say(underway, "swap-waits", administrator=name, reason=str(error))
                else:
                    underway.consents[name] = given
        if underway.asked.keys() <= underway.consents.keys():
            await self._order(underway)

    async def _order(self, underway: _Underway) -> None:
        consents = tuple(one for _, one in sorted(underway.consents.items()))
        warrant = SwapWarrant(underway.identity, consents).to_bytes()
        # Before the first gateway hears of it: its bundle must be taken.
        self._plan(underway, frozenset(underway.asked))
        for name, administrator in sorted(underway.asked.items()):
            if name not in underway.carried:
                try:
                    await administrator.swap_orders(warrant)
                except _FAILED as error:
                    self._say(underway, "swap-waits", administrator=name, reason=str(error))
                else:
                    underway.carried.add(name)
        if underway.carried >= underway.asked.keys():
            self._say(underway, "swap-agreed")
            self._underway = None

    def _plan(self, underway: _Underway, by: frozenset[str]) -> None:
        """Let both nets know who comes and who goes by these administrators' orders; nobody without any."""
        epoch, moving = underway.proposal.first_epoch, list[dict[str, str]]()
        for number, version in enumerate(underway.versions):
            names = self._names(underway, number)
            of = dict(zip(version.members, (e.administrator for e in version.roster.entries), strict=True))
            moving.append({name: of[name] for name in names if of[name] in by})
        for number, net in enumerate(underway.nets):
            out, into = moving[number], moving[1 - number]
            if by:
                net.rosters.swap = PlannedSwap(epoch, frozenset(out), frozenset(into))
                self._keep(net, self._moved_into(net) | into)
            else:
                net.rosters.swap = None

    @staticmethod
    def _names(underway: _Underway, number: int) -> list[str]:
        """Return the gateways that leave one of the two nets."""
        version, out = underway.versions[number], underway.proposal.sides[number].out
        entries = zip(version.members, version.roster.entries, strict=True)
        return [name for name, entry in entries if entry.certificate_hash in out]

    # -- what outlives it ----------------------------------------------------------------------------------

    def _prune(self) -> None:
        """Forget who came by a swap and has no contract any more in any net."""
        listed = frozenset[str]().union(*(net.rosters.listed for net in self._nets))
        for net in self._nets:
            homes = self._moved_into(net)
            if not homes.keys() <= listed:
                self._keep(net, {name: by for name, by in homes.items() if name in listed})

    def _keep(self, net: SwapNet, homes: Mapping[str, str]) -> None:
        if homes != self._moved_into(net):
            self._kept[f"moved-{net.net}"] = json.dumps(dict(homes)).encode()
            net.rosters.move_in(homes)

    def _moved_into(self, net: SwapNet) -> dict[str, str]:
        found: dict[str, str] = json.loads(self._kept.get(f"moved-{net.net}", b"{}"))
        return found

    def _say(self, underway: _Underway, event: str, **more: object) -> None:
        """Emit something about a swap, once."""
        about = {"nets": [net.net for net in underway.nets], "first_epoch": underway.proposal.first_epoch}
        said = {"event": event, "proposal": underway.identity.hex()[:16]} | about | more
        if (text := json.dumps(said)) not in underway.said:
            underway.said.add(text)
            self._emit(said)


def _in_force(net: SwapNet) -> Version:
    version = net.rosters.in_force
    assert version is not None
    return version


def _stands(net: SwapNet, version: Version) -> bool:
    """Whether a roster is still in force, and the next one not drafted yet."""
    return net.rosters.in_force is version and net.rosters.gathering


def _published(version: Version) -> tuple[RosterPublication, GraphPublication]:
    founding = version.founding
    assert founding.publication is not None
    assert founding.graph is not None
    return RosterPublication.from_bytes(founding.publication), GraphPublication.from_bytes(founding.graph)


def _beacon(net: SwapNet) -> bytes:
    version = _in_force(net)
    return beacon_of(document_hash(version.roster), _published(version)[1].nonces)


def _evidence(version: Version, offers: Sequence[Attestation]) -> SideEvidence:
    roster, graph = _published(version)
    nonces = graph.nonces.to_bytes()
    return SideEvidence(roster.signed, roster.countersigned, version.founding.bundles, nonces, tuple(offers))


def _exchange(net: SwapNet, version: Version, offered: frozenset[bytes]) -> Exchange:
    rosters = net.rosters
    change = rosters.change
    entries = zip(version.members, version.roster.entries, strict=True)
    hashes = {name: entry.certificate_hash for name, entry in entries}
    here = change.come & rosters.open.offered
    come = {hashlib.sha256(rosters.open.certificate_of(name)).digest() for name in here}
    gone = frozenset(hashes[name] for name in change.gone if name in hashes)
    return Exchange(net.rules, frozenset(hashes.values()), gone, frozenset(come), offered)
