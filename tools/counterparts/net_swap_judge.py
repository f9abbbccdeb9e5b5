"""An administrator's part in a swap between two nets of one supplier: offers, consents, orders.

Nothing happens before every administrator of both rosters has agreed to the same proposal; what happens then
are the orders of a change of supplier. Spec: docs/dcnet.md, swaps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy, ProfileSet
from tools.counterparts.messages import MessageRefused, Trust
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_succession import newest_of, owners_of, revoked_peers
from tools.counterparts.net_swap_choice import NoSwap, choose, seed_of
from tools.counterparts.net_swap_documents import (
    SwapConsent,
    SwapOffer,
    SwapPresentation,
    SwapProposal,
    SwapWarrant,
)
from tools.counterparts.net_swap_evidence import OpenAttestation, Shown, check_side, proposal_of
from tools.counterparts.net_swap_profiles import enters, swapped
from tools.counterparts.server import Emit
from wan.errors import OrderRefused

LEAD_EPOCHS: Final = 2
"""A swap begins at least so many epochs after the present one: rosters are founded in the one before."""
LATEST_EPOCHS: Final = 8
_YEAR: Final = timedelta(days=365)
_PROFILES: Final = "profiles"


class SwapSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[swaps] of gwa.toml: what we let suppliers swap."""

    answer: Literal["ask", "agree", "refuse"] = "ask"
    """Whether the operator is asked each time, or never."""
    rest_s: int = 30 * 86400
    """A home is not swapped again before so much time is over."""
    most_a_year: int = 4
    """How often a home is swapped in 365 days."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A proposal that may be agreed to."""

    proposal: SwapProposal
    sides: tuple[Shown, Shown]
    rules: NetRules
    """Of one of the nets: those of the other have the same grid."""

    @property
    def administrators(self) -> set[tuple[str, bytes]]:
        """(name, hash of the certificate) of everybody who must agree."""
        return {item for side in self.sides for item in side.administrators.items()}


class SwapJudge:
    """Judges swaps for one administrator.

    Args:
        name: how rosters call us.
        certificate: DER of our SIG certificate.
        ordered: net id (hex) -> what was ordered, None if nothing.
        profiles: gateway id -> the set of profiles that was ordered.
        trust: anchors for the supplier's certificate.
        open_attestation: checks what administrators signed.
        sign: signs as the administrator.
        emit: takes events.
        kept: our records, shared with the witness.
        place: gives a gateway an order: (gateway id, kind, body).
        partners: other administrators whose gateways may be in nets with ours.
        refused_peers: gateway ids that no gateway of ours shares a key with.
        settings: what we let happen.
        now_utc: our clock.
    """

    def __init__(
        self,
        name: str,
        certificate: bytes,
        ordered: Callable[[str], OrderedNet | None],
        profiles: Callable[[str], ProfileSet],
        trust: Trust,
        open_attestation: OpenAttestation,
        sign: Callable[[bytes], Awaitable[bytes]],
        emit: Emit,
        *,
        kept: MutableMapping[str, bytes],
        place: Callable[[str, str, dict[str, Any]], object],
        partners: frozenset[str] = frozenset(),
        refused_peers: frozenset[str] = frozenset(),
        settings: SwapSettings | None = None,
        now_utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name, self._certificate, self._now_utc = name, certificate, now_utc
        self._ordered, self._profiles, self._place = ordered, profiles, place
        self._trust, self._open, self._sign, self._emit = trust, open_attestation, sign, emit
        self._kept, self._partners, self._refused = kept, partners, refused_peers
        self.settings = settings or SwapSettings()

    # -- which gateways may go -------------------------------------------------------------------------

    async def offer(self, net: str, target: str, first_epoch: int) -> bytes:
        """Answer `POST /dcnet/v1/{net}/swap-offer/{target}/{epoch}`: an `Attestation` of our `SwapOffer`.

        The same question gets the same answer: else a supplier could ask until it likes the choice.

        Raises:
            OrderRefused: `swaps` (we let none happen), `net`, `policy`, `epoch`, `roster`; answer 403.
        """
        try:
            rules, policy = self._terms(net, target)
            self._check_epoch(rules, first_epoch)
            roster, _ = self._in_force(net)
        except OrderRefused as refused:
            raise self._refusal("swap-offer", net, refused) from None
        record = f"offer-{net}-{target}-{first_epoch}-{roster.version}"
        if record not in self._kept:
            stays = self._staying(net, target, policy, roster, rules, first_epoch)
            able = sorted(one for one, (_, why) in stays.items() if not why)
            made = SwapOffer(
                rules.net, bytes.fromhex(target), document_hash(roster), first_epoch, self._name, tuple(able)
            )
            self._kept[record] = made.to_bytes()
            about = {"net": net, "target": target, "first_epoch": first_epoch, "offered": len(able)}
            self._emit({"event": "swap-offer", "stay": {g: why for g, why in stays.values() if why}} | about)
        return await self._attest(self._kept[record])

    def _staying(
        self,
        net: str,
        target: str,
        policy: NetPolicy | None,
        roster: Roster,
        rules: NetRules,
        first_epoch: int,
    ) -> dict[bytes, tuple[str, str]]:
        """Return of our gateways in a roster: certificate hash -> (id, why it stays; empty if it may go)."""
        own = {entry.certificate_hash for entry in roster.entries if entry.administrator == self._name}
        boundary = rules.slot_end(rules.first_slot_of(first_epoch) - 1)
        found = {}
        for one, (administrator, gateway) in owners_of(self._kept, net).items():
            if one in own and administrator == self._name:
                why = f"net {target} is not known to us"
                if policy is not None:
                    why = self._stays(gateway, net, policy, boundary, first_epoch)
                found[one] = gateway, why
        return found

    def _stays(self, gateway: str, net: str, target: NetPolicy, boundary: datetime, epoch: int) -> str:
        """Return why a home may not change its net; empty if it may."""
        if gateway in self._refused or any(
            gateway in revoked_peers(self._kept, one) for one in (net, target.net_id)
        ):
            return "refused or withdrawn"
        times = self._times(gateway)
        if any(boundary - one < timedelta(seconds=self.settings.rest_s) for one in times):
            return "swapped lately"
        if sum(boundary - one < _YEAR for one in times) >= self.settings.most_a_year:
            return "swapped often"
        try:
            self._moved(gateway, net, target, boundary, epoch)
        except OrderRefused as refused:
            return str(refused)
        return ""

    def _moved(self, gateway: str, net: str, target: NetPolicy, boundary: datetime, epoch: int) -> ProfileSet:
        ended_by = self._now_utc() - 2 * timedelta(seconds=target.epoch_s)
        return swapped(self._profiles(gateway), net, target, boundary, epoch, ended_by)

    def _times(self, gateway: str) -> list[datetime]:
        """Return the boundaries at which a home was swapped."""
        found = json.loads(self._kept.get(f"swapped-{gateway}", b"[]"))
        return [datetime.fromtimestamp(one, UTC) for one in found]

    # -- whether we agree ------------------------------------------------------------------------------

    async def consent(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/swap`: an `Attestation` of our `SwapConsent` to a `SwapPresentation`.

        Raises:
            OrderRefused: with a code and the reason; answer 403. `asked`: the operator has not said yet.
        """
        try:
            judged = await self._judge(net, body)
            identity = document_hash(judged.proposal)
            if self._check_only_one(judged, identity):
                return await self._attest(SwapConsent(identity, self._name).to_bytes())
            self._ask(judged, identity.hex())
        except OrderRefused as refused:
            raise self._refusal("swap", net, refused) from None
        record = {
            "proposal": identity.hex(),
            "first_epoch": judged.proposal.first_epoch,
            "administrators": sorted([name, one.hex()] for name, one in judged.administrators),
            "body": judged.proposal.to_bytes().hex(),
            "carried": False,
        }
        for side in judged.proposal.sides:
            self._kept[_consented(side.net.hex())] = json.dumps(record).encode()
        self._emit({"event": "swap-agreed", "net": net, "proposal": identity.hex()[:16]})
        return await self._attest(SwapConsent(identity, self._name).to_bytes())

    async def _judge(self, net: str, body: bytes) -> _Judged:
        try:
            shown = SwapPresentation.from_bytes(body)
            ordered = self._known(net)
            proposal = await proposal_of(shown, self._trust, ordered.emp_certificate)
        except DcNetError as error:
            raise OrderRefused("form", str(error)) from error
        nets = [side.net.hex() for side in proposal.sides]
        if net not in nets:
            raise OrderRefused("net", "a swap of other nets")
        rules, _ = self._terms(net, nets[1 - nets.index(net)])
        self._check_epoch(rules, proposal.first_epoch)
        checked = []
        for number, (side, evidence) in enumerate(zip(proposal.sides, shown.sides, strict=True)):
            checked.append(
                await check_side(
                    side,
                    proposal.sides[1 - number],
                    proposal.first_epoch,
                    evidence,
                    replace(rules, net=side.net),
                    trust=self._trust,
                    emp=ordered.emp_certificate,
                    open_attestation=self._open,
                )
            )
        one, two = checked
        own = (self._name, hashlib.sha256(self._certificate).digest())
        for shown_side, side in zip(checked, proposal.sides, strict=True):
            self._check_roster(shown_side, own)
            self._check_movers(shown_side.roster, side.out)
        seed = seed_of({each.roster.net: each.beacon for each in checked})
        try:
            chosen = choose(one.exchange, two.exchange, seed)
        except NoSwap as none:
            raise OrderRefused("choice", str(none)) from none
        if chosen != tuple(frozenset(side.out) for side in proposal.sides):
            raise OrderRefused("choice", "not those whom the beacons choose")
        judged = _Judged(proposal, (one, two), rules)
        self._orders_of(proposal)
        return judged

    def _check_roster(self, side: Shown, own: tuple[str, bytes]) -> None:
        """Demand the roster that we know to be in force; of a net without us its administrators do."""
        names, net = side.administrators, side.roster.net.hex()
        if self._ordered(net) is None and self._name not in names:
            return
        _, identity = self._in_force(net)
        if names.get(self._name) != own[1] or document_hash(side.roster) != identity:
            raise OrderRefused("roster", f"net {net}: not the roster in force")

    def _check_movers(self, roster: Roster, out: Collection[bytes]) -> None:
        by = {entry.administrator for entry in roster.entries if entry.certificate_hash in out}
        if strangers := sorted(by - {self._name} - self._partners):
            raise OrderRefused("partner", f"{', '.join(strangers)} is not known to us")

    def _check_only_one(self, judged: _Judged, identity: bytes) -> bool:
        """Demand one swap for a net and epoch, and none while another is under way; whether it is known."""
        proposal = judged.proposal
        for side in proposal.sides:
            data = self._kept.get(_consented(side.net.hex()))
            known = None if data is None else json.loads(data)
            if known is None:
                continue
            if known["proposal"] == identity.hex():
                return True
            if known["first_epoch"] >= proposal.first_epoch:
                raise OrderRefused("second", f"net {side.net.hex()}: another swap was agreed to")
            if known["carried"] and known["first_epoch"] > self._epoch(judged.rules):
                raise OrderRefused("second", f"net {side.net.hex()}: another swap is under way")
        return False

    def _ask(self, judged: _Judged, identity: str) -> None:
        """Let the operator decide, if that is how we do it."""
        if self.settings.answer == "agree":
            return
        record = f"swap-asked-{identity[:16]}"
        if record not in self._kept:
            orders = {gateway: net for gateway, net, _ in self._orders_of(judged.proposal)}
            said = {
                "proposal": identity[:16],
                "nets": [side.net.hex() for side in judged.proposal.sides],
                "first_epoch": judged.proposal.first_epoch,
                "move": [len(side.out) for side in judged.proposal.sides],
                "own": orders,
                "answer": "",
            }
            self._kept[record] = json.dumps(said).encode()
            self._emit({"event": "swap-asked"} | said)
        answer = json.loads(self._kept[record])["answer"]
        if answer == "refuse":
            raise OrderRefused("swaps", "the operator refuses")
        if answer != "agree":
            raise OrderRefused("asked", "the operator has not said yet")

    # -- what we order ---------------------------------------------------------------------------------

    async def carry(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/swap-orders`: give our gateways their orders, once all agree.

        Raises:
            OrderRefused: `form`, `swaps` (we have not agreed), `consent` (somebody's is missing), `epoch`,
                `roster` (another one came in between), `home`; answer 403.
        """
        try:
            await self._carry(net, body)
        except OrderRefused as refused:
            raise self._refusal("swap-orders", net, refused) from None
        return b""

    async def _carry(self, net: str, body: bytes) -> None:
        try:
            warrant = SwapWarrant.from_bytes(body)
            data = self._kept.get(_consented(net))
            known = None if data is None else json.loads(data)
            if known is None or known["proposal"] != warrant.proposal_hash.hex():
                raise OrderRefused("swaps", "we have not agreed to this swap")
            if known["carried"]:
                return
            agreed = set()
            for one in warrant.consents:
                said = SwapConsent.from_bytes(await self._open(one))
                if said.proposal_hash == warrant.proposal_hash:
                    agreed.add((said.administrator, hashlib.sha256(one.certificate).hexdigest()))
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        if missing := sorted(name for name, one in known["administrators"] if (name, one) not in agreed):
            raise OrderRefused("consent", f"{', '.join(missing)} has not agreed")
        proposal = SwapProposal.from_bytes(bytes.fromhex(known["body"]))
        rules = NetRules.from_profile(self._known(net).policy)
        self._check_epoch(rules, proposal.first_epoch)
        for side in proposal.sides:
            each = side.net.hex()
            if self._ordered(each) is not None and self._in_force(each)[1] != side.roster_hash:
                raise OrderRefused("roster", f"net {each}: another roster came in between")
        boundary = rules.slot_end(rules.first_slot_of(proposal.first_epoch) - 1)
        orders = self._orders_of(proposal)
        for gateway, _, profiles in orders:
            if profiles != self._profiles(gateway):
                self._place(gateway, _PROFILES, msgspec.to_builtins(profiles))
            times = {*(one.timestamp() for one in self._times(gateway)), boundary.timestamp()}
            self._kept[f"swapped-{gateway}"] = json.dumps(sorted(times)).encode()
        known["carried"] = True
        for side in proposal.sides:
            self._kept[_consented(side.net.hex())] = json.dumps(known).encode()
        about = {"net": net, "proposal": known["proposal"][:16], "first_epoch": proposal.first_epoch}
        self._emit({"event": "swap-ordered", "gateways": {g: to for g, to, _ in orders}} | about)

    def _orders_of(self, proposal: SwapProposal) -> list[tuple[str, str, ProfileSet]]:
        """Return (gateway, net it comes to, its new profiles) of our own among those who change places."""
        found = []
        for number, side in enumerate(proposal.sides):
            net, target = side.net.hex(), proposal.sides[1 - number].net.hex()
            owners = owners_of(self._kept, net)
            own = [owners[one][1] for one in side.out if owners.get(one, ("",))[0] == self._name]
            if not own:
                continue
            rules, policy = self._terms(net, target)
            if policy is None:
                raise OrderRefused("net", f"net {target} is not known to us")
            boundary = rules.slot_end(rules.first_slot_of(proposal.first_epoch) - 1)
            for gateway in own:
                now = self._profiles(gateway)
                done = enters(now, target, boundary)  # we were interrupted while we gave the orders
                made = now if done else self._moved(gateway, net, policy, boundary, proposal.first_epoch)
                found.append((gateway, target, made))
        return found

    # -- shared ----------------------------------------------------------------------------------------

    def _known(self, net: str) -> OrderedNet:
        if self.settings.answer == "refuse":
            raise OrderRefused("swaps", "no swaps here")
        if (ordered := self._ordered(net)) is None:
            raise OrderRefused("net", "no such net was ordered")
        return ordered

    def _terms(self, net: str, target: str) -> tuple[NetRules, NetPolicy | None]:
        """Return the rules of a net, and the policy of the one its gateways would come to.

        None if we are not among the administrators of that one: then none of ours can come to it, since an
        administrator countersigns rosters only if it knows the one before.
        """
        ordered, there = self._known(net), self._ordered(target)
        rules = NetRules.from_profile(ordered.policy)
        if target == net:
            raise OrderRefused("net", "a net has nobody to change places with")
        if there is None:
            return rules, None
        if msgspec.structs.replace(ordered.policy, net_id=target) != there.policy:
            raise OrderRefused("policy", f"net {target} has other rules")
        if there.emp_certificate != ordered.emp_certificate:
            raise OrderRefused("policy", f"net {target} is another supplier's")
        return rules, there.policy if newest_of(self._kept, target, "given") else None

    def _epoch(self, rules: NetRules) -> int:
        return rules.epoch_of(rules.slot_at(self._now_utc()))

    def _check_epoch(self, rules: NetRules, first_epoch: int) -> None:
        now = self._epoch(rules)
        if not now + LEAD_EPOCHS <= first_epoch <= now + LATEST_EPOCHS:
            raise OrderRefused("epoch", f"epoch {first_epoch}, seen from epoch {now}")

    def _in_force(self, net: str) -> tuple[Roster, bytes]:
        """Return the roster whose peers we authorised last, and its hash."""
        if not (version := newest_of(self._kept, net, "given")):
            raise OrderRefused("roster", f"no roster of net {net} was authorised")
        content = self._kept[f"roster-{net}-{version}"]
        return Roster.from_bytes(content), hashlib.sha256(content).digest()

    async def _attest(self, content: bytes) -> bytes:
        return Attestation(self._certificate, await self._sign(content)).to_bytes()

    def _refusal(self, what: str, net: str, refused: OrderRefused) -> OrderRefused:
        if refused.code != "asked":
            self._emit({"event": "refused", "what": what, "net": net, "reason": str(refused)})
        return refused


def _consented(net: str) -> str:
    return f"swap-agreed-{net}"
