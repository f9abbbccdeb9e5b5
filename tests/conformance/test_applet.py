"""The conformance suite on the Java Card applet: a second implementation, in another language."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsm.api import Curve
from tests.conformance.runner import CardUnderTest, Deviation, run_case
from tests.conformance.table import CASES, CORE_GROUPS, Case, Send, generate
from tests.support.applet import PIN, Line, built, require_tools
from tools.counterparts.applet_card import AppletCard

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

GROUPS = CORE_GROUPS | {"format"}
# Of the other groups, what the applet lacks by choice; docs/security-module-applet.md says why.
LACKING = {
    "GET RESPONSE gives what did not fit",  # by way of ENVELOPE
    "ENVELOPE carries a command",
    "files are made and deleted",
    "a service key is made for its receiver and leaves once",
    "nothing of the administrator's without the administrator",
}
SERVED = [case for case in CASES if case.group in GROUPS or case.name not in LACKING]
_CURVE = Curve.BRAINPOOL_P256
# What the applet has beyond the core: pending keys, the counter, further files, the odd instruction.
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
            Send("00442101", sw="6a86"),
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
            Send("00b08600", le=2, sw="6a82"),
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


@pytest.mark.parametrize("case", SERVED + BEYOND, ids=lambda case: f"{case.group}: {case.name}")
def test_applet(case: Case, card: CardUnderTest) -> None:
    assert card.fits(case)
    run_case(case, card)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in LACKING], ids=lambda case: case.name)
def test_what_the_applet_lacks_it_refuses(case: Case, card: CardUnderTest) -> None:
    """By a status word in its first wrong step: the list above does not outlive its reason."""
    with pytest.raises(Deviation, match=r"SW 6[0-9a-f]{3}"):
        run_case(case, card)


def test_no_group_of_the_core_is_empty() -> None:
    assert {case.group for case in SERVED} >= CORE_GROUPS
