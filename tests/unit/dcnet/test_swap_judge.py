"""What an administrator looks at before homes change places: each check has a proposal that breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.founding.beacon import Nonces
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, KeyBundle, Roster
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.offices import EMP, Office, believe_offices
from tests.unit.dcnet.roster_street import Street
from tests.unit.dcnet.support import attested_by, signed_by
from tests.unit.dcnet.test_whole_swap import AGREE, HOMES, IN_A, IN_B, OF, Swapping
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_swap_documents import (
    SideEvidence,
    SwapConsent,
    SwapOffer,
    SwapPresentation,
    SwapProposal,
    SwapSide,
    SwapWarrant,
)
from tools.counterparts.net_swap_judge import SwapSettings
from tools.counterparts.net_versions import PendingChange
from wan.errors import OrderRefused

Change = Callable[[SwapPresentation, SwapProposal], tuple[SwapPresentation, SwapProposal | None]]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_offices(monkeypatch)


async def refusal(asked: Awaitable[bytes]) -> str:
    """The code of a refusal, "" if there is none."""
    try:
        await asked
    except OrderRefused as refused:
        return refused.code
    return ""


async def proposed(world: Swapping, ahead: int = 2) -> tuple[SwapPresentation, SwapProposal]:
    """What an honest supplier proposes when a home of the first net has left."""
    world.a.emp.rosters.change = PendingChange(frozenset({IN_A[4]}), frozenset())
    made = await world.supplier._propose(world.a.swap_net, world.b.swap_net, world.epoch + ahead)
    return SwapPresentation.from_bytes(made.presentation), made.proposal


def first(shown: SwapPresentation, **changes: Any) -> SwapPresentation:
    """Other evidence of the first side."""
    return replace(shown, sides=(replace(shown.sides[0], **changes), shown.sides[1]))


def of_first(proposal: SwapProposal, **changes: Any) -> SwapProposal:
    """Another first side."""
    return replace(proposal, sides=(replace(proposal.sides[0], **changes), proposal.sides[1]))


def _roster(evidence: SideEvidence) -> Roster:
    return Roster.from_bytes(evidence.signed.partition(b"|")[2])


def _offer(evidence: SideEvidence, number: int, by: str = "", **changes: Any) -> tuple[Attestation, ...]:
    name, _, content = evidence.offers[number].signed.partition(b"|")
    made = attested_by(by or name.decode(), replace(SwapOffer.from_bytes(content), **changes).to_bytes())
    return tuple(made if at == number else one for at, one in enumerate(evidence.offers))


def _other_nonces(evidence: SideEvidence) -> bytes:
    known = Nonces.from_bytes(evidence.nonces)
    return replace(known, emp=bytes(32)).to_bytes()


def _other_bundle(evidence: SideEvidence) -> tuple[bytes, ...]:
    """A commitment to a nonce that somebody likes better."""
    bundle = replace(KeyBundle.from_bytes(evidence.bundles[0]), commitment=bytes(32))
    return (bundle.to_bytes(), *evidence.bundles[1:])


def _another(side: SwapSide, evidence: SideEvidence) -> tuple[bytes, ...]:
    """Somebody else in the place of one who was chosen."""
    offered = SwapOffer.from_bytes(evidence.offers[1].signed.partition(b"|")[2]).certificates
    free = [one for one in offered if one not in side.out]
    return tuple(sorted((side.out[0], free[0])))


BROKEN: dict[str, tuple[str, Change]] = {
    "signed by somebody else": (
        "signer",
        lambda s, p: (replace(s, signed=signed_by("north", p.to_bytes())), None),
    ),
    "an epoch that is too near": ("epoch", lambda s, p: (s, replace(p, first_epoch=p.first_epoch - 1))),
    "an epoch that is far": ("epoch", lambda s, p: (s, replace(p, first_epoch=p.first_epoch + 7))),
    "another roster": ("roster", lambda s, p: (s, of_first(p, roster_hash=bytes(32)))),
    "a roster that one administrator did not countersign": (
        "roster",
        lambda s, p: (first(s, countersigned=s.sides[0].countersigned[:-1]), None),
    ),
    "a roster that somebody else countersigned": (
        "roster",
        lambda s, p: (
            first(
                s,
                countersigned=(
                    attested_by("emp", _roster(s.sides[0]).to_bytes()),
                    *s.sides[0].countersigned[1:],
                ),
            ),
            None,
        ),
    ),
    "a nonce that nobody committed to": (
        "beacon",
        lambda s, p: (first(s, nonces=_other_nonces(s.sides[0])), None),
    ),
    "a commitment of later": ("beacon", lambda s, p: (first(s, bundles=_other_bundle(s.sides[0])), None)),
    "a bundle is missing": ("beacon", lambda s, p: (first(s, bundles=s.sides[0].bundles[1:]), None)),
    "an offer is missing": ("offer", lambda s, p: (first(s, offers=s.sides[0].offers[1:]), None)),
    "an offer by another": (
        "offer",
        lambda s, p: (first(s, offers=_offer(s.sides[0], 1, "emp")), None),
    ),
    "an offer for another epoch": (
        "offer",
        lambda s, p: (first(s, offers=_offer(s.sides[0], 1, first_epoch=p.first_epoch + 1)), None),
    ),
    "an offer of foreign gateways": (
        "offer",
        lambda s, p: (
            first(
                s,
                offers=_offer(
                    s.sides[0],
                    1,
                    certificates=tuple(sorted(e.certificate_hash for e in _roster(s.sides[0]).entries)),
                ),
            ),
            None,
        ),
    ),
    "somebody whom the supplier likes better": (
        "choice",
        lambda s, p: (s, of_first(p, out=_another(p.sides[0], s.sides[0]))),
    ),
    "fewer than the rule wants": ("choice", lambda s, p: (s, of_first(p, out=p.sides[0].out[:1]))),
    "a swap without need": ("choice", lambda s, p: (s, of_first(p, gone=()))),
    "bytes that are no roster": ("form", lambda s, p: (first(s, signed=signed_by("emp", b"\x80")), None)),
}


def test_every_check_of_a_proposal_has_its_name() -> None:
    run_virtually(_proposals())


async def _proposals() -> None:
    async with Street() as street:
        world = Swapping(street)
        await world.begin()
        judge, net = world.offices["north"].judge, world.a.net_id
        shown, proposal = await proposed(world)
        for name, (code, change) in BROKEN.items():
            broken, other = change(shown, proposal)
            if other is not None:
                broken = replace(broken, signed=signed_by("emp", other.to_bytes()))
            assert await refusal(judge.consent(net, broken.to_bytes())) == code, name
        assert await refusal(judge.consent(net, b"junk")) == "form"
        good = shown.to_bytes()
        assert await refusal(judge.consent("ff" * 8, good)) == "net"
        judge.settings = SwapSettings(answer="refuse")
        assert await refusal(judge.consent(net, good)) == "swaps"
        judge.settings = AGREE
        east = world.offices["east"].judge  # in the first net alone, so all who move are others'
        east._partners = frozenset()
        assert await refusal(east.consent(net, good)) == "partner"
        assert not world.events("swap-agreed")
        assert not world.offices["north"].spool
        assert await refusal(judge.consent(net, good)) == ""
        assert (
            await refusal(judge.consent(world.b.net_id, good)) == ""
        )  # the same again, as about the other net
        # Another one for the same epoch: after a further home has gone, the beacons choose others or fewer.
        world.a.emp.rosters.change = PendingChange(frozenset({IN_A[4], IN_A[5]}), frozenset())
        other_made = await world.supplier._propose(world.a.swap_net, world.b.swap_net, proposal.first_epoch)
        assert await refusal(judge.consent(net, other_made.presentation)) == "second"


def test_what_an_administrator_knows_itself_is_what_counts() -> None:
    run_virtually(_knows())


async def _knows() -> None:
    async with Street() as street:
        world = Swapping(street)
        await world.begin()
        office, net, target = world.offices["north"], world.a.net_id, world.b.net_id
        judge, epoch = office.judge, world.epoch + 2
        shown, proposal = await proposed(world)
        good = shown.to_bytes()
        # A newer roster than the one that is shown is in force.
        old = office.kept[f"roster-{net}-1"]
        office.kept[f"roster-{net}-2"] = replace(Roster.from_bytes(old), version=2).to_bytes()
        office.kept[f"names-{net}-2"], office.kept[f"given-{net}-2"] = office.kept[f"names-{net}-1"], b"\1"
        assert await refusal(judge.consent(net, good)) == "roster"
        for record in ("roster", "names", "given"):
            del office.kept[f"{record}-{net}-2"]
        # The other net has other rules, or is another supplier's, by our own orders.
        plain = world.b.policy
        for policy, emp in (
            (msgspec.structs.replace(plain, churn_min=5), EMP),
            (msgspec.structs.replace(plain, slot_s=90), EMP),
            (plain, b"another"),
        ):
            judge._ordered = _with(office, target, OrderedNet(policy, emp, frozenset(IN_B)))
            assert await refusal(judge.consent(net, good)) == "policy"
            assert await refusal(judge.offer(net, target, epoch)) == "policy"
        judge._ordered = office.ordered
        # Questions for offers that get none.
        assert await refusal(judge.offer("ff" * 8, target, epoch)) == "net"
        assert await refusal(judge.offer(net, net, epoch)) == "net"
        for wrong in (epoch - 1, epoch + 7):
            assert await refusal(judge.offer(net, target, wrong)) == "epoch"
        # A home that has changed since it was offered stays where it is, and all the others with it.
        owners = {entry.certificate_hash: home for entry, home in _members(world)}
        mover = next(owners[one] for side in proposal.sides for one in side.out if OF[owners[one]] == "north")
        profiles = office.profiles.pop(mover)
        office.profiles[mover] = msgspec.structs.replace(profiles, communication=())
        assert await refusal(judge.consent(net, good)) == "home"
        office.profiles[mover] = profiles
        assert await refusal(judge.consent(net, good)) == ""


def _with(office: Office, net: str, ordered: OrderedNet) -> Callable[[str], OrderedNet | None]:
    return lambda asked: ordered if asked == net else office.ordered(asked)


def _members(world: Swapping) -> list[tuple[Any, str]]:
    found = []
    for net in world.nets:
        now = net.emp.rosters.in_force
        assert now is not None
        found += zip(now.roster.entries, now.members, strict=True)
    return found


def test_who_is_offered() -> None:
    run_virtually(_offered())


async def _offered() -> None:
    async with Street() as street:
        world = Swapping(street, SwapSettings(answer="agree", rest_s=3600, most_a_year=2))
        await world.begin()
        office, net, target = world.offices["north"], world.a.net_id, world.b.net_id
        names = {entry.certificate_hash: home for entry, home in _members(world)}

        async def offered(ahead: int, by: str = "north") -> set[str]:
            shown = await world.offices[by].judge.offer(net, target, world.epoch + ahead)
            content = Attestation.from_bytes(shown).signed.partition(b"|")[2]
            said = SwapOffer.from_bytes(content)
            assert said.roster_hash == document_hash(world.a.emp.rosters.in_force.roster)  # type: ignore[union-attr]
            return {names[one] for one in said.certificates}

        own = {home for home in IN_A if OF[home] == "north"}
        assert await offered(2) == own
        # None of its gateways can come where it countersigns nothing.
        assert await offered(2, "east") == set()
        rested, tired, often, revoked = sorted(own)[:4]
        boundary = world.a.rules.slot_end(world.a.rules.first_slot_of(world.epoch + 3) - 1).timestamp()
        office.kept[f"swapped-{rested}"] = f"[{boundary - 3600}]".encode()
        office.kept[f"swapped-{tired}"] = f"[{boundary - 3599}]".encode()
        office.kept[f"swapped-{often}"] = f"[{boundary - 8000}, {boundary - 4000}]".encode()
        office.withdraw(net, [revoked])
        assert await offered(2) == own  # the same question, the same answer
        assert await offered(3) == own - {tired, often, revoked}
        office.judge._refused = frozenset({rested})
        assert await offered(4) == own - {rested, tired, often, revoked} | {tired}


def test_orders_come_when_all_agree_and_once() -> None:
    run_virtually(_orders())


async def _orders() -> None:
    async with Street() as street:
        world = Swapping(street)
        await world.begin()
        office, net = world.offices["north"], world.a.net_id
        shown, proposal = await proposed(world)
        identity = document_hash(proposal)
        consents = {
            name: Attestation.from_bytes(await one.judge.consent(net, shown.to_bytes()))
            for name, one in world.offices.items()
        }

        def warrant(**changes: Attestation | None) -> bytes:
            given = tuple(one for one in (consents | changes).values() if one is not None)
            return SwapWarrant(identity, given).to_bytes()

        other = SwapConsent(bytes(32), "south")
        forged = attested_by("emp", SwapConsent(identity, "south").to_bytes())
        carry = office.judge.carry
        assert await refusal(carry(net, b"junk")) == "form"
        assert await refusal(carry(net, SwapWarrant(bytes(32), ()).to_bytes())) == "swaps"
        assert await refusal(carry("ff" * 8, warrant())) == "swaps"
        for south in (None, forged, attested_by("south", other.to_bytes()), consents["north"]):
            assert await refusal(carry(net, warrant(south=south))) == "consent"
        # Another roster has come in between: the numbers are not those that were agreed to.
        old = office.kept[f"roster-{net}-1"]
        office.kept[f"roster-{net}-2"] = replace(Roster.from_bytes(old), version=2).to_bytes()
        office.kept[f"names-{net}-2"], office.kept[f"given-{net}-2"] = office.kept[f"names-{net}-1"], b"\1"
        assert await refusal(carry(net, warrant())) == "roster"
        for record in ("roster", "names", "given"):
            del office.kept[f"{record}-{net}-2"]
        assert not office.spool
        assert await refusal(carry(net, warrant())) == ""
        moved = {gateway for gateway, _, _ in office.spool}
        names = {entry.certificate_hash: home for entry, home in _members(world)}
        assert moved == {names[o] for side in proposal.sides for o in side.out if OF[names[o]] == "north"}
        spool = [*office.spool]
        assert await refusal(carry(net, warrant())) == ""
        # Interrupted before the record was made: what is ordered already is not ordered again.
        for one in world.nets:
            record = f"swap-agreed-{one.net_id}"
            office.kept[record] = office.kept[record].replace(b'"carried": true', b'"carried": false')
        assert await refusal(carry(net, warrant())) == ""
        assert office.spool == spool
        # Too late: the epoch before has begun, and gateways could not found a roster any more.
        await VirtualClock().sleep_until(
            world.a.rules.slot_end(world.a.rules.first_slot_of(proposal.first_epoch - 1))
        )
        south = world.offices["south"]
        assert await refusal(south.judge.carry(net, warrant())) == "epoch"
        assert not south.spool
        await asyncio.sleep(0)


def _documents() -> list[Any]:
    one, two = (
        SwapSide(bytes([n]) * 8, b"\1" * 32, (b"\1" * 32,), (b"\2" * 32,), (b"\3" * 32,)) for n in (1, 2)
    )
    shown = Attestation(b"certificate", b"signed")
    evidence = SideEvidence(b"roster", (shown,), (b"bundle",), b"nonces", (shown,))
    return [
        SwapOffer(bytes(8), b"\1" * 8, b"\2" * 32, 7, "north", (b"\3" * 32,)),
        SwapProposal(7, (one, two)),
        SwapConsent(b"\1" * 32, "north"),
        SwapPresentation(b"signed", (evidence, evidence)),
        SwapWarrant(b"\1" * 32, (shown,)),
    ]


@pytest.mark.parametrize("document", _documents())
def test_documents_have_one_form(document: Any) -> None:
    data = document.to_bytes()
    assert type(document).from_bytes(data) == document
    for cut in range(0, len(data), 7):
        with pytest.raises(MalformedObject):
            type(document).from_bytes(data[:cut])
    with pytest.raises(MalformedObject):
        type(document).from_bytes(data + b"\0")


def test_a_proposal_names_its_nets_in_order_and_everybody_once() -> None:
    proposal = _documents()[1]
    for bad in (
        replace(proposal, sides=proposal.sides[::-1]),
        replace(proposal, sides=(proposal.sides[0], proposal.sides[0])),
        of_first(proposal, out=(b"\3" * 32, b"\3" * 32)),
        of_first(proposal, gone=(b"\2" * 32, b"\1" * 32)),
        of_first(proposal, come=(b"short",)),
        replace(proposal, sides=proposal.sides[:1]),
    ):
        with pytest.raises(MalformedObject):
            SwapProposal.from_bytes(bad.to_bytes())
    assert len(HOMES) > len(IN_A)
