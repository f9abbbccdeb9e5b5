"""The conformance suite on the Java Card applet: a second implementation, in another language."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.runner import CardUnderTest, run_case
from tests.conformance.table import CASES, CORE_GROUPS, Case
from tests.support.applet import PIN, Line, built, require_tools
from tools.counterparts.applet_card import AppletCard

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

GROUPS = CORE_GROUPS | {"format"}
SERVED = [case for case in CASES if case.group in GROUPS]


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CardUnderTest]:
    with AppletCard(built(), tmp_path_factory.mktemp("applet"), pin=PIN) as running:
        line = Line(running.port)
        yield CardUnderTest(line.transmit, line.reset, PIN, groups=GROUPS)
        line.close()


@pytest.mark.parametrize("case", SERVED, ids=lambda case: f"{case.group}: {case.name}")
def test_applet(case: Case, card: CardUnderTest) -> None:
    assert card.fits(case)
    run_case(case, card)


def test_no_group_of_the_core_is_empty() -> None:
    assert {case.group for case in SERVED} >= CORE_GROUPS
