"""What `smgw decode wmbus` answers keeps to the command contract, whatever a meter or a line says.

Every VIF with every VIFE and every form of data: quantity, unit and the writing of the value are of the
contract's lists. Hostile lines: one answer each, in order, and never a stop.
"""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest
from typer.testing import CliRunner

from lmn.mbus.records import describe, parse
from tools.cli.decode import app, field_of
from tools.cli.hex_text import digits_of, is_bare_line
from tools.cli.json_lines import written

RUN = CliRunner()

QUANTITIES = frozenset(
    [
        "energy", "volume", "mass", "power", "volume flow", "mass flow", "flow temperature",
        "return temperature", "temperature difference", "external temperature", "pressure", "date",
        "datetime", "hca units", "voltage", "current", "frequency", "reactive energy", "reactive power",
        "apparent power", "apparent energy", "relative humidity", "on time", "operating time",
        "battery operating time", "averaging duration", "actuality duration", "fabrication no",
        "identification", "access number", "model version", "software version", "hardware version",
        "firmware version", "customer location", "customer", "parameter set", "param activation state",
        "error flags", "digital input", "digital output", "dimensionless", "cumulation counter",
        "storage interval", "reset counter", "control signal", "special supplier information",
        "manufacturer specific",
    ]
)  # fmt: skip
UNITS = frozenset(
    [
        "Wh", "J", "m3", "m3/h", "kg", "kg/h", "VAh", "W", "J/h", "C", "K", "V", "A", "Hz", "bar", "var",
        "varh", "VA", "s", "min", "h", "d", "month", "%",
    ]
)  # fmt: skip
PER = frozenset(["s", "min", "h", "d", "week", "month", "year"])
"""A VIFE "per time" behind one of the units: `W/month`."""
UNIT_OF = {
    "energy": {"Wh", "J"}, "volume": {"m3"}, "mass": {"kg"}, "power": {"W", "J/h"}, "volume flow": {"m3/h"},
    "mass flow": {"kg/h"}, "flow temperature": {"C"}, "return temperature": {"C"},
    "temperature difference": {"K"}, "external temperature": {"C"}, "pressure": {"bar"}, "voltage": {"V"},
    "current": {"A"}, "frequency": {"Hz"}, "reactive energy": {"varh"}, "reactive power": {"var"},
    "apparent power": {"VA"}, "apparent energy": {"VAh"}, "relative humidity": {"%"},
    "on time": {"s", "min", "h", "d"}, "operating time": {"s", "min", "h", "d"},
    "averaging duration": {"s", "min", "h", "d"}, "actuality duration": {"s", "min", "h", "d"},
    "storage interval": {"s", "min", "h", "d", "month"}, "battery operating time": {"h", "d", "month"},
}  # fmt: skip
"""All others have no unit."""

DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
DATETIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?")

HEADS = [
    *(bytes((code,)) for code in range(0x80) if code != 0x7C),
    *(bytes((0xFB, code)) for code in range(0x80)),
    *(bytes((0xFD, code)) for code in range(0x80)),
]
TAILS = [
    b"",
    *(bytes((code,)) for code in range(0x80)),
    *(bytes((0xFC, code)) for code in range(0x80)),
]
DATA = {
    0x1: ("00", "1f", "80", "ff"),
    0x2: ("1f15", "0000", "ffff", "0080"),
    0x3: ("1e3217", "000080"),
    0x4: ("32371f15", "00000080", "ffffffff", "fffffffe"),
    0x5: ("0000c03f", "0000807f", "ffff7fff", "01000000"),
    0x6: ("1e32171f1500", "ffffffffffff"),
    0x7: ("ffffffffffffffff", "0100000000000000"),
    0x9: ("99", "f1", "aa"),
    0xA: ("9999", "12f4"),
    0xB: ("563412", "eeeeee"),
    0xC: ("78563412", "785634f2"),
    0xD: ("03434241", "00", "c23412", "d23412", "e401000080", "c1ff"),
    0xE: ("785634129900", "0000000000f0"),
}


def _vib(head: bytes, tail: bytes) -> bytes:
    return head[:-1] + bytes((head[-1] | 0x80,)) + tail if tail else head


def _fits(field: dict[str, Any]) -> None:
    quantity, unit, value = field["quantity"], field["unit"], field["value"]
    assert quantity in QUANTITIES, field
    base, _, per = unit.rpartition("/")
    if unit not in UNIT_OF.get(quantity, {""}):
        assert base in UNIT_OF[quantity], field
        assert per in PER, field
    if value is None:
        return
    assert isinstance(value, str)
    if quantity == "date":
        assert DATE.fullmatch(value), field
    elif quantity == "datetime":
        assert DATETIME.fullmatch(value), field
    elif quantity == "manufacturer specific":
        raise AssertionError(f"a value under a quantity that has none: {field}")
    elif bytes.fromhex(field["raw"])[:1] != b"\x03" or not value.isalpha():  # text is left as it was sent
        assert DECIMAL.fullmatch(value), field


def test_the_lists_are_the_contracts() -> None:
    assert len(QUANTITIES) == 48
    assert set().union(*UNIT_OF.values()) == UNITS
    assert UNIT_OF.keys() <= QUANTITIES


def test_every_vif_with_every_vife() -> None:
    """Quantity and unit; then each kind of number there is, in each form of data."""
    kinds: dict[tuple[str, str, object, bool], bytes] = {}
    for head, tail in product(HEADS, TAILS):
        vib = _vib(head, tail)
        measurand = describe(b"\x04" + vib).measurand
        kinds.setdefault((measurand.quantity, measurand.unit, measurand.kind, bool(tail)), vib)
    assert {quantity for quantity, *_ in kinds} == QUANTITIES
    assert len(kinds) > 100
    for vib, (form, values) in product(kinds.values(), DATA.items()):
        for value in values:
            for record in parse(bytes((form,)) + vib + bytes.fromhex(value)):
                _fits(field_of(record))


def test_every_vif_in_every_form() -> None:
    for head, (form, values) in product(HEADS, DATA.items()):
        for value in values:
            for record in parse(bytes((form,)) + head + bytes.fromhex(value)):
                _fits(field_of(record))


def test_a_time_of_day_is_no_date() -> None:
    (record,) = parse(bytes.fromhex("036D1E3217"))
    field = field_of(record)
    assert (field["quantity"], field["unit"], field["value"]) == ("manufacturer specific", "", None)
    assert field["raw"] == "1e3217"


# ------------------------------------------------------------------ hostile lines

GOOD = "1444AE0C7856341201078C2027780B134365877AC5"
DEEP = 100_000
LINES: dict[str, str | bytes] = {
    "no JSON": "nonsense", "half an object": '{"name": "x"', "a list": "[]", "null": "null",
    "a number": "1e9",
    "a huge number": "1" * 10_000, "NaN": '{"name": NaN}', "infinity": '{"name": 1e999}',
    "NUL": "\0\0\0", "NUL inside": '{"name": "a\0b"}', "NUL as an escape": '{"name": "a\\u0000b"}',
    "no UTF-8": b'{"name": "\xff\xfe"}', "half a surrogate": '{"name": "\\ud800"}',
    "deep lists": "[" * DEEP, "deep objects": '{"a":' * DEEP,
    "a deep name": '{"name": ' + "[" * 900 + "]" * 900 + "}",
    "the same key twice": f'{{"name": "a", "name": "b", "frame_b_hex": "00", "frame_b_hex": "{GOOD}"}}',
    "no telegram": '{"name": "x"}', "no name": f'{{"frame_b_hex": "{GOOD}"}}',
    "an unknown mode": f'{{"frame_b_hex": "{GOOD}", "mode": "loose"}}',
    "a mode of another type": f'{{"frame_b_hex": "{GOOD}", "mode": ["open"]}}',
    "no mode at all": f'{{"frame_b_hex": "{GOOD}", "mode": null}}',
    "an empty list as mode": f'{{"frame_b_hex": "{GOOD}", "mode": []}}',
    "a key of another type": f'{{"frame_b_hex": "{GOOD}", "key_hex": 0}}',
    "a key too short": f'{{"frame_b_hex": "{GOOD}", "key_hex": "00"}}',
    "a telegram of another type": '{"telegram_hex": {"a": 1}}',
    "telegram null": '{"telegram_hex": null}',
    "an empty telegram": '{"telegram_hex": ""}',
    "a sequence of anything": '{"sequence": [1, null, {}, "zz", ""]}',
    "an empty sequence": '{"sequence": []}', "a sequence that is none": '{"sequence": {}}',
    "a huge telegram": '{"telegram_hex": "' + "44" * 1_000_000 + '"}',
    "a huge line": "x" * 5_000_000, "a huge bare telegram": "44" * 1_000_000,
    "a slow simulation line": "telegram=" + " " * 200_000 + "x",
    "another slow one": "telegram=" + "+1" * 200_000 + "x",
    "carriage returns": f'\r{{"frame_b_hex": "{GOOD}"}}\r',
}  # fmt: skip
WORKING = {"no name", "no mode at all", "carriage returns", "the same key twice"}


def _answers(lines: list[bytes]) -> list[dict[str, Any]]:
    result = RUN.invoke(app, ["wmbus", "--jsonl", "-"], input=b"\n".join(lines) + b"\n")
    assert result.exit_code == 0, result.exception

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in result.stdout.split("\n") if line]


def _encoded(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode()


@pytest.mark.parametrize("kind", LINES)
def test_a_hostile_line_has_one_answer_and_stops_nothing(kind: str) -> None:
    good = json.dumps({"name": "after", "frame_b_hex": GOOD}).encode()
    first, last = _answers([_encoded(LINES[kind]), good])
    assert (last["name"], last["ok"]) == ("after", True)
    assert "name" in first
    if "results" in first:
        assert all(each["ok"] is False for each in first["results"])
    else:
        assert first["ok"] is (kind in WORKING), first
        assert first["ok"] or {"code", "message"} == first["error"].keys()


def test_hostile_lines_are_answered_in_order() -> None:
    """Between each two a good one with a number for a name."""
    lines = []
    for number, line in enumerate(LINES.values()):
        lines += [_encoded(line), json.dumps({"name": str(number), "frame_b_hex": GOOD}).encode()]
    answers = _answers(lines)
    assert len(answers) == len(lines)
    assert [each["name"] for each in answers[1::2]] == [str(number) for number in range(len(LINES))]
    assert all(each["ok"] for each in answers[1::2])


def test_a_name_that_cannot_be_said_back() -> None:
    name: list[Any] = []
    for _ in range(DEEP):
        name = [name]
    assert json.loads(written({"name": name, "ok": True}))["error"]["code"] == "malformed"


def test_the_last_of_two_keys_counts() -> None:
    (only,) = _answers([_encoded(LINES["the same key twice"])])
    assert only["name"] == "b"


def test_the_other_decoder_too() -> None:
    lines = [_encoded(line) for line in LINES.values()]
    result = RUN.invoke(app, ["sml", "--jsonl", "-"], input=b"\n".join(lines) + b"\n")
    assert result.exit_code == 0, result.exception
    assert len([line for line in result.stdout.split("\n") if line]) == len(lines)


def test_marks_of_a_line_take_no_square_time() -> None:
    """With a square rule this would take minutes; the limit of the test run is what ends it."""
    for filler in (" ", "+", "+1", "_", "0x", "telegram="):
        text = "telegram=" + filler * 300_000 + "x"
        assert is_bare_line(text)
        assert digits_of(text).endswith("x")
