"""The supplier's side of confirmations, disputes, leaving and contracts: what it takes and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.confirmation import EdgeConfirm, EdgeDispute
from firmware.enforcement.dcnet.founding.succession import Leave, VersionNotice
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.roster_street import Net, Street, believe_names, told
from tests.unit.dcnet.support import attested_by, signed_by

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 9)]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_names(monkeypatch)


async def _put(street: Street, net: Net, gateway: str, resource: str, body: bytes) -> int:
    path = f"/dcnet/v1/{net.net_id}/{resource}"
    return (await street.ask(net, gateway, "PUT", path, body)).status


async def _founded(street: Street, net: Net, names: list[str]) -> None:
    street.open(net)
    for name in names:
        street.join(await street.build(name), net)
    await street.until(lambda: all(told(street.homes[name], NetEventKind.JOINED, net) for name in names))


def test_confirmations_and_disputes_are_their_members_own(cheap: None) -> None:
    run_virtually(_confirmations())


async def _confirmations() -> None:
    names = HOMES[:5]
    net = Net(None, 1, names, names)
    async with Street() as street, asyncio.timeout(4000):
        await _founded(street, net, names)
        now = net.emp.rosters.in_force
        assert now is not None
        name = document_hash(now.roster)
        tags = tuple((peer, bytes(8)) for peer in (2, 3, 4, 5))
        said = EdgeConfirm(net.rules.net, 1, name, 1, tags)
        wrong: list[Callable[[EdgeConfirm], EdgeConfirm]] = [
            lambda s: replace(s, index=2),
            lambda s: replace(s, index=9),
            lambda s: replace(s, roster_hash=bytes(32)),
            lambda s: replace(s, net=bytes(8)),  # members ignore these three, and wait for others
            lambda s: replace(s, version=2),
            lambda s: replace(s, tags=s.tags[:3]),
            lambda s: replace(s, tags=((6, bytes(8)),)),
        ]
        for change in wrong:
            body = attested_by(names[0], change(said).to_bytes()).to_bytes()
            assert await _put(street, net, names[0], f"confirm/1/{names[0]}", body) == 400
        own = attested_by(names[0], said.to_bytes())
        for body in (
            b"junk",
            attested_by(names[1], said.to_bytes()).to_bytes(),
            Attestation(b"certificate of somebody", own.signed).to_bytes(),
        ):
            assert await _put(street, net, names[0], f"confirm/1/{names[0]}", body) == 400
        # Another one than before is evidence, and does not replace it.
        assert await _put(street, net, names[0], f"confirm/1/{names[0]}", own.to_bytes()) == 409
        assert await _put(street, net, names[1], f"confirm/1/{names[0]}", own.to_bytes()) == 403
        assert await _put(street, net, names[0], f"confirm/7/{names[0]}", own.to_bytes()) == 403
        assert await _put(street, net, names[0], f"dispute/7/{names[0]}", b"junk") == 403
        shown = document_hash(now.founding.confirming._shown[3][1])
        dispute = EdgeDispute(net.rules.net, 1, name, 1, 3, shown)
        for bad in (
            replace(dispute, shown=bytes(32)),
            replace(dispute, peer=9),
            replace(dispute, peer=1, shown=document_hash(now.founding.confirming._shown[1][1])),
            replace(dispute, index=2),
            replace(dispute, roster_hash=bytes(32)),
            replace(dispute, net=bytes(8)),
            replace(dispute, version=2),
        ):
            body = signed_by(names[0], bad.to_bytes())
            assert await _put(street, net, names[0], f"dispute/1/{names[0]}", body) == 400
        body = signed_by(names[0], dispute.to_bytes())
        assert await _put(street, net, names[0], f"dispute/1/{names[0]}", body) == 201
        assert now.present == {2, 4, 5}  # nobody can say which of the two it was
        second = replace(dispute, index=2)
        body = signed_by(names[1], second.to_bytes())
        assert await _put(street, net, names[1], f"dispute/1/{names[1]}", body) == 201
        assert now.present == {1, 2, 4, 5}  # two against one
        slot = net.rules.slot_at(VirtualClock().now_utc())
        assert await _put(street, net, names[2], f"submit/{slot}/3", b"x") == 403
        assert any(e.get("reason") == "unconfirmed or withdrawn" for e in net.seen)
        now.founding.confirming.withdrawn = {4}
        assert now.present == {1, 2, 5}


def test_leaving_and_contracts(cheap: None) -> None:
    run_virtually(_leaving())


async def _leaving() -> None:
    names = HOMES[:5]
    net = Net(None, 1, names, names)
    async with Street() as street, asyncio.timeout(4000):
        await _founded(street, net, names)
        leave = Leave(net.rules.net, 1, 1, 30_000_000)
        for bad in (replace(leave, version=2), replace(leave, index=2), replace(leave, net=bytes(8))):
            body = signed_by(names[0], bad.to_bytes())
            assert await _put(street, net, names[0], f"leave/{names[0]}", body) == 400
        for gateway, signer, status in ((names[0], names[1], 400), (names[1], names[0], 403)):
            body = signed_by(signer, leave.to_bytes())
            assert await _put(street, net, gateway, f"leave/{names[0]}", body) == status
        assert await _put(street, net, names[0], f"leave/{names[0]}", b"junk") == 400
        body = signed_by(names[0], leave.to_bytes())
        assert await _put(street, net, names[0], f"leave/{names[0]}", body) == 201
        stranger = HOMES[6]
        assert await _put(street, net, stranger, f"leave/{stranger}", body) == 403
        assert (await street.ask(net, stranger, "GET", f"/dcnet/v1/{net.net_id}/versions", b"")).status == 403
        net.emp.follow(dict.fromkeys([*names, stranger], "gwa"))
        assert (
            await _put(street, net, stranger, f"leave/{stranger}", body) == 400
        )  # not in the roster in force
        answer = await street.ask(net, stranger, "GET", f"/dcnet/v1/{net.net_id}/versions", b"")
        notice = VersionNotice.from_bytes(answer.body.partition(b"|")[2])
        assert (notice.in_force, notice.open, notice.wanted) == (1, 2, False)
        net.emp.follow(dict.fromkeys(names[1:], "gwa"))
        assert net.emp.rosters.knows(names[0])  # still in the roster in force
        assert not net.emp.rosters.knows(stranger)


def test_a_net_begins_with_n_start_members_only(cheap: None) -> None:
    run_virtually(_n_start())


async def _n_start() -> None:
    net = Net(None, 1, HOMES, HOMES, n_start=6)
    async with Street() as street, asyncio.timeout(20_000):
        street.open(net)
        for name in HOMES[:5]:
            street.join(await street.build(name), net)
        await asyncio.sleep(20 * net.rules.slot_s)
        assert net.emp.rosters.open.publication is None
        street.join(await street.build(HOMES[5]), net)  # two never come; the supplier's patience is over
        await street.until(
            lambda: all(told(home, NetEventKind.JOINED, net) for home in street.homes.values())
        )
        assert net.emp.rosters.in_force is not None
        assert net.emp.rosters.in_force.members == tuple(HOMES[:6])


def test_who_never_confirms_is_not_expected_and_joins_when_it_does(cheap: None) -> None:
    run_virtually(_unconfirmed())


async def _unconfirmed() -> None:
    names = HOMES[:5]
    net = Net(None, 1, names, names)
    async with Street() as street, asyncio.timeout(20_000):
        street.open(net)
        for name in names:
            home = await street.build(name)
            home.cut = {"/confirm/"} if name == names[4] else set()
            street.join(home, net)
        rest = [street.homes[name] for name in names[:4]]
        await street.until(lambda: all(told(home, NetEventKind.JOINED, net) for home in rest))
        late = street.homes[names[4]]
        assert not told(late, NetEventKind.JOINED, net)

        async def serve(homes: list[str]) -> int:
            slot = net.rules.slot_at(VirtualClock().now_utc()) + 1
            await street.after(net.rules, slot)
            for name in homes:
                await street.homes[name].members[net.net_id].contribute(slot, 7)
            return slot

        slots = [await serve(names[:4]) for _ in range(2)]
        await street.until(lambda: slots[-1] in net.totals())
        assert net.totals()[slots[-1]]["members"] == names[:4]
        late.cut = set()
        await street.until(lambda: told(late, NetEventKind.JOINED, net) == 1)
        slots = [await serve(names) for _ in range(4)]
        await street.until(lambda: slots[-1] in net.totals())
        assert net.totals()[slots[-1]]["members"] == names
        assert all(not home.members[net.net_id].membership.ring.unconfirmed for home in rest)  # type: ignore[union-attr]
