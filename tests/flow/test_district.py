"""A district as `smgw demo` plays it: a street on plain TAF 7 that is taken into nets of two suppliers.

One run for everything, because it takes a while; then its evidence is falsified piece by piece, and each
time the check that looks there must turn false.
"""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from tests.support.pace import slot_s
from tests.support.whole_gateway import ROOT
from tools.demo.district.plan import DistrictPlan
from tools.demo.district.play import play
from tools.demo.district.report import Evidence, judge
from tools.demo.district.run import evidence
from tools.homes.home import Span
from tools.homes.parties import Event

pytestmark = [pytest.mark.punctual, pytest.mark.timeout(400)]
SLOTS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("district")
    plan = DistrictPlan(folder, 16, SLOTS, slot_s(4, starts=5.0))

    async def go() -> Evidence:
        return await evidence(await play(plan, lambda _text: None), lambda _text: None)

    return asyncio.run(go())


def events(run: Evidence, supplier: str, kind: str) -> list[Event]:
    return [event for event in run.seen.emps[supplier] if event["event"] == kind]


def of_net(run: Evidence, net: str, slot: int) -> Event:
    return next(
        event
        for event in events(run, "altstrom", "total")
        if (event["net"][-2:], event["slot"]) == (net, slot)
    )


def remove(run: Evidence, supplier: str, event: Event) -> None:
    run.seen.emps[supplier].remove(event)


def neighbours(run: Evidence, supplier: str) -> int:
    """How many pairs of registers of one home it was told that are one slot apart."""
    told = {
        (event["gateway"], datetime.fromisoformat(entry["time_utc"]))
        for event in events(run, supplier, "delivery")
        for entry in event["document"]["entries"]
        if entry["value"] is not None
    }
    step = timedelta(seconds=run.seen.plan.slot_s)
    return sum((gateway, at + step) in told for gateway, at in told)


def last_plain(run: Evidence) -> Event:
    """The delivery of a slot before the nets that ends last."""
    return max(events(run, "altstrom", "delivery"), key=lambda event: str(event["document"]["period"]["to"]))


def doubled(run: Evidence) -> None:
    run.seen.emps["altstrom"].append(copy.deepcopy(last_plain(run)))


def beyond(run: Evidence) -> None:
    """A plain value of the nets' first slot."""
    event = copy.deepcopy(last_plain(run))
    plan = run.seen.plan
    period = {"from": plan.t0_utc.isoformat(), "to": plan.slot_start(1).isoformat()}
    event["document"]["period"] = period
    event["document"]["entries"][0]["time_utc"] = period["to"]
    run.seen.emps["altstrom"].append(event)


def owe_more(run: Evidence) -> None:
    run.seen.homes[4].tally.owed["00000000000000a1"].append(Span(0, 0, 5, "aborted"))


def meter_lied(run: Evidence) -> None:
    tally = run.seen.homes[0].tally
    tally.transmitted[:] = [(at + timedelta(hours=1), value) for at, value in tally.transmitted]


def told_administrator(run: Evidence) -> None:
    value = next(iter(run.seen.homes[0].tally.registered.values()))
    flow = dict(run.gwa_flows["north"][0]) | {"hex": f"so it was {value}".encode().hex()}
    run.gwa_flows["north"] = (*run.gwa_flows["north"], flow)  # type: ignore[index]


def longer_frame(run: Evidence) -> Evidence:
    flows = [dict(flow) for flow in run.supplier_flows]
    flow = next(one for one in flows if "/open/" in str(one["path"]))
    frame = bytes.fromhex(str(flow["hex"]))
    opened = Frame.from_bytes(frame[:-MAC_BYTES])
    flow["hex"] = (replace(opened, lanes=(*opened.lanes, 1)).to_bytes() + frame[-MAC_BYTES:]).hex()
    return replace(run, supplier_flows=tuple(flows))


PLACE = "every slot of every home was delivered in plain, is in one total or is owed: once"
TAKEN = "plain values end where the nets begin, and none is missing or doubled there"
SUM = "every sum that a supplier opened is the true one"
LEFT = "nobody was left out but with a reason"
ADDED = "the nets of one supplier add up to the true sum of all their members"
SENT = "every registered value is one that the meter sent at that time"
ORDERS = "each administrator's orders were carried out by its own gateways"
REFUSED = "the refused peer shares a key with nobody of the administrator that refuses it"
READING = "what administrators were told holds no reading"
SIZE = "frames of one type in a net have one size"
TELEGRAMS = "every telegram that was heard was accepted"
TLS = "every connection was TLS with an ephemeral Brainpool key"
KNOWN = "in the nets nobody can work out a reading, or a sum of too few"

FALSIFIED: list[tuple[str, str, Callable[[Evidence], Any]]] = [
    ("a plain slot is missing", PLACE, lambda run: remove(run, "altstrom", last_plain(run))),
    ("a plain slot came twice", TAKEN, doubled),
    ("a plain value of a net's slot", PLACE, beyond),
    ("a total is missing", PLACE, lambda run: remove(run, "altstrom", of_net(run, "a2", 0))),
    ("owed and in a total", PLACE, owe_more),
    ("a tenth too much", SUM, lambda run: of_net(run, "a1", 0)["lanes"].__setitem__(0, 1)),
    ("the canary miscounts", SUM, lambda run: of_net(run, "a1", 0)["lanes"].__setitem__(2, 1)),
    ("another one is missing", LEFT, lambda run: of_net(run, "a2", 1)["members"].pop()),
    (
        "added wrongly",
        ADDED,
        lambda run: run.aggregated["altstrom"]["together"][1]["totals"].__setitem__(0, 7),
    ),
    ("one net is not added", ADDED, lambda run: run.aggregated["altstrom"]["together"].pop(1)),
    ("the meter sent something else", SENT, meter_lied),
    ("an order was not carried out", ORDERS, lambda run: run.seen.gwas["south"].clear()),
    ("a receipt with a reading", READING, told_administrator),
    ("a longer frame", SIZE, longer_frame),
    ("a telegram was lost", TELEGRAMS, lambda run: setattr(run.seen.homes[0].tally, "accepted", 1)),
    ("no TLS", TLS, lambda run: run.seen.homes[0].tally.tls.clear()),
]


def test_every_check_holds(run: Evidence) -> None:
    report = judge(run)
    assert report.checks == dict.fromkeys(report.checks, True)
    assert report.ok
    assert len(report.slots) == 3 * SLOTS
    assert [one.members for one in report.graphs] == [7, 5, 4]
    assert report.places["plain"] == 16 * run.seen.plan.plain_slots
    assert report.places["total"] + report.places["owed"] == 16 * SLOTS
    assert {name for _, name, _ in FALSIFIED} <= set(report.checks)


def test_what_each_party_could_learn(run: Evidence) -> None:
    known = {one.party: one for one in judge(run).known}
    both = known["altstrom and neustrom"]
    assert (both.singles, both.too_small) == (0, 0)
    assert both.hidden == known["altstrom"].hidden + known["neustrom"].hidden > 16 * (SLOTS - 1)
    # Two registers next to each other make a slot. One that was missing in the air, on a busy machine, leaves
    # a span of two slots, of which neither is known.
    assert known["altstrom"].plain == neighbours(run, "altstrom") >= 10 * (run.seen.plan.plain_slots - 1)
    assert known["administrator north"].sums == known["who listens on every line"].sums == 0


@pytest.mark.parametrize(("name", "check", "falsify"), FALSIFIED, ids=[name for name, _, _ in FALSIFIED])
def test_falsified_evidence(run: Evidence, name: str, check: str, falsify: Callable[[Evidence], Any]) -> None:
    changed = copy.deepcopy(run)
    other = falsify(changed)
    report = judge(other if isinstance(other, Evidence) else changed)
    assert report.checks[check] is False, name
    assert not report.ok


def test_a_floor_that_is_too_high_is_found_out(run: Evidence) -> None:
    """The same run under a policy that promised more: what the suppliers know is now too little a sum."""
    changed = copy.deepcopy(run)
    nets = tuple(replace(net, n_min=20) for net in changed.seen.plan.cast.nets)
    plan = replace(changed.seen.plan, chosen=replace(changed.seen.plan.cast, nets=nets))
    report = judge(replace(changed, seen=replace(changed.seen, plan=plan)))
    assert report.checks[KNOWN] is False


# -- the whole of it ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("whole")
    plan = DistrictPlan(folder, 24, SLOTS, slot_s(4, starts=5.0))

    async def go() -> Evidence:
        return await evidence(await play(plan, lambda _text: None), lambda _text: None)

    return asyncio.run(go())


def said(run: Evidence, kind: str) -> list[Event]:
    return [event for events in run.seen.emps.values() for event in events if event["event"] == kind]


def forget(run: Evidence, kind: str) -> None:
    for events in run.seen.emps.values():
        events[:] = [event for event in events if event["event"] != kind]


def named_innocent(run: Evidence) -> None:
    said(run, "audit")[0]["members"].append(1)


def tenant_reads_more(run: Evidence) -> None:
    """What the one before him read."""
    (tenant,) = run.seen.plan.cast.tenants
    tally = run.seen.homes[tenant.home - 1].tally
    tally.logs[tenant.consumer] += tally.logs[f"consumer-{tenant.home}"]


def tenant_sees_debts(run: Evidence) -> None:
    (tenant,) = run.seen.plan.cast.tenants
    view = run.seen.homes[tenant.home - 1].tally.views[tenant.consumer]
    view[0]["slots"].append({"slot": 1, "state": "owed", "members": 0, "reason": ""})


def moves_late(run: Evidence) -> None:
    (move,) = run.seen.plan.cast.moves
    total = next(one for one in said(run, "total") if one["slot"] == move.slot and one["net"].endswith("b1"))
    total["members"].pop()


def in_it_still(run: Evidence) -> None:
    (revocation,) = run.seen.plan.cast.revocations
    total = max(
        (
            one
            for one in said(run, "total")
            if one["net"].endswith("a1") and one["lanes"] and one["slot"] < run.seen.plan.slots
        ),
        key=lambda one: int(one["slot"]),
    )
    total["members"].append(run.seen.homes[revocation.home - 1].household.name)


def owed_wrongly(run: Evidence) -> None:
    reconciled = next(one for one in said(run, "total") if "reconciles" in one and one["lanes"][0])
    reconciled["lanes"][0] += 10


HAPPENED: list[tuple[str, str, Callable[[Evidence], Any]]] = [
    ("nobody recovered", "who lost its power after the manifest", lambda run: forget(run, "recovered")),
    ("nobody audited", "the canary audit names", lambda run: forget(run, "audit")),
    ("an innocent one is named", "the canary audit names", named_innocent),
    ("a gateway does not confirm", "every member of every roster", lambda run: forget(run, "confirmed")),
    ("who moves comes late", "who changes the supplier", moves_late),
    ("a reconcile sum is wrong", "what was owed", owed_wrongly),
    ("the new tenant reads the old log", "who moves in finds nothing", tenant_reads_more),
    ("the new tenant sees old debts", "who moves in finds nothing", tenant_sees_debts),
    ("who was revoked is in a sum", "who was revoked", in_it_still),
]


@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_the_whole_district(whole: Evidence) -> None:
    report = judge(whole)
    assert report.checks == dict.fromkeys(report.checks, True)
    for _, begin, _ in HAPPENED:
        assert any(name.startswith(begin) for name in report.checks), begin


@pytest.mark.nightly
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("name", "begin", "falsify"), HAPPENED, ids=[name for name, _, _ in HAPPENED])
def test_falsified_happenings(
    whole: Evidence, name: str, begin: str, falsify: Callable[[Evidence], Any]
) -> None:
    changed = copy.deepcopy(whole)
    falsify(changed)
    assert [held for check, held in judge(changed).checks.items() if check.startswith(begin)] == [False], name


@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_a_record_is_kept(tmp_path: Path) -> None:
    record = tmp_path / "record"
    done = smgw("demo", "--gateways", "16", "--json", "--dir", str(tmp_path / "run"), "--record", str(record))
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["checks"] == dict.fromkeys(result["checks"], True)
    assert result["ok"] is True
    assert done.returncode == 0
    leak = smgw("dcnet", "leak", str(record), "--json")
    assert (leak.returncode, json.loads(leak.stdout)["ok"]) == (0, True)


def smgw(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *words], cwd=ROOT, capture_output=True, text=True, timeout=1400
    )
