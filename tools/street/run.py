"""One run of a street: sets it up, lets its meters send, and gives back what was seen. Judges nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from firmware.clock.clock import AdjustableClock
from tools.counterparts.gwa import place_order
from tools.counterparts.pki import make_pki
from tools.homes.cards import Cards, Kind
from tools.homes.home import Home
from tools.homes.parties import Event, Party, PartyFailed
from tools.homes.peers import peer_entry
from tools.street.plan import GWA_POLL_S, READINGS, SUPPLIER, StreetPlan
from tools.street.resources import Taken, reserve_files

Progress = Callable[[str, float], None]
"""Says what is being done, and which share of it is."""
_RECEIPT_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 1.0
"""For the last telegrams to pass from the sticks into the stores, and for deliveries on their way."""
_LOOK_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a street."""

    plan: StreetPlan
    homes: tuple[Home, ...]
    deliveries: list[Event]
    before: Taken
    """When the parties were up, before the first gateway."""
    begin: Taken
    """When the meters began to send."""
    end: Taken
    """When they stopped."""
    late_s: float
    """The longest time that the event loop kept a due task waiting while the meters sent."""


async def live(plan: StreetPlan, progress: Progress) -> Seen:
    """Play a street in `plan.folder`, which is new.

    Raises:
        StreetTooLarge: more open files than the system allows.
        PartyFailed: administrator or supplier did not do their part.
        ExceptionGroup, HsmError, FirmwareError: a gateway stopped.
    """
    reserve_files(plan.gateways)
    pki = plan.folder / "pki"
    make_pki(pki, emp=SUPPLIER)
    clock = AdjustableClock(datetime.now(UTC), plan.rate)
    from_utc = clock.now_utc().replace(microsecond=0) - timedelta(days=1)
    homes = tuple(
        Home(household, plan.folder / household.name, READINGS, clock) for household in plan.households
    )
    async with AsyncExitStack() as stack:
        gwa = await stack.enter_async_context(Party("gwa", pki / "gwa"))
        emp = await stack.enter_async_context(Party("emp", pki / "emp"))
        gwa_port, supplier = await gwa.port(), peer_entry(SUPPLIER, pki / "emp", await emp.port())
        before = Taken.now()
        cards = Cards(Kind.EMULATOR, stack)
        for home in _counted(homes, "keys in the modules, certificates, orders", progress):
            await home.enrol(pki, gwa_port, cards, GWA_POLL_S)
            body = plan.profiles(home.household, supplier, from_utc)
            place_order(pki / "gwa", home.household.gateway_id, "profiles", body)
            await home.live_here(stack)
        for home in _counted(homes, "gateways boot and fetch their profiles", progress):
            stack.push_async_callback(home.switch_off)
            await home.switch_on()
            receipt = await gwa.wait_for(_receipt_of(home.household.name), _RECEIPT_TIMEOUT_S)
            if not receipt["accepted"]:
                raise PartyFailed(f"{home.household.name} refused its order: {receipt['reason']}")
        begin = Taken.now()
        late_s, end = await _meters(plan, homes, clock, progress)
        await asyncio.sleep(_SETTLE_S)
        for home in _counted(homes, "gateways stop", progress):
            await home.switch_off()
        deliveries = emp.of("delivery")
    return Seen(plan, homes, deliveries, before, begin, end, late_s)


def _counted(homes: tuple[Home, ...], text: str, progress: Progress) -> Iterable[Home]:
    for number, home in enumerate(homes):
        progress(f"{text}: {number + 1} of {len(homes)}", number / len(homes))
        yield home


def _receipt_of(gateway: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "receipt" and event["gateway"] == gateway


async def _meters(
    plan: StreetPlan, homes: tuple[Home, ...], clock: AdjustableClock, progress: Progress
) -> tuple[float, Taken]:
    """Let every meter send for the plan's time, spread over the interval.

    Returns:
        How late the loop was, and what was taken when the time was over: each meter then waits for its next
        turn, in which it sends no more.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        for number, home in enumerate(homes):
            tasks.create_task(_meter(plan, home, clock, plan.interval_s * number / len(homes)))
        late_s, end_s = 0.0, clock.monotonic() + plan.duration_s
        while (left_s := end_s - clock.monotonic()) > 0:
            progress("meters send, gateways register", 1 - left_s / plan.duration_s)
            due_s = loop.time() + min(_LOOK_S, left_s / plan.rate)
            await asyncio.sleep(due_s - loop.time())
            late_s = max(late_s, loop.time() - due_s)
        for home in homes:
            home.meter_stops()
        end = Taken.now()
    return late_s, end


async def _meter(plan: StreetPlan, home: Home, clock: AdjustableClock, begin_s: float) -> None:
    source = random.Random(home.household.number)  # noqa: S311 - a load curve, no secret
    await clock.sleep(begin_s)
    await home.meter_runs(lambda: source.randrange(1, 40), plan.interval_s)


def steady_per_s(sent_utc: Iterable[datetime], rate: float) -> float:
    """Return how many telegrams a real second had, between the first and the last; 0 if that is no time.

    n telegrams have n - 1 times between them: what comes before the first and after the last does not count.

    Args:
        sent_utc: when each was sent, in any order, by the street's clock.
        rate: seconds of the street's clock in a real one.
    """
    instants = sorted(sent_utc)
    span_s = (instants[-1] - instants[0]).total_seconds() / rate if instants else 0.0
    return (len(instants) - 1) / span_s if span_s else 0.0


def summary(seen: Seen) -> dict[str, Any]:
    """What `smgw street --json` prints; `ok` is computed from it."""
    plan, homes = seen.plan, seen.homes
    seconds = seen.end.elapsed_s - seen.begin.elapsed_s
    processor = (seen.end.processor_s - seen.begin.processor_s) / seconds
    sent, accepted = (sum(getattr(home.tally, name) for home in homes) for name in ("sent", "accepted"))
    heard_per_s = steady_per_s(
        (sent_utc for home in homes for sent_utc, _ in home.tally.transmitted), plan.rate
    )
    per_s = heard_per_s * accepted / sent if sent else 0.0
    registered = sum(value is not None for home in homes for value in home.tally.registered.values())
    return {
        "gateways": plan.gateways,
        "street_s": plan.duration_s,
        "real_s": round(seconds, 2),
        "rate": plan.rate,
        "telegrams": {"sent": sent, "accepted": accepted, "per_s": round(per_s, 1)},
        "registered": registered,
        "missing": sum(value is None for home in homes for value in home.tally.registered.values()),
        "delivered": sum(event["verified"] for event in seen.deliveries),
        "processor": round(processor, 3),
        "processor_ms_per_telegram": round(1000 * processor * seconds / accepted, 3) if accepted else None,
        "loop_late_ms": round(1000 * seen.late_s, 1),
        "memory_mb": round(seen.end.memory_mb, 1),
        "memory_mb_per_gateway": round((seen.end.memory_mb - seen.before.memory_mb) / plan.gateways, 2),
        "files_per_gateway": round((seen.end.files - seen.before.files) / plan.gateways, 1),
        "ok": sent == accepted > 0,
    }
