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
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.authorisation import GraphPublication
from firmware.enforcement.dcnet.founding.beacon import beacon_of
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, RosterPublication
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_rosters import Rosters
from tools.counterparts.net_swap_book import SwapBook, Underway
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


_Two: TypeAlias = tuple[SwapNet, SwapNet]
"""In the order of the proposal."""


class Swapper:
    """Looks after all nets of one supplier.

    Args:
        nets: all of them; those with the same rules may exchange members.
        keys: the supplier's.
        emit: takes events.
        now_utc: the supplier's clock.
        kept: who came where by a swap; outlives this process.
        journal: what is under way; outlives this process as well, and is nobody else's.
        look_s: so long between two looks.

    Raises:
        JournalDamaged: what is kept has another form than ours.
    """

    def __init__(
        self,
        nets: Sequence[SwapNet],
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        now_utc: Callable[[], datetime],
        kept: MutableMapping[str, bytes],
        journal: Journal | None = None,
        look_s: float = 1.0,
    ) -> None:
        self._nets, self._keys, self._emit = tuple(nets), keys, emit
        self._now_utc, self._kept, self._look_s = now_utc, kept, look_s
        self._book = SwapBook(journal or Journal())
        self._underway = self._book.restore()
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
        if (underway := self._underway) is not None:
            await self._go_on(underway)
        else:
            for net in self._nets:
                epoch = net.rosters.next_epoch() - 1 + LEAD_EPOCHS
                if net.rosters.lone and net.free and self._book.tried(net.net) != epoch:
                    self._book.note_tried(net.net, epoch)
                    await self._try(net, epoch)
                    break
        await self._book.sync()

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

    async def _propose(self, net: SwapNet, other: SwapNet, epoch: int) -> Underway:
        one, two = sorted((net, other), key=lambda each: each.rules.net)
        versions = _in_force(one), _in_force(two)
        offers = await self._offers(one, two, epoch), await self._offers(two, one, epoch)
        if any(
            each.rosters.in_force is not version or each.rosters.drafted
            for each, version in zip((one, two), versions, strict=True)
        ):
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
        leave = [_leavers(version, out) for version, out in zip(versions, chosen, strict=True)]
        names = [tuple(each.name for each in version.roster.administrators) for version in versions]
        underway = Underway(proposal, shown, (leave[0], leave[1]), (names[0], names[1]))
        self._book.begin(underway)
        await self._book.sync()
        self._say(underway, "swap-proposed", leave=_by_net(underway))
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

    async def _go_on(self, underway: Underway) -> None:
        """Ask for consents, then have the orders given, until all are or it is too late."""
        found = {net.net: net for net in self._nets}
        if any(side.net.hex() not in found for side in underway.proposal.sides):
            await self._end(underway, "swap-late", code="net", missing=[])
            return
        one, two = (found[side.net.hex()] for side in underway.proposal.sides)
        nets = one, two
        if any(net.rosters.in_force is None for net in nets):
            return  # they are being restored
        if underway.restored:
            underway.restored = False
            done = {"consents": sorted(underway.consents), "carried": sorted(underway.carried)}
            self._say(underway, "swap-resumed", leave=_by_net(underway), ordering=underway.ordering, **done)
            if underway.ordering:
                self._plan(underway, nets, underway.everybody)
        if not underway.ordering and not all(map(_stands, nets, underway.proposal.sides)):
            await self._end(underway, "swap-late", code="roster", missing=[])
        elif nets[0].rosters.next_epoch() - 1 + LEAD_EPOCHS > underway.proposal.first_epoch:
            await self._late(underway, nets)
        elif underway.ordering or await self._agreed(underway, nets):
            await self._order(underway, nets)

    async def _late(self, underway: Underway, nets: _Two) -> None:
        """Leave it at the orders that were given; whoever gave them says so again if it is asked."""
        if underway.ordering:
            await self._ask_orders(underway, nets)
        self._plan(underway, nets, frozenset(underway.carried))
        await self._synced(nets)
        if underway.carried >= underway.everybody:
            await self._end(underway, "swap-agreed")
            return
        missing = underway.everybody - (underway.carried if underway.ordering else underway.consents.keys())
        code = "carried" if underway.ordering else "consent"
        await self._end(underway, "swap-late", code=code, missing=sorted(missing))

    async def _agreed(self, underway: Underway, nets: _Two) -> bool:
        """Ask whoever has not agreed; whether all have."""
        for name, administrator in _asked(underway, nets).items():
            if name in underway.consents:
                continue
            try:
                given = Attestation.from_bytes(await administrator.swap(underway.presentation))
            except OrderRefused as refused:
                if refused.code != "asked":
                    await self._end(underway, "swap-refused", administrator=name, reason=str(refused))
                    return False
                self._say(underway, "swap-asked", administrator=name, reason=str(refused))
            except _FAILED as error:
                self._say(underway, "swap-waits", administrator=name, reason=str(error))
            else:
                underway.consents[name] = given
                self._book.consented(name, given)
        return underway.everybody <= underway.consents.keys()

    async def _order(self, underway: Underway, nets: _Two) -> None:
        if not underway.ordering:
            self._book.order()
            await self._book.sync()  # before the nets plan it: who is restored without this gives it up
            underway.ordering = True
        # Before the first gateway hears of it: its bundle must be taken.
        self._plan(underway, nets, underway.everybody)
        await self._synced(nets)
        await self._ask_orders(underway, nets)
        if underway.carried >= underway.everybody:
            await self._end(underway, "swap-agreed")

    async def _ask_orders(self, underway: Underway, nets: _Two) -> None:
        """Show everybody's consent to whoever is not known to have given its orders."""
        consents = tuple(one for _, one in sorted(underway.consents.items()))
        warrant = SwapWarrant(underway.identity, consents).to_bytes()
        for name, administrator in _asked(underway, nets).items():
            if name not in underway.carried:
                try:
                    await administrator.swap_orders(warrant)
                except _FAILED as error:
                    self._say(underway, "swap-waits", administrator=name, reason=str(error))
                else:
                    underway.carried.add(name)
                    self._book.carried(name)

    def _plan(self, underway: Underway, nets: _Two, by: frozenset[str]) -> None:
        """Let both nets know who comes and who goes by these administrators' orders; else nobody."""
        epoch = underway.proposal.first_epoch
        moving = [{name: of for name, of in one.items() if of in by} for one in underway.leave]
        for number, net in enumerate(nets):
            out, into, now = moving[number], moving[1 - number], _in_force(net)
            if any(moving) and now.roster.first_epoch < epoch:
                net.rosters.plan(PlannedSwap(epoch, frozenset(out), frozenset(into)))
                self._keep(net, self._moved_into(net) | into)
            else:
                net.rosters.plan(None)

    async def _end(self, underway: Underway, event: str, **more: object) -> None:
        """Tell how it ended, and forget it; it may be told again if we are killed in between."""
        self._say(underway, event, **more)
        self._book.end()
        self._underway = None
        await self._book.sync()

    @staticmethod
    async def _synced(nets: _Two) -> None:
        for net in nets:
            await net.rosters.synced()

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

    def _say(self, underway: Underway, event: str, **more: object) -> None:
        """Emit something about a swap, once."""
        nets = [side.net.hex() for side in underway.proposal.sides]
        about = {"nets": nets, "first_epoch": underway.proposal.first_epoch}
        said = {"event": event, "proposal": underway.identity.hex()[:16]} | about | more
        if (text := json.dumps(said)) not in underway.said:
            underway.said.add(text)
            self._emit(said)


def _in_force(net: SwapNet) -> Version:
    version = net.rosters.in_force
    assert version is not None
    return version


def _stands(net: SwapNet, side: SwapSide) -> bool:
    """Whether a roster is still in force, and the next one has no members yet."""
    return document_hash(_in_force(net).roster) == side.roster_hash and not net.rosters.drafted


def _asked(underway: Underway, nets: _Two) -> dict[str, SwapAdministrator]:
    """Return everybody in one of the two rosters whom we know a way to, in the order of their names."""
    known = {
        name: net.administrators[name]
        for net, names in zip(nets, underway.names, strict=True)
        for name in names
        if name in net.administrators
    }
    return dict(sorted(known.items()))


def _by_net(underway: Underway) -> dict[str, list[str]]:
    """Return who leaves each net."""
    sides = zip(underway.proposal.sides, underway.leave, strict=True)
    return {side.net.hex(): list(out) for side, out in sides}


def _leavers(version: Version, out: frozenset[bytes]) -> dict[str, str]:
    """Return the gateways behind these certificates, each with the name of its administrator."""
    entries = zip(version.members, version.roster.entries, strict=True)
    return {name: entry.administrator for name, entry in entries if entry.certificate_hash in out}


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
