"""Another implementation (pysml, MIT) reads the frames that this one writes, escapes and padding included."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from lmn.sml.messages import read_frame
from lmn.sml.readings import obis_text, pushed_list, unit_name, value_of
from lmn.sml.transport import ESCAPE, ReceivedSml, SmlDeframer
from tests.support.vectors import load, vectors


@vectors("lmn/sml_second_judge.json")
def test_both_read_the_same(case: dict[str, Any]) -> None:
    [found] = SmlDeframer().receive(bytes.fromhex(case["frame"]))
    assert isinstance(found, ReceivedSml)
    entries = pushed_list(read_frame(found.data)).entries
    assert len(entries) == len(case["values"])
    for entry, (name, told, unit) in zip(entries, case["values"], strict=True):
        assert obis_text(entry.name) == name
        assert unit_name(entry.unit) == unit
        if isinstance(entry.value, bytes):
            assert entry.value.hex() == (told or "")
        else:
            value = value_of(entry)
            assert value is not None
            exact = "." not in told and "e" not in told  # it divides in floating point
            assert value == Decimal(told) if exact else float(value) == float(told)


def test_the_frames_hold_what_is_hard() -> None:
    frames = [bytes.fromhex(case["frame"]) for case in load("lmn/sml_second_judge.json")["cases"]]
    assert sum(ESCAPE * 2 in frame for frame in frames) > 50
    assert {frame[-3] for frame in frames} == {0, 1, 2, 3}
