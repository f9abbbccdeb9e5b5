"""What a household reads when its supplier leaves it out, and when it lies: two things, in plain words."""

from __future__ import annotations

import pytest

from firmware.chronicle import _NET_EVENTS
from firmware.enforcement.dcnet.events import NetEventKind
from tools.cli.plain_words import Lang, sentence


def entry(sub_event: str) -> dict[str, object]:
    return {
        "event": "peer-misbehaved",
        "sub_event": sub_event,
        "subject": "6e65742d30303031",
        "destination": "",
        "user": "",
        "text": "left out 2 times in 30 days in spite of receipts",
        "evidence": {"slot": "17", "anonymity_set": "0"},
    }


def test_every_event_of_a_net_has_its_place_in_the_logs() -> None:
    assert _NET_EVENTS.keys() == set(NetEventKind)


@pytest.mark.parametrize("lang", list(Lang))
def test_who_was_left_out_still_takes_part_and_reads_so(lang: Lang) -> None:
    left_out, lied = sentence(entry("left-out"), lang), sentence(entry("quarantine"), lang)
    assert "17" in left_out
    assert "2 times in 30 days" in left_out
    assert ("nicht mehr" in lied) if lang is Lang.DE else ("no part any more" in lied)
    assert "nicht mehr" not in left_out
    assert "any more" not in left_out


@pytest.mark.parametrize("lang", list(Lang))
def test_v_mode_is_told_with_its_first_slot_and_its_reason(lang: Lang) -> None:
    said = entry("v-mode") | {
        "event": "concealment-repaired",
        "text": "ordered for slots 17 to 20: on demand",
    }
    told = sentence(said, lang)
    assert "17" in told
    assert "slots 17 to 20: on demand" in told
    assert ("möglich" in told) if lang is Lang.DE else ("possible" in told)
