"""A result is told to one member alone, a manifest to all: who hears both knows whether the supplier lies.

A member that alone believed in an abort would be alone in the next reconcile total, with its reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from firmware.enforcement.dcnet.messages.manifest import Manifest, ManifestReply, SlotResult, Verdict
from firmware.enforcement.dcnet.messages.witnessed import Witnessed
from firmware.enforcement.dcnet.policy import Recovery
from tests.support.instant_loop import run
from tests.unit.dcnet.running_net import RunningNet, content_of, energies, energy_of
from tests.unit.dcnet.support import attested_by, signed_by

SIZE = 8
PERIOD = 4


def telling(slot: int, verdict: Verdict, *, below: bool = False) -> Callable[[str, bytes], bytes]:
    """A supplier that answers `result/` of one slot as it likes."""

    def alter(resource: str, body: bytes) -> bytes:
        if not resource.endswith(f"/result/{slot}") or ("reconcile" in resource) != below or not body:
            return body
        said = SlotResult.from_bytes(body.partition(b"|")[2])
        return signed_by("emp", replace(said, verdict=verdict, totals=None).to_bytes())

    return alter


def silent_behind(net: RunningNet, slot: int) -> Callable[[str, bytes], bytes]:
    """Manifests of the slot behind `slot` that say no result."""

    def alter(resource: str, body: bytes) -> bytes:
        if f"{net.rules.net.hex()}/manifest/{slot + 1}/" not in resource or not body:
            return body
        reply = ManifestReply.from_bytes(body)
        content = replace(Manifest.from_bytes(content_of(reply.signed)), result=None).to_bytes()
        signed = signed_by("emp", content)
        if net.rules.recovery is Recovery.WITNESS:
            names = sorted(net.administrators)
            signed = Witnessed(signed, tuple(attested_by(name, content) for name in names)).to_bytes()
        return replace(reply, signed=signed).to_bytes()

    return alter


async def a_period(net: RunningNet, last: int) -> Mapping[str, Any]:
    for slot in range(net.first, last + 1):
        await net.contribute(slot)
    await net.until(last, 55)
    (total,) = net.totals(reconcile=True).values()
    return total


@pytest.mark.parametrize("recovery", ["none", "witness"])
@pytest.mark.parametrize("late", [0, 1])
def test_a_false_abort_told_to_one_member_puts_its_reading_into_no_reconcile_total(
    recovery: str, late: int
) -> None:
    """The last result before the period's end as well: the manifest that denies it comes behind the value."""

    async def main() -> None:
        async with RunningNet(SIZE, recovery=recovery, reconcile_slots=PERIOD) as net:
            last, victim = PERIOD - 1, net.homes[2]
            assert net.first == 1
            slot = net.first + late
            victim.alter = telling(slot, Verdict.ABORTED)
            total = await a_period(net, last)
            assert (await victim.states())[slot] is SlotState.OWED
            assert total["lanes"][:2] == [0, 0]
            assert victim.member is not None
            assert victim.member.state is MemberState.QUARANTINE
            assert victim.member.chain.proof is not None
            assert {energy_of(victim, slot) * 10} & {
                lane for one in net.events for lane in one.get("lanes", ())
            } == set()

    run(main())


def test_a_false_total_told_to_all_the_others_is_a_lie_as_well() -> None:
    """The other way round: the chain says aborted, and all but one were told that it was totalled."""

    async def main() -> None:
        async with RunningNet(SIZE, reconcile_slots=PERIOD) as net:
            slot, victim = net.first, net.homes[2]
            victim.cut = lambda resource: "/open/" in resource  # so the chain says aborted
            for home in net.homes:
                home.alter = telling(slot, Verdict.TOTALLED if home is not victim else Verdict.ABORTED)
            await net.contribute(slot)
            await net.until(slot, 50)
            assert [await home.owed() for home in net.homes if home is not victim] == [{}] * (SIZE - 1)
            await net.contribute(slot + 1)
            await net.until(slot + 1, 40)
            for home in net.homes:
                assert (NetEventKind.QUARANTINE in home.kinds()) == (home is not victim)
                assert not home.bodies(f"/open/{slot + 1}/")

    run(main())


@pytest.mark.parametrize("recovery", ["none", "witness"])
def test_a_manifest_that_is_silent_about_a_total_that_was_told_is_not_opened(recovery: str) -> None:
    """Silence counts as aborted for whom nothing was told, so all must owe the next slot with that one."""

    async def main() -> None:
        async with RunningNet(SIZE, recovery=recovery, reconcile_slots=PERIOD) as net:
            slot, victim = net.first, net.homes[2]
            for home in net.homes:
                home.alter = silent_behind(net, slot)
            victim.cut = lambda resource: resource.endswith(f"/result/{slot}") and "reconcile" not in resource
            await net.contribute(slot)
            await net.until(slot, 50)
            await net.contribute(slot + 1)
            await net.until(slot + 1, 50)
            for home in net.homes:
                assert (await home.states())[slot] is (
                    SlotState.OWED if home is victim else SlotState.TOTALLED
                )
                assert bool(home.bodies(f"/open/{slot + 1}/")) == (home is victim)

    run(main())


def test_a_reconcile_slot_that_was_told_to_be_aborted_is_carried_again_only_when_its_chain_says_so() -> None:
    async def main() -> None:
        async with RunningNet(SIZE, reconcile_slots=PERIOD) as net:
            slot, victim = net.first, net.homes[2]
            victim.cut = lambda resource: "/open/" in resource and "reconcile" not in resource
            await net.contribute(slot)
            await net.until(slot, 50)
            victim.cut = lambda _resource: False
            victim.alter = telling(0, Verdict.ABORTED, below=True)
            for later in range(slot + 1, 2 * PERIOD):
                await net.contribute(later)
            await net.until(2 * PERIOD - 1, 55)
            first, second = (net.totals(reconcile=True)[number] for number in (0, 1))
            assert first["lanes"][0] == energies(net, slot) * 10
            assert second["lanes"][:1] in ([0], [])  # and not what the victim alone still owes
            assert victim.member is not None
            assert victim.member.state is MemberState.QUARANTINE

    run(main())
