"""Tariff use cases in a running gateway: activation, registration, triggers, delivery, restarts, kills."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware.errors import StoreUnavailable
from firmware.flow.evaluation import Evaluator, Since
from firmware.metering.happenings import MAX_REQUESTS, Happenings, Request
from firmware.metering.original import OriginalLists
from firmware.metering.status import GatewayStatus, gateway_half
from firmware.metering.tariff.catalogue import evaluate
from firmware.metering.tariff.task import Occasion
from firmware.orders.tariff import READING_REQUEST, TARIFF_EVENT
from firmware.profile.model import ProfileSet
from firmware.profile.tariffs import (
    ConsumptionVariable,
    Control,
    EventStage,
    EventVariable,
    Extremes,
    FeedIn,
    GridState,
    HighFrequency,
    Limit,
    LoadVariable,
    Prepaid,
    Visualisation,
)
from firmware.store.partition import Partition
from lmn.model import Obis
from tests.support.chance import seed
from tests.unit.firmware import tariff_child
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.pipeline_street import started
from tests.unit.firmware.profile_set import at, billing, peer
from tests.unit.firmware.tariff_examples import TWO_STAGES
from tests.unit.firmware.tariff_street import HOUR, a_set, run_through, told
from tests.unit.firmware.tariff_task import SLOT, registers_of, task, value
from tests.unit.firmware.test_registry import order

ROOT = Path(__file__).resolve().parents[3]
LONG_AGO = Since(at(-60), at(-60))
VOLTAGE, POWER = "1-0:32.7.0", "1-0:2.7.0"


def command(kind: str, identity: str, **body):
    return order(json.dumps(body).encode(), version=0, identity=identity, kind=kind)


PEAK = EventVariable(events=(EventStage(id="peak", stage=2),))


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        (a_set(1, billing_period_s=3600), [("1.8.0", "2000")]),
        (
            a_set(2, billing_period_s=3600, time_variable=TWO_STAGES),
            [("1.8.0", "2000"), ("1.8.1", "1000"), ("1.8.2", "0"), ("1.8.63", "0")],
        ),
        (
            a_set(3, billing_period_s=3600, load_variable=LoadVariable(thresholds_w=(1000,))),
            [("1.8.0", "2000"), ("1.8.1", "300"), ("1.8.2", "700"), ("1.8.63", "0")],
        ),
        (
            a_set(4, billing_period_s=3600, consumption_variable=ConsumptionVariable(thresholds_wh=(450,))),
            [("1.8.0", "2000"), ("1.8.1", "450"), ("1.8.2", "550"), ("1.8.63", "0")],
        ),
        (
            a_set(
                5, billing_period_s=3600, event_variable=EventVariable(events=(EventStage(id="e", stage=2),))
            ),
            [("1.8.0", "2000"), ("1.8.1", "1000"), ("1.8.2", "0"), ("1.8.63", "0")],
        ),
        (
            a_set(7, billing_period_s=3600),
            [("1.8.0", "1100"), ("1.8.0", "1300"), ("1.8.0", "1600"), ("1.8.0", "2000")],
        ),
        (a_set(8, billing_period_s=3600, extremes=Extremes()), [("1.6.0", "1600"), ("1.3.0", "400")]),
        (a_set(12, billing_period_s=3600, prepaid=Prepaid(credit=5000)), [("1.8.60", "4000")]),
        (
            a_set(13, "service", billing_period_s=3600, visualisation=Visualisation(consent_until=at(9999))),
            [("1.8.0", "1100"), ("1.8.0", "1300"), ("1.8.0", "1600"), ("1.8.0", "2000")],
        ),
    ],
    ids=lambda one: f"TAF {one.processing[0].taf}" if isinstance(one, ProfileSet) else "",
)
async def test_a_period_leaves_at_its_end_and_once(street, profiles, expected):
    gateway = await started(street, profiles)
    await run_through(gateway, HOUR)
    await gateway.deliver.step()
    assert told(gateway) == [("01:00", "", expected)]
    assert gateway.denials == []


async def test_taf_14_sends_each_value_and_keeps_none(street):
    profiles = a_set(
        14, "service", registration_period_s=60, high_frequency=HighFrequency(consent_until=at(180))
    )
    gateway = await started(street, profiles)
    await run_through(gateway, [1, 2, 3, 4, 5, 6], step=60)
    assert [entries for _, _, entries in told(gateway)] == [
        [("1.8.0", "2")],
        [("1.8.0", "3")],
        [("1.8.0", "4")],
    ]
    kept = await gateway.originals.between("tariff", at(-1), at(9999))
    assert [one.instant_utc for one in kept] == [
        at(120),
        at(180),
    ]  # the newest two: nothing after the consent


async def test_taf_14_catches_up_after_a_stop(street):
    """Two hours without the deliveries: every minute comes, each once and in order, and little stays."""
    profiles = a_set(
        14, "service", registration_period_s=60, high_frequency=HighFrequency(consent_until=at(99999))
    )
    gateway = await started(street, profiles)
    for minute in range(121):
        gateway.hear(60 * minute, minute)
    street.clock.set_utc(at(7230))
    await gateway.registering.step()
    gateway = await street.start()
    await gateway.deliver.step()
    assert [entries[0][1] for _, _, entries in told(gateway)] == [str(minute) for minute in range(1, 121)]
    assert len(await gateway.originals.between("tariff", at(-1), at(99999))) == 2


async def test_taf_9_answers_requests(street):
    gateway = await started(street, a_set(9, "grid", obis=POWER))
    first = await gateway.orders.apply(command(READING_REQUEST, "ask-1", communication="out"))
    assert first.accepted
    await gateway.deliver.step()
    assert told(gateway) == []  # nothing is registered yet: the request waits
    await run_through(gateway, [500, 700], POWER, "W")
    assert [(when, entries) for when, _, entries in told(gateway)] == [("00:15", [("2.7.0", "700")])]
    assert await gateway.orders.apply(command(READING_REQUEST, "ask-1", communication="out")) == first
    await gateway.deliver.step()
    assert len(told(gateway)) == 1  # the same order is the same request
    await gateway.orders.apply(command(READING_REQUEST, "ask-2", communication="out"))
    await gateway.deliver.step()
    assert len({document["message_id"] for document in gateway.documents()}) == 2


async def test_taf_9_sends_changes(street):
    profiles = a_set(9, "grid", obis=POWER, feed_in=FeedIn(send="change", change_w=500))
    gateway = await started(street, profiles)
    await run_through(gateway, [1000, 1200, 1700, None, 1750, 1100], POWER, "W")
    assert told(gateway) == [
        ("00:30", "change", [("2.7.0", "1700")]),
        ("01:15", "change", [("2.7.0", "1100")]),
    ]


async def test_taf_6_answers_a_request_with_its_snapshots_over_a_restart(street):
    day = 86400
    gateway = await started(street, a_set(6, registration_period_s=day))
    await run_through(gateway, [10, 20, 30], step=day)
    await gateway.orders.apply(command(READING_REQUEST, "move-out", communication="out"))
    gateway = await street.start()
    await gateway.deliver.step()
    ((_, occasion, entries),) = told(gateway)
    assert occasion.startswith("request-")
    assert entries == [("1.8.0", "20"), ("1.8.0", "30")]
    assert await gateway.happenings.waiting() == ()


async def test_taf_10_sends_events_and_its_cycle(street):
    limits = GridState(send="both", limits=(Limit(obis=VOLTAGE, below="207", above="253"),))
    profiles = a_set(
        10, "grid", obis=VOLTAGE, more_obis=("1-0:14.7.0",), billing_period_s=3600, grid_state=limits
    )
    gateway = await started(street, profiles)
    for slot, (volts, hertz) in enumerate([(230, 50), (206, 49), (205, 50), (231, 50), (230, 51)]):
        gateway.hear(SLOT * slot, volts, Obis.from_text(VOLTAGE), "V")
        gateway.hear(SLOT * slot, hertz, Obis.from_text("1-0:14.7.0"), "Hz")
        await gateway.until(SLOT * slot + 30)
    assert [(when, why, entries[0], len(entries)) for when, why, entries in told(gateway)] == [
        ("00:15", "limit", ("32.7.0", "206"), 2),
        ("00:45", "limit", ("32.7.0", "231"), 2),
        ("01:00", "", ("32.7.0", "206"), 8),
    ]


async def test_taf_10_events_survive_a_restart_at_any_step(street):
    limits = GridState(send="event", limits=(Limit(obis=VOLTAGE, below="207"),))
    gateway = await started(street, a_set(10, "grid", obis=VOLTAGE, grid_state=limits))
    seen = []
    for slot, volts in enumerate([230, 206, None, 205, 231]):
        if volts is not None:
            gateway.hear(SLOT * slot, volts, Obis.from_text(VOLTAGE), "V")
        await gateway.until(SLOT * slot + 30)
        seen += [(when, why) for when, why, _ in told(gateway)]
        gateway = await street.start()
    assert seen == [("00:15", "limit"), ("01:00", "limit")]


async def test_taf_10_remembers_where_it_was_while_the_time_is_not_valid(street):
    """206 V was told; whatever comes at an invalid time says nothing, so 231 V is the coming back."""
    limits = GridState(send="event", limits=(Limit(obis=VOLTAGE, below="207"),))
    gateway = await started(street, a_set(10, "grid", obis=VOLTAGE, grid_state=limits))
    slot = 0
    gateway.registering._time_valid = lambda: slot not in (2, 3, 4)
    for slot, volts in enumerate([230, 206, 205, 205, 205, 231, 230]):
        gateway.hear(SLOT * slot, volts, Obis.from_text(VOLTAGE), "V")
        await gateway.until(SLOT * slot + 30)
    assert [(when, why) for when, why, _ in told(gateway)] == [("00:15", "limit"), ("01:15", "limit")]


async def test_taf_11_sends_the_readings_around_a_switching(street):
    control = Control(cls_device="heat-pump", events=("dim",), after_s=900)
    gateway = await started(street, a_set(11, "grid", control=control))
    await run_through(gateway, HOUR[:2])
    street.clock.set_utc(at(1200))
    assert (await gateway.orders.apply(command(TARIFF_EVENT, "d", processing="tariff", event="dim"))).accepted
    for slot in (2, 3, 4):
        gateway.hear(SLOT * slot, HOUR[slot])
        await gateway.until(SLOT * slot + 30)
    assert told(gateway) == [
        ("00:45", "event-20260101T002000Z", [("1.8.0", "1100"), ("1.8.0", "1300"), ("1.8.0", "1600")])
    ]


async def test_taf_12_warns_and_takes_top_ups(street):
    gateway = await started(street, a_set(12, prepaid=Prepaid(credit=900, warn_at=(400,))))
    await run_through(gateway, HOUR[:3])
    top_up = command(TARIFF_EVENT, "money", processing="tariff", event="top-up", amount=1000)
    assert (await gateway.orders.apply(top_up)).accepted
    assert (await gateway.orders.apply(top_up)).accepted  # once, however often it comes
    for slot, heard in ((3, 1600), (4, 2600)):
        gateway.hear(SLOT * slot, heard)
        await gateway.until(SLOT * slot + 30)
    assert told(gateway) == [("01:00", "warning", [("1.8.60", "300")])]


async def test_taf_5_an_event_acts_from_the_next_instant_and_never_in_the_past(street):
    gateway = await started(street, a_set(5, billing_period_s=3600, event_variable=PEAK))
    await run_through(gateway, HOUR[:3])
    late = command(TARIFF_EVENT, "p", processing="tariff", event="peak", at_utc="2026-01-01T00:00:00Z")
    assert (await gateway.orders.apply(late)).accepted
    for slot in (3, 4):
        gateway.hear(SLOT * slot, HOUR[slot])
        await gateway.until(SLOT * slot + 30)
    ((_, _, entries),) = told(gateway)
    assert gateway.told == [("ok", "household")]
    # The order came at 00:37:30 and acts from 00:45 on: the last quarter alone.
    assert entries == [("1.8.0", "2000"), ("1.8.1", "600"), ("1.8.2", "400"), ("1.8.63", "0")]


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        (READING_REQUEST, {"communication": "nobody"}, "unknown"),
        (READING_REQUEST, {"communication": "out"}, "use-case"),
        (READING_REQUEST, {"communication": "out", "more": 1}, "invalid"),
        (READING_REQUEST, {}, "invalid"),
        (TARIFF_EVENT, {"processing": "nobody", "event": "peak"}, "unknown"),
        (TARIFF_EVENT, {"processing": "tariff", "event": "nothing"}, "event"),
        (TARIFF_EVENT, {"processing": "tariff", "event": "peak", "amount": 5}, "event"),
        (TARIFF_EVENT, {"processing": "tariff", "event": "peak", "amount": -5}, "invalid"),
        (TARIFF_EVENT, {"processing": "tariff", "event": "peak", "at_utc": "2028-01-01T00:00:00Z"}, "event"),
        (TARIFF_EVENT, {"processing": "tariff", "event": "peak", "at_utc": "2026-01-01T00:00:00"}, "invalid"),
        ("dance", {}, "kind"),
    ],
)
async def test_orders_that_are_refused(street, kind, body, code):
    gateway = await started(street, a_set(5, event_variable=PEAK))
    receipt = await gateway.orders.apply(command(kind, "one", **body))
    assert (receipt.accepted, receipt.code) == (False, code)
    assert gateway.told == ([] if kind == "dance" else [(code, "")])
    assert await gateway.happenings.events("tariff") == ()
    assert await gateway.orders.apply(command(kind, "one", **body)) == receipt


async def test_profiles_still_pass(street):
    gateway = await street.start()
    assert (await gateway.orders.apply(order(a_set(7)))).accepted
    assert gateway.registry.active == a_set(7)
    assert (await gateway.orders.refuse("x", "signature", "wrong")).code == "signature"


async def test_waiting_requests_are_bounded(street):
    await street.start()
    happenings = Happenings(street.partition)
    for number in range(MAX_REQUESTS):
        assert await happenings.ask(Request(f"r{number}", "out", at(0)))
    assert not await happenings.ask(Request("one more", "out", at(0)))


async def test_a_request_whose_profile_has_gone_is_let_go(street):
    gateway = await started(street, a_set(9, "grid", obis=POWER))
    await gateway.orders.apply(command(READING_REQUEST, "ask", communication="out"))
    assert (await gateway.registry.apply(order(ProfileSet(), version=2))).accepted
    await gateway.deliver.step()
    assert await gateway.happenings.waiting() == ()


async def test_a_delivery_that_fails_is_made_again_and_is_the_same(street):
    gateway = await started(street, a_set(2, billing_period_s=3600, time_variable=TWO_STAGES))
    gateway.outbox.fail = True
    with pytest.raises(StoreUnavailable):
        await run_through(gateway, HOUR)
    gateway = await street.start()
    await gateway.deliver.step()
    assert len(told(gateway)) == 1


async def test_nothing_from_before_the_activation_is_counted(street):
    gateway = await started(street, a_set(2, billing_period_s=3600, time_variable=TWO_STAGES))
    await run_through(gateway, HOUR[:3])
    changed = a_set(2, billing_period_s=3600, time_variable=TWO_STAGES, recipients=("emp", "other"))
    assert (await gateway.registry.apply(order(changed, version=2))).accepted  # at 00:37:30
    for slot in (3, 4):
        gateway.hear(SLOT * slot, HOUR[slot])
        await gateway.until(SLOT * slot + 30)
    ((_, _, entries),) = told(gateway)
    assert ("1.8.1", "400") in entries
    (document,) = gateway.documents()
    status = int(document["entries"][1]["status"], 16)
    assert GatewayStatus.WARNING in gateway_half(status), "the amounts do not begin with the period"


def with_another_address(profiles: ProfileSet) -> ProfileSet:
    """What a recipient that moved, or renewed a certificate, makes of a set."""
    moved = billing("out", processing="tariff", purpose="billing", peer=peer(port=444))
    return ProfileSet(meters=profiles.meters, processing=profiles.processing, communication=(moved,))


async def test_a_recipient_that_moves_fills_no_credit(street):
    profiles = a_set(12, billing_period_s=3600, prepaid=Prepaid(credit=5000))
    gateway = await started(street, profiles)
    await run_through(gateway, HOUR[:3])
    assert (await gateway.registry.apply(order(with_another_address(profiles), version=2))).accepted
    for slot in (3, 4):
        gateway.hear(SLOT * slot, HOUR[slot])
        await gateway.until(SLOT * slot + 30)
    assert told(gateway) == [("01:00", "", [("1.8.60", "4000")])]


async def test_a_recipient_that_moves_ends_no_event(street):
    profiles = a_set(5, billing_period_s=3600, event_variable=PEAK)
    gateway = await started(street, profiles)
    await run_through(gateway, HOUR[:1])
    await gateway.orders.apply(command(TARIFF_EVENT, "p", processing="tariff", event="peak"))
    await run_through(gateway, HOUR[:2])
    assert (await gateway.registry.apply(order(with_another_address(profiles), version=2))).accepted
    for slot in (2, 3, 4):
        gateway.hear(SLOT * slot, HOUR[slot])
        await gateway.until(SLOT * slot + 30)
    ((_, _, entries),) = told(gateway)
    assert entries[1:3] == [("1.8.1", "0"), ("1.8.2", "700")]  # from the value of 00:30 on


# ------------------------------------------------------------------ batches, kills


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.randoms(use_true_random=False))
async def test_batches_and_order_of_arrival_do_not_matter(tmp_path_factory, cuts, shuffler):
    rule = tariff_child.RULE
    entries = registers_of([37 * slot % 400 for slot in range(40)])
    expected = evaluate(task(rule, entries, 0, SLOT * 40))
    shuffler.shuffle(entries)
    folder = tmp_path_factory.mktemp("batches")
    async with await Partition.open(folder / "consumer.db", "consumer", module_of()) as partition:
        originals = OriginalLists(partition)
        left = list(entries)
        for cut in (*cuts, len(entries)):
            batch, left = left[:cut], left[cut:]
            await originals.add(rule.id, batch + batch[:1], at(0))
        happenings = Happenings(partition)
        occasion = Occasion(at(0), at(SLOT * 40), "")
        found = await Evaluator(originals, happenings).dataset(rule, occasion, LONG_AGO)
    assert found.entries == expected


def test_kill_at_any_moment_changes_no_derived_register(tmp_path):
    """kill -9 during registration, several times: what is derived equals what an undisturbed day gives."""
    chance, lives, done = random.Random(seed()), 0, False
    while not done:
        lives += 1
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.firmware.tariff_child", str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(chance.randrange(1, 40) if lives < 5 else 10_000):
            line = child.stdout.readline()
            done = line == b"done\n"
            if done or not line:
                break
        child.send_signal(signal.SIGKILL)
        _, errors = child.communicate()
        assert errors == b"", errors.decode()
        assert lives < 20
    assert lives > 1
    assert asyncio.run(_derived(tmp_path)) == _undisturbed()


async def _derived(folder: Path):
    async with await Partition.open(folder / "consumer.db", "consumer", module_of()) as partition:
        evaluator = Evaluator(OriginalLists(partition), Happenings(partition))
        dataset = await evaluator.dataset(tariff_child.RULE, Occasion(at(0), at(86400), ""), LONG_AGO)
        return [(one.obis, one.value) for one in dataset.entries]


def _undisturbed():
    heard = [tariff_child.heard(slot * SLOT) for slot in range(97)]
    entries = [
        value(at(slot * SLOT), None if reading is None else reading.value)
        for slot, reading in enumerate(heard)
    ]
    result = evaluate(task(tariff_child.RULE, entries, 0, 86400))
    assert any(one.value for one in result[1:])
    return [(one.obis, one.value) for one in result]
