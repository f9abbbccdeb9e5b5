"""I9, I10 over whole nets: what a lying supplier learns from running members, by the shipped leak check.

Everything that left the gateways goes through the files that `smgw dcnet leak` reads. Where a rule is
switched off, the check must find a single reading.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger, SlotEntry
from firmware.enforcement.dcnet.slot.view import Head
from tests.support.instant_loop import run
from tests.unit.dcnet.hostile_net import WholeNet
from tests.unit.dcnet.invariants import one_submission_and_one_opening
from tests.unit.dcnet.lying_emp import LyingEmp, Plan, judged, lied_to, record
from tests.unit.dcnet.trouble import storm
from tools.cli.main import main
from tools.dcnet.leak import Known

RUNS, NIGHTLY_RUNS = 24, 400


@dataclass(frozen=True)
class Lies:
    """One net, its corrupt members, and how its supplier lies."""

    size: int
    corrupt: frozenset[int]
    n_min: int
    withhold: float
    stories: int
    bad_weather: bool
    seed: int
    """Of everything else: whom a story leaves out, what the weather does."""


@st.composite
def lies(draw: st.DrawFn) -> Lies:
    size = draw(st.integers(6, 8))
    return Lies(
        size,
        draw(st.frozensets(st.integers(1, size), max_size=2)),
        draw(st.integers(size // 2 + 1, size - 2)),
        draw(st.sampled_from((0, 0, 0.1))),
        draw(st.sampled_from((1, 1, 2, 3))),
        draw(st.sampled_from((False, False, True))),
        draw(st.integers(0, (1 << 32) - 1)),
    )


def told(lies: Lies, folder: Path) -> tuple[WholeNet, Known]:
    """Live through them, and work out what the supplier then knows."""
    source, n_min, size = random.Random(lies.seed), lies.n_min, lies.size
    plan = Plan(source, withhold=lies.withhold, stories=lies.stories)
    d_min = max(3, min(n_min - 1, size - 3))
    net = lied_to(plan, size, seed=lies.seed, n_min=n_min, d_min=d_min, delta=0.49)
    if lies.bad_weather:
        for gateway in net.gateways:
            gateway.trouble = storm(source, 0.03, 1)
    run(net.run(4))
    one_submission_and_one_opening(net)
    return net, judged(record(net, folder, lies.corrupt))


def search(runs: int, folder: Path) -> None:
    numbers, seen = itertools.count(), Counter[str]()

    @settings(max_examples=runs)
    @given(lies())
    def one(lies: Lies) -> None:
        net, found = told(lies, folder / str(next(numbers)))
        assert found.too_small == []
        assert found.complete
        assert found.singles == []
        seen["opened"] += len(net.frames("open"))
        seen["sums"] += len(found.basis)
        seen["slots"] += len({slot for _, slot, _ in net.frames("submit")})

    one()
    assert seen["opened"] > 2 * runs  # members did not simply refuse everything,
    assert seen["sums"] > runs // 8  # and something was to be learnt
    assert seen["slots"] > runs


def test_i9_i10_a_lying_supplier_learns_nothing_outside_the_limits(tmp_path: Path) -> None:
    search(RUNS, tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_more_lying_suppliers(tmp_path: Path) -> None:
    search(NIGHTLY_RUNS, tmp_path)


def few_peers(name: str, given: PeerAuthorisation) -> PeerAuthorisation:
    """Member 1 has an administrator of its own, which allows it five peers."""
    if name == "b":
        return given
    return replace(given, peers=tuple(one for one in given.peers if one[0] <= 6))


def stripped(d_min: int, folder: Path) -> Path:
    """Member 1 has neighbours 2 to 6, is told that 3 to 6 are missing, and 2 is corrupt."""
    plan = Plan(random.Random(1), withhold=0, most_left_out=0, again=0)
    plan.left_out[1, 1] = {3, 4, 5, 6}
    net = lied_to(plan, 12, administrators=(("a", 1), ("b", 11)), n_min=7, d_min=d_min, delta=0.4)
    net.authorise = few_peers
    run(net.run(2))
    assert {slot for _, slot, _ in net.frames("open")} == {1, 2}
    return record(net, folder, frozenset({2}))


def test_without_d_min_a_single_reading_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(stripped(3, tmp_path / "with")).singles == []
    assert judged(stripped(1, tmp_path / "without")).singles == [("gw1", "", 1)]
    for folder, code in (("with", 0), ("without", 1)):
        with pytest.raises(SystemExit) as end:
            main(["dcnet", "leak", str(tmp_path / folder), "--json"])
        assert end.value.code == code
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert said["singles"] == ["gw1 slot 1"]


def shown_twice(folder: Path) -> Known:
    """Opened, killed, and shown another manifest of the same slot, from which member 6 is missing."""
    plan = Plan(random.Random(1), withhold=0, most_left_out=0, again=0, false_results=0)
    net = lied_to(plan, 6, n_min=4, d_min=3, delta=0.4)

    async def restarted() -> None:
        async with net:
            await net.until(1)
            emp = net.coordinator.slots
            assert isinstance(emp, LyingEmp)
            for index in range(1, 6):
                plan.left_out[2, index] = set()
            await _opened(net, 2)
            for gateway in net.gateways:
                gateway.kill(60)
            for index in range(1, 6):
                plan.left_out[2, index] = {6}
            plan.again = 1.0
            await net.until(2)

    run(restarted())
    assert {slot for _, slot, _ in net.frames("open")} == {1, 2}
    return judged(record(net, folder))


async def _opened(net: WholeNet, slot: int) -> None:
    """Wait until everybody has opened, and not longer."""
    clock = net.gateways[0].clock
    await clock.sleep_until(net.rules.submit_until(slot))
    while len({g.name for g, of, _ in net.frames("open") if of == slot}) < net.size:
        await clock.sleep(1)


def test_without_the_one_opening_rule_a_single_reading_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule is a durable one: chain and ledger that forget an opening are without it."""
    assert shown_twice(tmp_path / "with").singles == []
    move, write = ManifestChain._move, Ledger._write

    async def forgetting_move(chain: ManifestChain, version: int, head: Head, signed: bytes) -> None:
        if head.slot == 2:
            chain.head, chain._head_signed = head, signed
        else:
            await move(chain, version, head, signed)

    async def forgetting_write(ledger: Ledger, entry: SlotEntry, also: tuple[()] = ()) -> None:
        if entry.slot == 2 and entry.state not in (SlotState.MEASURED, SlotState.SUBMITTED):
            ledger._entries[entry.slot] = entry
        else:
            await write(ledger, entry, also)

    monkeypatch.setattr(ManifestChain, "_move", forgetting_move)
    monkeypatch.setattr(Ledger, "_write", forgetting_write)
    assert shown_twice(tmp_path / "without").singles == [("gw6", "", 2)]
