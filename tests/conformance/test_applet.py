"""The conformance suite on the Java Card applet: a second implementation, in another language."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsm.api import Curve
from tests.conformance.runner import CardUnderTest, run_case
from tests.conformance.table import CASES, Case, Send, generate
from tests.support.applet import PIN, Line, built, require_tools
from tools.counterparts.applet_card import AppletCard

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

_CURVE = Curve.BRAINPOOL_P256
# What the table does not ask: more of pending keys, the counter, files, the odd instruction, envelopes.
BEYOND = [
    Case(
        "a pending key takes the place of the current one",
        "beyond",
        (
            Send("00442001", sw="6a88"),
            generate(0x01, _CURVE, name="old"),
            Send("00442001", sw="6a88"),
            generate(0x81, _CURVE, name="new"),
            Send("002241b6", "840181"),
            Send("002a9e9a", "00" * 32, 256, data="{_:64}"),
            Send("00442081", sw="6a88"),
            Send("00442008", sw="6a88"),
            Send("00442001", "00", sw="6700"),
            Send("00442201", sw="6a86"),
            Send("00442101", sw="6985"),
            Send("00442001"),
            Send("00468100", "b603840101", 256, data="7f49468001 0d 8641 {new:65}".replace(" ", "")),
            Send("00468100", "b603840181", 256, sw="6a88"),
            Send("00e40000", "840101"),
        ),
        protected=True,
    ),
    Case(
        "the counter counts and is read, never written",
        "beyond",
        (
            Send("00a4020c", "0105"),
            Send("00b00000", le=8, data="{_:8}"),
            Send("00d60000", "00", sw="6982"),
            Send("00320002", le=8, sw="6a86"),
            Send("00320001", "00", 8, sw="6700"),
            Send("00320001", sw="6700"),
            Send("00320001", le=8, data="00000000000000{count:1}"),
            Send("00b00000", le=8, data="00000000000000{count:1}"),
        ),
        protected=True,
    ),
    Case(
        "guarded files are read and written under secure messaging",
        "beyond",
        (
            Send("00a4020c", "0104"),
            Send("00d603ff", "aa"),
            Send("00d603ff", "aabb", sw="6a84"),
            Send("00d60400", "aa", sw="6b00"),
            Send("00b003fe", le=2, data="00aa"),
            Send("00b08300", le=2, data="{_:2}"),
            Send("00b08200", le=7, data="80050c0d0f1011"),
            Send("00d68200", "00", sw="6982"),
            Send("00b08700", le=2, sw="6a82"),
        ),
        protected=True,
    ),
    Case(
        "guarded files are not read in the clear",
        "beyond",
        (
            Send("00a4020c", "0104"),
            Send("00b00000", le=2, sw="6982"),
            Send("00b10104", "540100", 8, sw="6982"),
            Send("00320001", le=8, sw="6982"),
            Send("00442001", sw="6982"),
            Send("00b1011c", "540100", 6, data="530431143012"),
        ),
    ),
    Case(
        "READ BINARY with the odd instruction",
        "beyond",
        (
            Send("00b10000", "540100", 6, sw="6986"),
            Send("00b10199", "540100", 6, sw="6a82"),
            Send("00b1011c", "540100", None, sw="6700"),
            Send("00b1011c", "5400", 6, sw="6a80"),
            Send("00b1011c", "530100", 6, sw="6a80"),
            Send("00b1011c", "54050000000000", 6, sw="6a80"),
            Send("00b1011c", "5404ffffffff", 6, sw="6b00"),
            Send("00b1011c", "540116", 6, sw="6b00"),
            Send("00b1011c", "540114", 8, sw="6282", data="5302010d"),
            Send("00b10000", "54020004", 6, data="5304060a0400"),
            Send("00b10101", "540100", 300, data="53820128{_:296}"),
        ),
        protected=True,
    ),
]


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CardUnderTest]:
    with AppletCard(built(), tmp_path_factory.mktemp("applet"), pin=PIN) as running:
        line = Line(running.port)
        yield CardUnderTest(line.transmit, line.reset, PIN, groups=None)
        line.close()


@pytest.mark.parametrize("case", [*CASES, *BEYOND], ids=lambda case: f"{case.group}: {case.name}")
def test_applet(case: Case, card: CardUnderTest) -> None:
    assert card.fits(case)
    run_case(case, card)
