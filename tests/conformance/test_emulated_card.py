"""The conformance suite against the emulated card, in process."""

from __future__ import annotations

import pytest

from hsm.emulator.card import PowerEvent
from tests.conformance.runner import CardUnderTest, Deviation, match_data, run_case
from tests.conformance.table import CASES, Case
from tests.support.card import PIN, make_card


def card_under_test() -> CardUnderTest:
    card, _ = make_card()
    return CardUnderTest(card.apdu, lambda: card.power(PowerEvent.RESET), PIN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    run_case(case, card_under_test())


def test_one_card_serves_the_whole_suite_in_one_life() -> None:
    """As a real card must: cases leave nothing behind that disturbs the next one."""
    card = card_under_test()
    for case in CASES:
        run_case(case, card)


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("template", "data"),
    [("aa", "ab"), ("", "aa"), ("aabb", "aa"), ("{one:2}", "aa"), ("{one:1}{one:1}", "aabb")],
)
def test_the_judge_sees_a_deviation(template: str, data: str) -> None:
    with pytest.raises(Deviation):
        match_data(template, bytes.fromhex(data), {}, "here")


def test_a_card_that_says_yes_to_everything_fails() -> None:
    card = CardUnderTest(lambda _: b"\x90\x00", lambda: None, PIN)
    failed = 0
    for case in CASES:
        try:
            run_case(case, card)
        except Exception:  # noqa: BLE001  # whatever it is, it is no success
            failed += 1
    assert failed > len(CASES) * 3 // 4
