"""Members and a supplier over real TCP and TLS with a hostile network between, connection by connection.

The network cuts, delays, splits and withholds; what it does is drawn. Afterwards `wire_judge` looks at what
the supplier received: I1, I3, I4, I5, I6, I12, I17 and I18.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.loopback_loop import run
from tests.unit.dcnet.hostile_wire import Fate, HostileProxy, Records
from tests.unit.dcnet.wire_judge import judge
from tests.unit.dcnet.wire_net import GATEWAYS, Enrolled, Outage, Plight, WireNet

SLOTS, CALM_SLOTS = 3, 5
EXAMPLES, NIGHTLY_EXAMPLES = 6, 200

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
_outages = st.builds(Outage, st.integers(0, SLOTS - 1), st.floats(0.05, 2.5), st.booleans())
_plights = st.builds(Plight, st.just(()) | _lines, _lines, st.none() | _outages)
plights = st.fixed_dictionaries(
    {1: st.builds(Plight, _lines, _lines), 2: st.builds(Plight, st.just(()), _lines, _outages)},
    optional={3: _plights, 4: _plights, 5: _plights},
)


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Enrolled:
    return Enrolled(tmp_path_factory.mktemp("wire") / "pki")


def reading(slot: int, member: int) -> int:
    """19 900 to 19 996 Wh: digits that no time of day has, as times stand in signed messages."""
    return 19_900 + (17 * slot + 31 * member) % 97


async def lived(enrolled: Enrolled, suffered: dict[int, Plight]) -> tuple[WireNet, range]:
    net = WireNet(enrolled, suffered, reading=reading)
    async with net:
        return net, await net.live(SLOTS, CALM_SLOTS)


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
        net, slots = run(lived(enrolled, suffered))
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
    assert seen["totalled"] > 5 * EXAMPLES
    assert seen["opened"] > 20 * EXAMPLES
    assert seen["left out"] > EXAMPLES // 2  # the trouble was real
    assert seen["repeated"] > EXAMPLES // 2
    assert all(seen[what] for what in ("cut up", "cut down", "withheld", "delayed", "in pieces")), seen


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_more_of_it(enrolled: Enrolled) -> None:
    seen = whatever_the_wire_does(enrolled, NIGHTLY_EXAMPLES)
    assert seen["aborted"]
    assert seen["refused"]
    assert seen["restarted"]
