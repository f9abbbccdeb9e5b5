"""What happens to a district's nets, slot after slot: each happening of the cast is a scene of its own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from tools.counterparts.gwa import withdraw_peers
from tools.demo.district.plan import DropOut, Liar, Loss, Move, NewTenant, Revocation
from tools.demo.district.stage import Stage
from tools.demo.district.waits import RECEIPT_TIMEOUT_S, Progress, accepted, total_of, until
from tools.homes.home import Home
from tools.homes.household import Household
from tools.homes.liar import Lie, corrupt
from tools.homes.parties import Event, PartyFailed

_TAIL_SLOTS: Final = 6
"""For the last opening to arrive."""
_BACK: Final = 0.65
"""Where in a slot a gateway is switched on again: when no submission of the slot before is taken any more."""


async def happen(stage: Stage, progress: Progress) -> dict[tuple[str, int], str]:
    """Let the slots pass, and everything of the cast happen in its time.

    Returns:
        Net and slot -> the gateway that lost its power after its submission was taken.

    Raises:
        PartyFailed: a party did not do its part.
    """
    plan, cast = stage.plan, stage.plan.cast
    lost: dict[tuple[str, int], str] = {}
    scenes = Scenes(stage, progress)
    async with asyncio.TaskGroup() as tasks:
        for drop_out in cast.drop_outs:
            tasks.create_task(scenes.drops_out(drop_out))
        for loss in cast.losses:
            tasks.create_task(scenes.is_lost(loss, lost))
        for liar in cast.liars:
            tasks.create_task(scenes.lies(liar))
        for move in cast.moves:
            tasks.create_task(scenes.moves(move))
        for tenant in cast.tenants:
            tasks.create_task(scenes.moves_in(tenant))
        for revocation in cast.revocations:
            tasks.create_task(scenes.revokes(revocation))
        for slot in range(plan.slots):
            await until(plan.slot_start(slot))
            progress(f"slot {slot + 1} of {plan.slots}")
        await until(plan.slot_start(plan.slots))
    progress("the last sums are opened")
    for net in cast.nets:
        await stage.emps[net.supplier].wait_for(
            total_of(net.net_id, plan.slots - 1), _TAIL_SLOTS * plan.slot_s
        )
    # What failed is known with the next slot.
    await until(plan.slot_start(plan.slots + (2 if cast.moves else 1)))
    for tenant in cast.tenants:
        home = stage.homes[tenant.home - 1]
        for consumer in (home.household.consumer, tenant.consumer):
            await home.look_as(consumer)
    return lost


class Scenes:
    """The happenings."""

    def __init__(self, stage: Stage, progress: Progress) -> None:
        """Play on a stage whose nets are founded."""
        self._stage, self._plan, self._progress = stage, stage.plan, progress

    async def _in_slot(self, slot: int, share: float) -> None:
        """Wait until so much of a slot is over."""
        await until(self._plan.slot_start(slot) + timedelta(seconds=share * self._plan.slot_s))

    def _home(self, number: int) -> Home:
        return self._stage.homes[number - 1]

    async def drops_out(self, drop_out: DropOut) -> None:
        """Switch a gateway off at the end of a slot: it has opened the one before, and misses this one."""
        home, slot = self._home(drop_out.home), drop_out.slot
        await self._in_slot(slot, 0.98)
        self._progress(f"{home.household.name} drops out before the manifest of slot {slot + 1}")
        await home.switch_off()
        await self._back(home, slot + 1)

    async def is_lost(self, loss: Loss, lost: dict[tuple[str, int], str]) -> None:
        """Take the power of the first of some gateways whose submission the supplier has."""
        plan, net = self._plan, self._plan.cast.net(loss.net)
        names = {Household(number).name: number for number in loss.homes}

        def submitted(event: Event) -> bool:
            return (
                event["event"] == "submit"
                and (event["net"], event["slot"]) == (net.net_id, loss.slot)
                and event["gateway"] in names
            )

        await self._in_slot(loss.slot, 0.99)
        event = await self._stage.emps[net.supplier].wait_for(submitted, 2.0 * plan.slot_s)
        home = self._home(names[event["gateway"]])
        lost[net.name, loss.slot] = home.household.name
        await home.switch_off()
        self._progress(
            f"{home.household.name} loses its power: it has submitted slot {loss.slot + 1}, not opened it"
        )
        await self._back(home, loss.slot + 1)

    async def _back(self, home: Home, slot: int) -> None:
        await self._in_slot(slot, _BACK)
        await home.switch_on()
        self._progress(f"{home.household.name} is back")

    async def lies(self, liar: Liar) -> None:
        """Let a gateway use a wrong word on the canary lane from a slot's submission on."""
        home, net = self._home(liar.home), self._plan.cast.net_of(liar.home)
        await self._in_slot(liar.slot, 0.9)
        area = home.running.wide_area
        member = None if area is None else area.nets.member(net.net_id)
        if member is None:
            raise PartyFailed(f"{home.household.name} is in no net to lie in")
        corrupt(member, Lie.CONTRADICTION)
        self._progress(f"{home.household.name} begins to lie on the canary lane of {net.name}")

    async def moves(self, move: Move) -> None:
        """Order the homes' new profiles, and tell the new supplier whom it has a contract with."""
        stage, plan, cast = self._stage, self._plan, self._plan.cast
        old, new = (cast.supplier(cast.net(name).supplier) for name in (move.origin, move.target))
        await self._in_slot(move.ordered_slot, 0.5)
        self._progress(
            f"{len(move.homes)} homes are ordered from {old.name} to {new.name} for slot {move.slot + 1}"
        )
        peers = stage.peer(old), stage.peer(new)
        stage.write_contracts(new.name, move.slot)
        placed = {}
        for number in move.homes:
            household = Household(number)
            placed[household] = await stage.order(household, plan.moving_profiles(household, move, *peers))
        for household, identity in placed.items():
            await stage.gwa_of(household).wait_for(accepted(household.name, identity), RECEIPT_TIMEOUT_S)

    async def moves_in(self, tenant: NewTenant) -> None:
        """Order somebody else's profiles for a home, when its last slot is through."""
        stage, plan, cast = self._stage, self._plan, self._plan.cast
        household = Household(tenant.home)
        await self._in_slot(tenant.slot - 1, 0.6)
        self._progress(f"{household.name} has a new tenant from slot {tenant.slot + 1} on")
        peer = stage.peer(cast.supplier(cast.net_of(tenant.home).supplier))
        identity = await stage.order(household, plan.tenant_profiles(household, tenant, peer))
        await stage.gwa_of(household).wait_for(accepted(household.name, identity), RECEIPT_TIMEOUT_S)

    async def revokes(self, revocation: Revocation) -> None:
        """Let an administrator withdraw a home from all its gateways in the home's net."""
        net = self._plan.cast.net_of(revocation.home)
        name = Household(revocation.home).name
        await self._in_slot(revocation.slot, 0.3)
        self._progress(f"administrator {revocation.administrator} revokes {name} in {net.name}")
        folder = self._stage.branch(revocation.administrator) / "gwa"
        await asyncio.to_thread(withdraw_peers, folder, net.net_id, [name])
