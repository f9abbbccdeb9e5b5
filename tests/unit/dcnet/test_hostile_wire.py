"""Members and a supplier over real TCP and TLS with a hostile network between, connection by connection.

The network cuts, delays, splits and withholds; what it does is drawn. Afterwards `wire_judge` looks at what
the supplier received: I1, I3, I4, I5, I6, I12, I17 and I18.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.machines import SLOT, Step
from firmware.enforcement.dcnet.slot.ledger import Ledger, Owed
from tests.support.loopback_loop import run
from tests.unit.dcnet.hostile_wire import Fate
from tests.unit.dcnet.wire_judge import judge
from tests.unit.dcnet.wire_net import GATEWAYS, Enrolled, Exchange, Outage, Plight, WireNet

pytestmark = pytest.mark.punctual  # time stands still only while sockets have something to say
T = TypeVar("T")
_HELLO: Final = 3
SLOTS, CALM_SLOTS = 3, 5
EXAMPLES, NIGHTLY_EXAMPLES = 5, 200

BROKEN = ("cut up", "cut down", "withheld", "refused")
_bytes = st.one_of(st.integers(1, 4_000), st.integers(3_000, 9_000))
"""A handshake takes about 3 000 either way, a submission 700 more."""
_delays = st.one_of(st.just(0.0), st.floats(0.01, 20.0))
_pieces = st.sampled_from((1, 7, 300, 1 << 16))
_fates = st.one_of(
    st.builds(Fate, withheld=st.sampled_from((0, 0, 0, 1, 2, 5)), delay_up_s=_delays),
    st.builds(Fate, cut_up=_bytes, piece_up=_pieces, delay_down_s=_delays),
    st.builds(Fate, cut_down=_bytes, piece_down=_pieces, delay_up_s=_delays),
    st.just(Fate(refused=True)),
)
_lines = st.lists(_fates, min_size=2, max_size=12).map(tuple)
_outages = st.builds(
    Outage,
    st.integers(0, SLOTS - 1),
    st.one_of(st.floats(0, 6), st.floats(-5, 50)),  # in the moments in which frames leave, or at any time
    st.one_of(st.floats(0.01, 0.08), st.floats(0.02, 2)),
    st.booleans(),
)
_bad_power = st.lists(_outages, min_size=1, max_size=SLOTS, unique_by=lambda one: one.slot).map(
    lambda found: tuple(sorted(found, key=lambda one: one.slot))
)
_plights = st.builds(Plight, st.just(()) | _lines, st.just(()) | _lines, st.just(()) | _bad_power)
plights = st.fixed_dictionaries(
    {1: st.builds(Plight, _lines, _lines), 2: st.builds(Plight, st.just(()), st.just(()), _bad_power)},
    optional={3: _plights, 4: _plights, 5: _plights},
)


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Enrolled:
    return Enrolled(tmp_path_factory.mktemp("wire") / "pki")


def reading(slot: int, member: int) -> int:
    """19 900 to 19 996 Wh: digits that no time of day has, as times stand in signed messages."""
    return 19_900 + (17 * slot + 31 * member) % 97


async def lived(
    enrolled: Enrolled, suffered: dict[int, Plight], slots: int = 2, calm: int = 1
) -> tuple[WireNet, range]:
    net = WireNet(enrolled, suffered, reading=reading)
    async with net:
        return net, await net.live(slots, calm)


def whatever_the_wire_does(enrolled: Enrolled, examples: int) -> Counter[str]:
    """Return what was done, and what came of it."""
    seen: Counter[str] = Counter()

    # An example takes seconds: it is shown as it was drawn, and not made smaller.
    @settings(
        max_examples=examples,
        phases=(Phase.reuse, Phase.generate),
        suppress_health_check=(HealthCheck.too_slow,),
        deadline=None,
    )
    @given(plights)
    def one(suffered: dict[int, Plight]) -> None:
        net, slots = run(lived(enrolled, suffered, SLOTS, CALM_SLOTS))
        seen.update(judge(net, slots))
        seen.update(net.met)
        last = net.totals[slots[-1]]
        assert last["verdict"] == "totalled"
        assert last["left_out"] == [], "somebody did not come back"
        assert len(last["members"]) == len(GATEWAYS)

    one()
    return seen


def test_i1_i3_i4_i5_i6_i12_i17_i18_over_tcp_and_tls(enrolled: Enrolled) -> None:
    seen = whatever_the_wire_does(enrolled, EXAMPLES)
    assert seen["totalled"] > 3 * EXAMPLES
    assert seen["opened"] > 12 * EXAMPLES
    assert sum(seen[what] for what in BROKEN) > 2 * EXAMPLES  # the trouble was real


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_more_of_it(enrolled: Enrolled) -> None:
    seen = whatever_the_wire_does(enrolled, NIGHTLY_EXAMPLES)
    assert all(seen[what] for what in (*BROKEN, "delayed", "in pieces", "power cut", "line down")), seen
    assert seen["aborted"]
    assert seen["left out"] > NIGHTLY_EXAMPLES
    assert seen["repeated"] > NIGHTLY_EXAMPLES // 4


CUT_IN_TIME = {1: Plight(outages=(Outage(1, 4.0, 0.03, power=True),))}
"""The power goes behind a submission, and comes back while there is time for another one."""


def test_after_a_power_cut_the_same_bytes_are_sent_again(enrolled: Enrolled) -> None:
    net, slots = run(lived(enrolled, CUT_IN_TIME))
    assert judge(net, slots)["repeated"]
    assert [one["verdict"] for one in net.totals.values()] == ["totalled"] * len(slots)


def test_a_ledger_that_forgets_is_found(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that leaves before it is durable is another one after a power cut."""

    async def submitting(self: Ledger, slot: int, *, frame: bytes, **more: Any) -> None:
        entry = self._known(slot)
        state = SLOT.advance(entry.state, Step.SUBMIT)
        self._entries[slot] = replace(entry, state=state, submitted=frame, **more)

    monkeypatch.setattr(Ledger, "submitting", submitting)
    net, slots = run(lived(enrolled, CUT_IN_TIME))
    with pytest.raises(AssertionError, match="submit"):
        judge(net, slots)


# -- that the judge would notice -------------------------------------------------------------------


@pytest.fixture(scope="module")
def calm(enrolled: Enrolled) -> tuple[WireNet, range]:
    return run(lived(enrolled, {}))


def changed(told: T, **parts: Any) -> T:
    """The same run as somebody else would tell it."""
    other = copy.copy(told)
    for name, value in parts.items():
        setattr(other, name, value)
    return other


def frames(net: WireNet, what: str) -> list[Exchange]:
    return [one for one in net.exchanges if f"/{what}/" in one.request and one.body[1] != _HELLO]


def test_the_judge_finds_nothing_wrong_in_peace(calm: tuple[WireNet, range]) -> None:
    net, slots = calm
    seen = judge(net, slots)
    assert (seen["totalled"], seen["opened"]) == (len(slots), len(slots) * len(GATEWAYS))
    assert not seen["left out"]


@pytest.mark.parametrize("what", ["submit", "open"])
def test_the_judge_finds_another_frame_for_a_slot(calm: tuple[WireNet, range], what: str) -> None:
    net, slots = calm
    one = frames(net, what)[-1]
    other = replace(one, body=one.body[:-1] + bytes([one.body[-1] ^ 1]))
    with pytest.raises(AssertionError, match=what):
        judge(changed(net, exchanges=[*net.exchanges, other]), slots)
    with pytest.raises(AssertionError):  # alone, it is not what the second model says
        judge(changed(net, exchanges=[other if each is one else each for each in net.exchanges]), slots)


def test_the_judge_finds_an_opening_under_no_manifest(calm: tuple[WireNet, range]) -> None:
    net, slots = calm
    shown = [one for one in net.exchanges if f"/manifest/{slots[-1]}/" not in one.request]
    with pytest.raises(KeyError):  # opened under a manifest that nobody was shown
        judge(changed(net, exchanges=shown), slots)


@pytest.mark.parametrize("lane", range(3))
def test_the_judge_finds_a_wrong_total(calm: tuple[WireNet, range], lane: int) -> None:
    net, slots = calm
    told = [dict(one) for one in net.emitted]
    total = next(one for one in told if one["event"] == "total")
    total["lanes"] = [value + (number == lane) for number, value in enumerate(total["lanes"])]
    with pytest.raises(AssertionError):
        judge(changed(net, emitted=told), slots)


def test_the_judge_finds_lost_and_doubled_energy(calm: tuple[WireNet, range]) -> None:
    net, slots = calm
    for owed in ([Owed(slots[0], slots[0], 1, 0, "doubled")], [Owed(slots[0], slots[0], -1, 0, "lost")]):
        house = changed(net.houses[0], owed=owed)
        with pytest.raises(AssertionError, match=house.name):
            judge(changed(net, houses=[house, *net.houses[1:]]), slots)


def test_the_judge_finds_a_fault_that_nobody_named(calm: tuple[WireNet, range]) -> None:
    net, slots = calm
    with pytest.raises(AssertionError, match="never retrieved"):
        judge(changed(net, unexpected=[{"message": "Task exception was never retrieved"}]), slots)
    failed = replace(net.exchanges[0], status=500)
    with pytest.raises(AssertionError, match="500"):
        judge(changed(net, exchanges=[*net.exchanges, failed]), slots)
