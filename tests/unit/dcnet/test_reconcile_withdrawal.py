"""A gateway is withdrawn within a period: the reconcile slot at its end is among the others, and totals."""

from __future__ import annotations

import hashlib

import pytest

from firmware.enforcement.dcnet.founding.succession import PeerWithdrawal
from firmware.enforcement.dcnet.policy import reconcile_net
from tests.support.instant_loop import run
from tests.unit.dcnet.mortal_net import MortalNet
from tests.unit.dcnet.running_net import Home, RunningNet, energy_of
from tests.unit.dcnet.support import NET, attested_by

SIZE, SLOT_S, PERIOD = 8, 60, 8
CHANGES = {"reconcile_slots": PERIOD, "epoch_s": PERIOD * SLOT_S, "roster_pause_s": 0, "poll_s": 4.0}
"""An epoch is a period: each reconcile slot begins a chain, as with the defaults of a day and a month."""


async def withdraw(net: RunningNet, gone: Home) -> None:
    """The administrators order all their gateways, and tell the supplier when it asks."""
    certificate = hashlib.sha256(f"certificate of {gone.name}".encode()).digest()
    for name, one in net.administrators.items():

        async def revoked(name: str = name) -> bytes:
            own = (certificate,) if name == gone.administrator else ()
            return attested_by(name, PeerWithdrawal(NET, 2, own).to_bytes()).to_bytes()

        one.revoked = revoked  # type: ignore[method-assign]
    for home in net.homes:
        assert home.member is not None
        assert await home.member.withdraw(1, frozenset({certificate}))


async def periods_around_a_withdrawal(net: RunningNet) -> None:
    """In the second period one is withdrawn; what all owe for it is in that period's total, but its own."""
    gone, slot = net.homes[6], net.first
    rest = [home for home in net.homes if home is not gone]
    end = slot - slot % PERIOD + PERIOD - 1
    for one in range(slot, end + 4):
        await net.contribute(one)
    await net.until(end + 3, SLOT_S - 5)
    (before,) = net.totals(reconcile=True).values()
    assert (before["verdict"], len(before["members"])) == ("totalled", SIZE)
    await withdraw(net, gone)
    for one in range(end + 4, end + PERIOD + 4):
        await net.contribute(one)
    await net.until(end + PERIOD + 3, SLOT_S - 5)
    assert [event["gateways"] for event in net.of("withdrawn")][-1] == [gone.name]
    totals = net.totals(reconcile=True)
    assert sorted(totals) == [before["slot"], before["slot"] + 1]
    total, names = totals[before["slot"] + 1], [home.name for home in rest]
    assert total["net"] == reconcile_net(net.rules.net).hex()
    assert (total["verdict"], total["members"]) == ("totalled", names)
    lost = [one for one in range(end + 1, end + PERIOD + 1) if net.totals()[one]["verdict"] == "aborted"]
    assert lost, "while it was expected, everybody owed"
    measured = sum(energy_of(home, one) for home in rest for one in lost)
    assert total["lanes"] == [measured * 10, 0, len(rest)]
    for home in rest:
        assert not [one for one in await home.owed() if one <= end + PERIOD], home.name
    assert set(lost) <= set(await gone.owed())  # what it used stays with it


@pytest.mark.parametrize("recovery", ["none", "witness"])
def test_a_reconcile_slot_after_a_withdrawal_is_among_the_others(recovery: str) -> None:
    async def main() -> None:
        async with RunningNet(SIZE, recovery=recovery, **CHANGES) as net:
            await periods_around_a_withdrawal(net)

    run(main())


def test_a_supplier_that_was_killed_in_between_leaves_it_out_as_well() -> None:
    """Who is withdrawn is kept: the process after it begins the reconcile slot's chain without that one."""

    async def main() -> None:
        async with MortalNet(SIZE, recovery="none", **CHANGES) as net:
            contribute = net.contribute

            async def killed(slot: int) -> None:
                if slot % PERIOD == PERIOD - 1:
                    net.life.die_in = 1
                await contribute(slot)

            net.contribute = killed  # type: ignore[method-assign,assignment]
            await periods_around_a_withdrawal(net)
            assert len(net.deaths) >= 2

    run(main())
