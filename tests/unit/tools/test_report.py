"""The judge of the demo: right evidence is right, and each falsified piece of it turns its check false."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tools.demo.plan import BILLING, GROUP_TOTAL, STRANGER, Plan
from tools.demo.report import judge
from tools.demo.scenario import Outcome
from tools.homes.cards import Cards, Kind
from tools.homes.home import Home

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORGED = "00000001-forged"


def honest(folder: Path) -> Outcome:
    """Four homes, two slots, the last home drops out of the second: what everybody saw in a good run."""
    plan = replace(Plan(folder, 4, 2, 2), t0_utc=T0)
    homes = tuple(Home(household, folder / household.name, GROUP_TOTAL) for household in plan.households)
    for home in homes:
        tally, number = home.tally, home.household.number
        for position in range(3):
            instant, value = T0 + timedelta(seconds=2 * position), 1000 * number + 10 * number * position
            tally.registered[instant] = value
            tally.transmitted.append((instant, value))
        tally.rejected = 1 if number in (1, 2) else 0
        tally.accepted, tally.sent = 3, 3 + tally.rejected
        tally.tls = {("TLSv1.2", "brainpoolP256r1", "ECDHE-ECDSA-AES256-GCM-SHA384")}
        tally.pace_runs, tally.apdus = 2, 100
    homes[0].tally.denied = 1
    names = [home.household.name for home in homes]
    emp: list[dict[str, Any]] = [
        {"event": "submit", "net": "d1", "slot": 0, "gateway": names[0], "lanes": [123456789, 7, 8]},
        total(0, names, [], (10 + 20 + 30 + 40) * 10),
        total(1, names[:3], names[3:], (10 + 20 + 30) * 10),
        *(bill(name, 1020 * number) for number, name in enumerate(names, 1)),
    ]
    gwa = [receipt(name, f"2-{name}") for name in names]
    gwa.append(receipt(names[0], FORGED) | {"accepted": False, "code": "signature"})
    return Outcome(plan, homes, gwa, emp, Cards(Kind.EMULATOR, AsyncExitStack()), FORGED)


def receipt(gateway: str, message_id: str) -> dict[str, Any]:
    return {"event": "receipt", "gateway": gateway, "message_id": message_id, "accepted": True, "code": ""}


def total(slot: int, members: list[str], left_out: list[str], tenths: int) -> dict[str, Any]:
    return {
        "event": "total",
        "slot": slot,
        "members": members,
        "left_out": left_out,
        "lanes": [tenths, 0, len(members)],
        "verdict": "totalled",
    }


def bill(gateway: str, value: int) -> dict[str, Any]:
    entries = [{"time_utc": (T0 + timedelta(seconds=4)).isoformat(), "value": str(value), "unit": "Wh"}]
    return {
        "event": "delivery",
        "gateway": gateway,
        "verified": True,
        "document": {"profile": BILLING, "entries": entries},
    }


def bills(outcome: Outcome) -> list[dict[str, Any]]:
    return [event for event in outcome.emp if event["event"] == "delivery"]


def totals(outcome: Outcome) -> list[dict[str, Any]]:
    return [event for event in outcome.emp if event["event"] == "total"]


def test_an_honest_run_is_ok(tmp_path: Path) -> None:
    report = judge(honest(tmp_path))
    assert report.checks == dict.fromkeys(report.checks, True)
    assert report.ok
    result = report.to_dict()
    assert result["ok"] is True
    assert result["slots"][1] == {
        "slot": 2,
        "members": ["esgw0100000001", "esgw0100000002", "esgw0100000003"],
        "left_out": ["esgw0100000004"],
        "true_sum_wh": 60,
        "opened_sum_wh": 60,
    }
    assert result["telegrams"] == {"sent": 14, "accepted": 12, "rejected": 2}


def first_bill(outcome: Outcome) -> dict[str, Any]:
    """The first bill's document, to be changed in place."""
    document: dict[str, Any] = bills(outcome)[0]["document"]
    return document


def sent_later(outcome: Outcome) -> None:
    transmitted = outcome.homes[1].tally.transmitted
    transmitted[-1] = (T0 + timedelta(seconds=9), transmitted[-1][1])


def another_entry(outcome: Outcome, offset_s: int) -> None:
    time_utc = (T0 + timedelta(seconds=offset_s)).isoformat()
    first_bill(outcome)["entries"].append({"time_utc": time_utc, "value": "1010", "unit": "Wh"})


def repetition_accepted(outcome: Outcome) -> None:
    tally = outcome.homes[0].tally
    tally.accepted, tally.rejected = 4, 0


SUM = "every sum that the supplier opened is the true one"
OUT = "the drop-out was left out and nobody else"
BEFORE = "nobody was left out before the drop-out"
SENT = "every registered value is one that the meter sent at that time"
BILLED = "one bill came from each home, checked and with one value"
COUNTED = "each bill says what the meter counted"
PLAIN = "no plain value of a slot reached the supplier"
DENIED = "the recipient without a right was denied"
ORDERS = "the forged order was refused, all others were carried out"
REPEATED = "the repeated telegrams were rejected, all others accepted"
MASKED = "a masked share shows another number than the reading"
TLS = "every connection was TLS with an ephemeral Brainpool key"

FALSIFIED: list[tuple[str, str, Callable[[Outcome], Any]]] = [
    ("one tenth more", SUM, lambda o: totals(o)[0]["lanes"].__setitem__(0, 1001)),
    ("one Wh more", SUM, lambda o: totals(o)[0]["lanes"].__setitem__(0, 1010)),
    ("canary", SUM, lambda o: totals(o)[0]["lanes"].__setitem__(2, 3)),
    ("no total", SUM, lambda o: o.emp.remove(totals(o)[1])),
    ("aborted", SUM, lambda o: totals(o)[0].update(verdict="aborted")),
    ("unknown begin", SUM, lambda o: o.homes[0].tally.registered.pop(T0)),
    ("stranger among members", SUM, lambda o: totals(o)[0]["members"].append("esgw0199999999")),
    ("drop-out took part", OUT, lambda o: totals(o)[1].update(members=totals(o)[0]["members"])),
    ("somebody else left out", OUT, lambda o: totals(o)[1]["members"].pop()),
    ("left out before", BEFORE, lambda o: totals(o)[0].update(members=totals(o)[0]["members"][:3])),
    ("never sent", SENT, lambda o: o.homes[1].tally.registered.update({T0: 4711})),
    ("sent at another time", SENT, sent_later),
    ("nothing registered", SENT, lambda o: o.homes[1].tally.registered.clear()),
    ("a bill is missing", BILLED, lambda o: o.emp.remove(bills(o)[0])),
    ("a bill came twice", BILLED, lambda o: o.emp.append(bills(o)[0])),
    ("not verified", BILLED, lambda o: bills(o)[0].update(verified=False)),
    ("two values", BILLED, lambda o: another_entry(o, 4)),
    ("another profile", BILLED, lambda o: first_bill(o).update(profile="group-total")),
    ("another value", COUNTED, lambda o: first_bill(o)["entries"][0].update(value="1021")),
    ("end not registered", COUNTED, lambda o: o.homes[0].tally.registered.pop(T0 + timedelta(seconds=4))),
    ("a slot in the clear", PLAIN, lambda o: another_entry(o, 2)),
    ("not denied", DENIED, lambda o: setattr(o.homes[0].tally, "denied", 0)),
    ("the stranger got it", DENIED, lambda o: first_bill(o).update(profile=STRANGER)),
    ("forged order accepted", ORDERS, lambda o: o.gwa[-1].update(accepted=True, code="")),
    ("refused for another reason", ORDERS, lambda o: o.gwa[-1].update(code="version")),
    ("no receipt for it", ORDERS, lambda o: o.gwa.pop()),
    ("an honest order refused", ORDERS, lambda o: o.gwa[0].update(accepted=False, code="signature")),
    ("an order not carried out", ORDERS, lambda o: o.gwa.pop(1)),
    ("repetition accepted", REPEATED, repetition_accepted),
    ("one too many rejected", REPEATED, lambda o: setattr(o.homes[2].tally, "rejected", 1)),
    ("one lost", REPEATED, lambda o: setattr(o.homes[2].tally, "accepted", 2)),
    ("not masked", MASKED, lambda o: o.emp[0]["lanes"].__setitem__(0, 100)),
    ("no share", MASKED, lambda o: o.emp.pop(0)),
    ("NIST curve", TLS, lambda o: o.homes[3].tally.tls.add(("TLSv1.2", "secp256r1", "x"))),
    ("no connection", TLS, lambda o: o.homes[3].tally.tls.clear()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "check", "falsify"), FALSIFIED, ids=[name for name, _, _ in FALSIFIED])
def test_falsified_evidence(tmp_path: Path, name: str, check: str, falsify: Callable[[Outcome], Any]) -> None:
    outcome = honest(tmp_path)
    falsify(outcome)
    report = judge(outcome)
    assert report.checks[check] is False
    assert not report.ok
    assert report.to_dict()["ok"] is False


def test_every_check_is_falsified_by_something(tmp_path: Path) -> None:
    assert set(judge(honest(tmp_path)).checks) == {check for _, check, _ in FALSIFIED}


def test_what_is_in_the_air_while_a_gateway_is_off_is_lost(tmp_path: Path) -> None:
    outcome = honest(tmp_path)
    outcome.homes[3].tally.sent += 2
    assert judge(outcome).ok
    outcome.homes[3].tally.accepted += 9
    assert not judge(outcome).ok
