"""A district's run: sets the stage, lets time pass, and gives back what each party saw. Judges nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tools.demo.district.happen import happen
from tools.demo.district.plan import PLAIN_SLOTS, DistrictPlan
from tools.demo.district.stage import Stage
from tools.demo.district.waits import RECEIPT_TIMEOUT_S, Progress, accepted, until
from tools.homes.cards import Cards, Kind
from tools.homes.home import Home, Tally
from tools.homes.household import Household
from tools.homes.parties import Event, PartyFailed

_SETTLE_S: Final = 0.5
_IN_SLOT: Final = 0.4
"""Where in a slot the administrators order the nets."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What happened in one home."""

    household: Household
    tally: Tally


@dataclass(frozen=True, slots=True)
class Seen:
    """What the parties saw."""

    plan: DistrictPlan
    homes: tuple[Lived, ...]
    gwas: dict[str, list[Event]]
    emps: dict[str, list[Event]]
    lost: dict[tuple[str, int], str]
    """Net and slot -> the gateway that lost its power after the manifest."""


async def play(plan: DistrictPlan, progress: Progress) -> Seen:
    """Play the plan in its folder, which is new.

    Raises:
        PartyFailed: administrator or supplier did not do their part, or too late.
        ExceptionGroup, HsmError, FirmwareError: a gateway stopped.
    """
    progress("test SM-PKI: one root, a branch for each administrator, two suppliers")
    stage = Stage(plan)
    stage.make_certificates()
    async with AsyncExitStack() as stack:
        await stage.start_administrators(stack)
        await _boot(stage, stack, progress)
        boot_s = sum(home.boot_s for home in stage.homes) / len(stage.homes)
        plan = stage.plan = plan.starting(datetime.now(UTC), boot_s=boot_s)
        await stage.start_suppliers(stack)
        await _order_plain(stage, progress)
        async with asyncio.TaskGroup() as meters:
            for home in stage.homes:
                meters.create_task(_meter(home, len(stage.homes), plan.meter_interval_s))
            try:
                await _take_into_nets(stage, progress)
                lost = await happen(stage, progress)
            finally:
                for home in stage.homes:
                    home.meter_stops()
        progress("gateways stop: services, stores, module session")
        await asyncio.sleep(_SETTLE_S)
        for home in stage.homes:
            await home.switch_off()
    return Seen(
        plan,
        tuple(Lived(home.household, home.tally) for home in stage.homes),
        {name: party.events for name, party in stage.gwas.items()},
        {name: party.events for name, party in stage.emps.items()},
        lost,
    )


async def _boot(stage: Stage, stack: AsyncExitStack, progress: Progress) -> None:
    cards = Cards(Kind.EMULATOR, stack)
    for number, home in enumerate(stage.homes, start=1):
        if number % 8 == 1:
            progress(f"keys, certificates, boot: home {number} of {len(stage.homes)}")
        one = stage.plan.cast.administrator_of(home.household.number)
        port = stage.gwa_port(home.household)
        await home.enrol(
            stage.branch_of(home.household),
            port,
            cards,
            stage.plan.gwa_poll_s,
            gwa_server_name=one.server_name,
        )
        await home.live_here(stack)
        stack.push_async_callback(home.switch_off)
        await home.switch_on()


async def _order_plain(stage: Stage, progress: Progress) -> None:
    progress("the administrators order TAF 7 in plain for every home")
    cast = stage.plan.cast
    placed = {}
    for home in stage.homes:
        household = home.household
        peer = stage.peer(cast.supplier(cast.net_of(household.number).supplier))
        placed[household] = await stage.order(household, stage.plan.plain_profiles(household, peer))
    for household, identity in placed.items():
        await stage.gwa_of(household).wait_for(accepted(household.name, identity), RECEIPT_TIMEOUT_S)
    _in_time(stage.plan.plain_from_utc, "the street runs")


async def _take_into_nets(stage: Stage, progress: Progress) -> None:
    """Let the street run for a while, then order the nets and wait until they are founded."""
    plan, cast = stage.plan, stage.plan.cast
    progress(f"the street runs on plain TAF 7, a value each {plan.slot_s} s")
    await until(plan.flash_utc)
    for home in stage.homes:
        await stage.emps[cast.net_of(home.household.number).supplier].wait_for(
            _delivery_of(home.household.name), PLAIN_SLOTS * plan.slot_s + RECEIPT_TIMEOUT_S
        )
    await until(plan.flash_utc + timedelta(seconds=_IN_SLOT * plan.slot_s))
    progress("profiles with concealment are ordered: key bundles, rosters, beacons")
    placed = {}
    for home in stage.homes:
        household = home.household
        peer = stage.peer(cast.supplier(cast.net_of(household.number).supplier))
        placed[household] = await stage.order(household, plan.net_profiles(household, peer))
    for household, identity in placed.items():
        await stage.gwa_of(household).wait_for(accepted(household.name, identity), RECEIPT_TIMEOUT_S)
    _in_time(plan.t0_utc, "the nets take over")
    for net in cast.nets:
        left_s = max(1.0, (plan.t0_utc - datetime.now(UTC)).total_seconds() + plan.slot_s)
        await stage.emps[net.supplier].wait_for(_founded(net.net_id), left_s)
        progress(f"net {net.name} of {len(net.homes)} homes is founded")


async def _meter(home: Home, homes: int, interval_s: float) -> None:
    source = random.Random(home.household.number)  # noqa: S311 - a load curve, no secret
    await asyncio.sleep(interval_s * home.household.number / homes)
    await home.meter_runs(lambda: source.randrange(1, 40), interval_s)


def _delivery_of(gateway: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "delivery" and event["gateway"] == gateway


def _founded(net_id: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "beacon" and event["net"] == net_id


def _in_time(instant_utc: datetime, what: str) -> None:
    late_s = (datetime.now(UTC) - instant_utc).total_seconds()
    if late_s > 0:
        raise PartyFailed(
            f"{what} {late_s:.1f} s too late: this machine is too busy for {what!r}; try --slot-s"
        )
