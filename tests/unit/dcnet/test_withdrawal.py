"""A withdrawal that administrators tell one another: who may say it of whom, and what it does in a net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.roster import Attestation
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.offices import Office, Offices, OfficesNet, believe_offices
from tests.unit.dcnet.roster_street import Street
from tests.unit.dcnet.support import attested_by
from tools.counterparts.net_succession import revoked_peers
from tools.counterparts.net_withdrawal import WithdrawalStatement, stated
from wan.errors import OrderRefused

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 11)]
OF = {name: "north" if number % 2 else "south" for number, name in enumerate(HOMES)}
NORTH, SOUTH = ([name for name in HOMES if OF[name] == one] for one in ("north", "south"))


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_offices(monkeypatch)


async def _founded(street: Street, **changes: object) -> OfficesNet:
    net = OfficesNet(1, OF, Offices("north", "south"), **changes)
    await net.founded(street)
    return net


async def _serve(street: Street, net: OfficesNet, slots: range) -> None:
    for slot in slots:
        await street.after(net.rules, slot)
        for name in HOMES:
            await street.homes[name].members[net.net_id].contribute(slot, 100 + HOMES.index(name))
    await VirtualClock().sleep_until(net.rules.open_until(slots[-1]))


async def _owing(street: Street, net: OfficesNet, slot: int) -> set[str]:
    found = set()
    for name in HOMES:
        owed = await street.homes[name].members[net.net_id].owed()
        found |= {name for one in owed if one.first_slot == slot and one.reason.startswith("revoked")}
    return found


def test_a_withdrawn_gateway_is_out_everywhere_from_the_next_slot_on(cheap: None) -> None:
    run_virtually(_out_everywhere())


async def _out_everywhere() -> None:
    async with Street() as street:
        net = await _founded(street)
        north, south, gone = net.asked["north"].office, net.asked["south"].office, NORTH[1]
        first = net.rules.slot_at(VirtualClock().now_utc()) + 1
        await _serve(street, net, range(first, first + 1))
        assert net.totals()[first]["members"] == HOMES
        net.emp.rosters.ask_withdrawals = _nothing  # type: ignore[method-assign]  # the supplier does nothing
        north.withdraw(net.net_id, [gone])
        assert set(await north.carry(street)) == {"ok"}
        assert not south.spool
        assert await north.teller.look()
        assert {gateway for gateway, _, _ in south.spool} == set(SOUTH)
        assert set(await south.carry(street)) == {"ok"}
        # Nobody of either administrator uses an edge with it: while it is expected, everybody owes; then the
        # others say hello and are among themselves, and n_min, d_min and delta decide as ever.
        rest = [name for name in HOMES if name != gone]
        await _serve(street, net, range(first + 1, first + 5))
        assert await _owing(street, net, first + 1) == set(HOMES)
        assert list(net.totals(first + 1)) == [first + 3, first + 4]
        for total in net.totals(first + 1).values():
            assert total["members"] == rest
            assert total["lanes"] == [10 * sum(100 + HOMES.index(name) for name in rest), 0, len(rest)]
        owed = await street.homes[gone].members[net.net_id].owed()
        assert [one.first_slot for one in owed] == [*range(first + 1, first + 5)]
        events = [event for event in [*south.seen, *north.seen] if event["event"].startswith("withdraw")]
        assert [event["event"] for event in events] == ["withdrawn-by-partner", "withdrawal-told"]
        assert events[0]["gateways"] == [gone]
        assert events[0]["ordered"] == len(SOUTH)
        assert revoked_peers(south.kept, net.net_id) == {gone}
        shown = await street.homes[SOUTH[0]].members[net.net_id].faults()
        assert (shown["withdrawn_list"], shown["withdrawn"]) == (1, [1 + HOMES.index(gone)])
        assert await north.teller.look()  # told once
        assert not south.spool


def test_without_the_statement_the_others_go_on_with_it(cheap: None) -> None:
    run_virtually(_control())


async def _control() -> None:
    """What the statement is for: the own order alone leaves the gateways of the other administrator."""
    async with Street() as street:
        net = await _founded(street)
        first = net.rules.slot_at(VirtualClock().now_utc()) + 1
        await _serve(street, net, range(first, first + 1))
        net.emp.rosters.ask_withdrawals = _nothing  # type: ignore[method-assign]
        net.asked["north"].office.withdraw(net.net_id, [NORTH[1]])
        await net.asked["north"].office.carry(street)
        await _serve(street, net, range(first + 1, first + 3))
        assert await _owing(street, net, first + 1) == set(NORTH)


async def _nothing() -> None:
    return None


async def _judged(
    office: Office,
    said: WithdrawalStatement,
    by: str,
    change: Callable[[Attestation], Attestation] | None = None,
) -> str:
    """Return the code of the refusal, "" if it is taken."""
    shown = attested_by(by, said.to_bytes())
    try:
        await office.taker.take(said.net.hex(), (change(shown) if change else shown).to_bytes())
    except OrderRefused as refused:
        return refused.code
    return ""


def test_each_refusal_has_its_name(cheap: None) -> None:
    run_virtually(_refusals())


async def _refusals() -> None:
    async with Street() as street:
        net = await _founded(street, roster_pause_s=3600)
        north, south = net.asked["north"].office, net.asked["south"].office
        north.withdraw(net.net_id, [NORTH[0]])
        good = stated(north.kept, net.net_id)
        assert good is not None
        assert good.serial == 1
        own = list(net.emp.rosters.in_force.roster.entries)  # type: ignore[union-attr]
        hashes = dict(zip(HOMES, (entry.certificate_hash for entry in own), strict=True))

        def of(*names: str) -> tuple[bytes, ...]:
            return tuple(sorted(hashes[name] for name in names))

        assert await _judged(south, replace(good, net=bytes(8)), "north") == "net"
        with pytest.raises(OrderRefused, match="net"):
            await south.taker.take(
                net.net_id, attested_by("north", replace(good, net=bytes(8)).to_bytes()).to_bytes()
            )
        with pytest.raises(OrderRefused, match="form"):
            await south.taker.take(net.net_id, b"junk")
        assert await _judged(south, good, "emp") == "administrator"  # whoever else has a certificate
        assert await _judged(south, replace(good, administrator="east"), "north") == "administrator"
        assert await _judged(south, replace(good, administrator="south"), "south") == "administrator"
        assert await _judged(south, good, "north", lambda s: replace(s, certificate=b"x")) == "signer"
        assert await _judged(south, replace(good, certificates=of(SOUTH[0])), "north") == "foreign"
        assert await _judged(south, replace(good, certificates=of(NORTH[0], SOUTH[0])), "north") == "foreign"
        assert not south.spool
        assert not revoked_peers(south.kept, net.net_id)
        second = replace(good, serial=2, certificates=of(*NORTH[:2]))
        assert await _judged(south, second, "north") == ""
        assert revoked_peers(south.kept, net.net_id) == set(NORTH[:2])
        assert await _judged(south, second, "north") == "replay"
        assert await _judged(south, good, "north") == "serial"
        assert await _judged(south, replace(second, certificates=of(NORTH[0])), "north") == "serial"
        back = replace(good, serial=3)  # lets one back
        assert await _judged(south, back, "north") == "pause"
        assert await _judged(south, replace(back, certificates=of(*NORTH[:3])), "north") == ""
        await VirtualClock().sleep_until(net.rules.slot_end(net.rules.slot_at(VirtualClock().now_utc()) + 81))
        assert await _judged(south, replace(back, serial=4), "north") == ""
        assert revoked_peers(south.kept, net.net_id) == {NORTH[0]}
        # Our own list and theirs stand beside each other: neither ends the other.
        south.withdraw(net.net_id, [NORTH[3]])
        assert revoked_peers(south.kept, net.net_id) == {NORTH[0], NORTH[3]}
        south.withdraw(net.net_id, [])
        assert revoked_peers(south.kept, net.net_id) == {NORTH[0]}
        assert south.spool[-1][2]["certificates"] == [hashes[NORTH[0]].hex()]
        # Nobody known: nothing to order. Of later members nobody can say in advance that they are out.
        orders = len(south.spool)
        assert (
            await _judged(south, replace(back, serial=5, certificates=(*of(NORTH[0]), b"\xff" * 32)), "north")
            == ""
        )
        assert len(south.spool) == orders
        assert stated(south.kept, net.net_id) is None  # never withdrew an own one


def test_by_hand_and_to_whom_it_is_told(cheap: None) -> None:
    run_virtually(_by_hand())


async def _by_hand() -> None:
    async with Street() as street:
        net = await _founded(street)
        north, south = net.asked["north"].office, net.asked["south"].office
        with pytest.raises(OrderRefused, match="nothing"):
            await north.teller.export(net.net_id)
        north.ways.clear()
        north.withdraw(net.net_id, [SOUTH[0]])  # not ours: nothing to state
        assert stated(north.kept, net.net_id) is None
        north.withdraw(net.net_id, [SOUTH[0], NORTH[0]])
        for _ in range(2):
            assert not await north.teller.look()
        assert [e["administrator"] for e in north.seen if e["event"] == "withdrawal-by-hand"] == ["south"]
        taken = await south.taker.take(net.net_id, await north.teller.export(net.net_id))
        assert taken == [NORTH[0]]
        north.ways["south"] = south
        assert await north.teller.look()  # known there: as good as told
        assert await north.teller.look()

        class Away:
            async def withdrawn(self, _net: str, _statement: bytes) -> None:
                raise OSError("away")

        north.ways["south"] = Away()
        north.withdraw(net.net_id, [])
        for _ in range(2):
            assert not await north.teller.look()
        assert len([e for e in north.seen if e["event"] == "withdrawal-waits"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, certificates=(b"\2" * 32, b"\1" * 32)),
        lambda s: replace(s, certificates=(b"\1" * 32, b"\1" * 32)),
        lambda s: replace(s, certificates=(b"\1",)),
        lambda s: replace(s, net=b"short"),
        lambda s: replace(s, administrator="x" * 65),
        lambda s: replace(s, serial=1 << 32),
    ],
)
def test_a_statement_has_one_form(change: Callable[[WithdrawalStatement], WithdrawalStatement]) -> None:
    good = WithdrawalStatement(bytes(8), "north", 1, (b"\1" * 32, b"\2" * 32))
    assert WithdrawalStatement.from_bytes(good.to_bytes()) == good
    with pytest.raises(MalformedObject):
        WithdrawalStatement.from_bytes(change(good).to_bytes())
