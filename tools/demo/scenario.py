"""The run itself: sets the stage, lets time pass, and gives back what each party saw. Judges nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from firmware.profile.model import NetPolicy
from tools.counterparts.gwa import place_order
from tools.counterparts.net_mount import NetSettings, to_toml
from tools.counterparts.pki import GWA_SERVER_NAME, make_participant, make_pki
from tools.demo.plan import GROUP_TOTAL, GWA_POLL_S, METER_INTERVAL_S, STRANGER, SUPPLIER, Plan, heard_by
from tools.homes.cards import Cards, Kind
from tools.homes.home import Home
from tools.homes.parties import Event, Party
from tools.homes.peers import peer_entry
from wan.pki.profile import Role

Progress = Callable[[str], None]
_RECEIPT_TIMEOUT_S: Final = 20.0
_TAIL_S: Final = 15.0
"""For the last opening and the bills to arrive after the billing period has ended."""
_SETTLE_S: Final = 0.3
"""For the last telegrams to pass from the sticks into the stores."""
_STRANGER_NAME: Final = "stranger.sm-pki.test"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the parties saw."""

    plan: Plan
    homes: tuple[Home, ...]
    gwa: list[Event]
    emp: list[Event]
    cards: Cards
    forged_order: str
    """Message id of the order that somebody else signed."""


async def play(plan: Plan, progress: Progress) -> Outcome:
    """Play the whole scenario in `plan.folder`, which is new.

    Raises:
        PartyFailed: administrator or supplier did not do their part.
        ExceptionGroup, HsmError, FirmwareError: a gateway stopped.
    """
    pki = plan.folder / "pki"
    progress("test SM-PKI: root, sub-CA, administrator, supplier")
    make_pki(pki, emp=SUPPLIER)
    make_participant(pki, pki / STRANGER, Role.EMP, STRANGER, server_name=_STRANGER_NAME)
    homes = tuple(Home(household, plan.folder / household.name, GROUP_TOTAL) for household in plan.households)
    async with AsyncExitStack() as stack:
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        gwa = await stack.enter_async_context(Party("gwa", pki / "gwa"))
        gwa_port = await gwa.port()
        started_s = now_s()
        cards = Cards(plan.hsm, stack)
        if plan.hsm is not Kind.EMULATOR:
            progress(f"{homes[0].household.name} gets its security module by way of {plan.hsm.value}")
        progress("keys in the security modules, certificates from the PKI")
        for home in homes:
            await home.enrol(pki, gwa_port, cards, GWA_POLL_S)
            await home.live_here(stack)
        if cards.lacks:
            progress(cards.lacks)
        progress("gateways boot: SELECT, PACE, sealed stores, sticks")
        for home in homes:
            stack.push_async_callback(home.switch_off)
            await home.switch_on()
        boots_s = [home.boot_s for home in homes]
        boot_s = max(boots_s) if cards.places else sum(boots_s) / len(homes)
        plan = plan.starting(datetime.now(UTC), start_s=started_s - began_s, boot_s=boot_s)
        emp, forged = await _order(stack, plan, pki, gwa, gwa_port, progress)
        progress("meters transmit: published telegrams, and a simulated meter in every home")
        async with asyncio.TaskGroup() as meters:
            for home in homes:
                meters.create_task(home.meter_runs(_load(home), METER_INTERVAL_S))
                meters.create_task(home.transmit(_published(home)))
            try:
                await _slots(plan, homes, emp, progress)
            finally:
                for home in homes:
                    home.meter_stops()
        progress("gateways stop: services, stores, module session")
        await asyncio.sleep(_SETTLE_S)
        for home in homes:
            await home.switch_off()
    return Outcome(plan, homes, gwa.events, emp.events, cards, forged)


async def _order(
    stack: AsyncExitStack, plan: Plan, pki: Path, gwa: Party, gwa_port: int, progress: Progress
) -> tuple[Party, str]:
    """Start the supplier with its net; let the administrator order the profiles, and a forger one as well."""
    net = NetSettings(
        policy=msgspec.convert(plan.net_policy(), NetPolicy),
        members=[household.name for household in plan.households],
        gwa=f"127.0.0.1:{gwa_port}",
        gwa_server_name=GWA_SERVER_NAME,
    )
    with (pki / "emp" / "emp.toml").open("a", encoding="utf-8") as file:
        file.write(to_toml(net))
    emp = await stack.enter_async_context(Party("emp", pki / "emp"))
    suppliers: dict[str, dict[str, Any]] = {
        SUPPLIER: peer_entry(SUPPLIER, pki / "emp", await emp.port()),
        STRANGER: peer_entry(STRANGER, pki / STRANGER, 9, _STRANGER_NAME),
    }
    progress("the administrator orders the profiles; one order is forged")
    first = plan.households[0]
    forged = place_order(
        pki / "gwa", first.gateway_id, "profiles", plan.profiles(first, suppliers), signer=pki / "emp"
    )
    for household in plan.households:
        place_order(pki / "gwa", household.gateway_id, "profiles", plan.profiles(household, suppliers))
    for household in plan.households:
        await gwa.wait_for(_accepted_by(household.name), _RECEIPT_TIMEOUT_S)
    return emp, forged


def _accepted_by(gateway: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "receipt" and event["gateway"] == gateway and event["accepted"]


async def _slots(plan: Plan, homes: tuple[Home, ...], emp: Party, progress: Progress) -> None:
    """Let the slots pass; the last home's gateway is switched off during the second one."""
    for slot in range(plan.slots):
        await _until(plan.slot_start(slot))
        progress(f"slot {slot + 1} of {plan.slots}")
        if slot == plan.drop_out_slot:
            # Not earlier: it still has to open the slot before, or that one could not be summed at all.
            await _until(plan.slot_start(slot) + timedelta(seconds=plan.slot_s * 0.98))
            progress(f"{plan.drop_out.name} drops out")
            await homes[-1].switch_off()
            await _until(plan.slot_start(slot + 1) + timedelta(seconds=plan.slot_s * 0.58))
            progress(f"{plan.drop_out.name} comes back")
            await homes[-1].switch_on()
    await _until(plan.end_utc)
    progress("the last sum is opened, the bills arrive")
    last = plan.slots - 1
    await emp.wait_for(
        lambda event: event["event"] == "total" and event["slot"] >= last, _TAIL_S + plan.slot_s
    )
    for household in plan.households:
        await emp.wait_for(_bill_of(household.name), _TAIL_S)


def _bill_of(gateway: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "delivery" and event["gateway"] == gateway


async def _until(instant_utc: datetime) -> None:
    await asyncio.sleep(max(0.0, (instant_utc - datetime.now(UTC)).total_seconds()))


def _published(home: Home) -> list[bytes]:
    """The published telegrams of a home, the last of them twice."""
    heard = [one.telegram for one in heard_by(home.household)]
    return [*heard, *heard[-1:]]


def _load(home: Home) -> Callable[[], int]:
    """The home's consumption per telegram, the same in each run."""
    source = random.Random(home.household.number)  # noqa: S311 - a load curve, no secret
    return lambda: source.randrange(1, 40)
