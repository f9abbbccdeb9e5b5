"""libeac as terminal against the applet: two implementations that share not one line, judged without ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsm.api import Curve
from hsm.profile import PROJECT
from hsm.suites import SUITES, Suite
from tests.peers.eac import Eac
from tests.support.applet import PIN, Line, built, require_tools
from tests.unit.hsm.eac_sides import card_access, drive, terminal_pace, terminal_random, value
from tools.counterparts.applet_card import AppletCard

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

CURVES = (Curve.BRAINPOOL_P256, Curve.BRAINPOOL_P384)
EVERY = [pytest.param(s, c, id=f"AES-{8 * s.key_bytes}-{c.value}") for s in SUITES for c in CURVES]
SELECT = bytes((0x00, PROJECT.ins_select, 0x04, 0x0C, len(PROJECT.application))) + PROJECT.application


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with AppletCard(built(), tmp_path_factory.mktemp("applet"), pin=PIN) as running:
        line = Line(running.port)
        yield line
        line.close()


@pytest.mark.parametrize(("suite", "curve"), EVERY)
def test_libeac_is_the_terminal(suite: Suite, curve: Curve, line: Line) -> None:
    line.reset()
    assert line.transmit(SELECT) == b"\x90\x00"
    party = Eac(card_access(suite, curve), PIN)
    try:
        assert party.check(value(drive(terminal_pace(party, suite, curve), line.transmit), 0x86))
        party.start_messaging()
        for count in (8, 200):
            assert len(drive(terminal_random(party, count), line.transmit)) == count
        # One step of the counter too many: the card refuses the MAC and ends the session.
        party.step()
        with pytest.raises(AssertionError):
            drive(terminal_random(party, 8), line.transmit)
    finally:
        party.close()


def test_libeac_with_a_wrong_pin_costs_a_try(line: Line) -> None:
    suite, curve = SUITES[0], CURVES[0]
    for pin, last in ((b"0000000000", b"\x63\xc2"), (PIN, None)):
        line.reset()
        assert line.transmit(SELECT) == b"\x90\x00"
        party = Eac(card_access(suite, curve), pin)
        try:
            answer = drive(terminal_pace(party, suite, curve), line.transmit)
            assert answer == last or (last is None and party.check(value(answer, 0x86)))
        finally:
            party.close()
