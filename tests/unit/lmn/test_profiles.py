"""Compact profiles: the one layout that is known, on telegrams of our own making."""

from __future__ import annotations

import random

import pytest
from typer.testing import CliRunner

from lmn.errors import LmnError
from lmn.mbus.profiles import Profile, profiles
from lmn.mbus.records import parse
from tests.unit.lmn.test_decode_command import batch, wired
from tools.cli.decode import app

BASE = "82046c01268c041310000000"  # storage 8: 2016-06-01, 0.010 m3
ELEMENTS = ("0.02", "0.03", None)
FORWARD = "8d04931e0e3cfe2000000030000000ffffffff"


def found(text: str) -> tuple[Profile, ...]:
    return profiles(parse(bytes.fromhex(text)))


def rows(text: str) -> list[tuple[str, str | None]]:
    (profile,) = found(text)
    return [(value.day.isoformat(), value.value_text) for value in profile.values]


def test_forward_in_time() -> None:
    (profile,) = found(BASE + FORWARD)
    assert (profile.register.measurand.quantity, profile.register.measurand.unit) == ("volume", "m3")
    assert (profile.register.information.storage, profile.register.dib_vib.hex()) == (8, "8c0413")
    assert profile.dib_vib.hex() == "8d04931e"
    assert rows(BASE + FORWARD) == [("2016-07-01", "0.02"), ("2016-08-01", "0.03"), ("2016-09-01", None)]


def test_back_in_time_over_the_turn_of_the_year() -> None:
    inverse = "8d0493131234fe" + "".join(f"{n:08x}" for n in (0x20000000, 0x10000000, 0xFF000000, 0x80))
    assert rows("82046c0122" + inverse) == [
        ("2016-01-01", "0.032"),
        ("2015-12-01", "0.016"),
        ("2015-11-01", "0.255"),
        ("2015-10-01", None),  # the lowest integer
    ]


def test_the_record_itself_stays_raw() -> None:
    *_, record = parse(bytes.fromhex(BASE + FORWARD))
    assert (record.quantity, record.value) == ("manufacturer specific", None)
    assert "0.02" not in repr(found(BASE + FORWARD)) + repr(found(BASE + FORWARD)[0].values)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("increments", BASE + FORWARD.replace("3cfe", "7cfe")),
        ("decrements", BASE + FORWARD.replace("3cfe", "bcfe")),
        ("signed differences", BASE + FORWARD.replace("3cfe", "fcfe")),
        ("hours", BASE + FORWARD.replace("3cfe", "2cfe")),
        ("half months", BASE + FORWARD.replace("3cfe", "3cfd")),
        ("days", BASE + FORWARD.replace("3cfe", "3c01")),
        ("a real number", BASE + FORWARD.replace("3cfe", "35fe")),
        ("no form", BASE + FORWARD.replace("3cfe", "3dfe")),
        ("no whole number of elements", BASE + FORWARD.replace("0e3cfe", "0b3cfe")[:-6]),
        ("no element", BASE + "8d04931e023cfe"),
        ("no control", BASE + "8d04931e00"),
        ("no base time", FORWARD),
        ("base time of another storage", BASE.replace("8204", "8205") + FORWARD),
        ("base time of another tariff", BASE.replace("8204", "8214") + FORWARD),
        ("two base times", "82046c0125" + BASE + FORWARD),
        ("no value for the base time", BASE.replace("6c0126", "6cffff") + FORWARD),
        ("a day that not every month has", BASE.replace("6c0126", "6c1e26") + FORWARD),
        ("profile without register numbers", BASE + FORWARD.replace("931e", "931f")),
        ("one more VIFE", BASE + FORWARD.replace("931e", "939e3b")),
        ("no number", BASE + FORWARD.replace("931e", "ec1e")),
        ("a unit that is not read", BASE + FORWARD.replace("931e", "ff1e")),
    ],
)
def test_what_is_not_known_makes_no_row(what: str, text: str) -> None:
    assert found(text) == (), what


def test_any_records_give_rows_or_none() -> None:
    rng = random.Random(8)
    good = bytes.fromhex(BASE + FORWARD)
    read = 0
    for _ in range(20_000):
        data = bytearray(good)
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            records = parse(bytes(data))
        except LmnError:
            continue
        read += bool(profiles(records))
    assert 5_000 < read < 18_000


def test_the_command_shows_them() -> None:
    frame = wired("7278563412a74d01072a000000" + BASE + FORWARD)
    (answer,) = batch(frame)
    assert answer["profiles"] == [
        {
            "quantity": "volume",
            "unit": "m3",
            "storage": 8,
            "tariff": 0,
            "subunit": 0,
            "dib_vib": "8d04931e",
            "values": [["2016-07-01", "0.02"], ["2016-08-01", "0.03"], ["2016-09-01", None]],
        }
    ]
    assert "profiles" not in batch(wired("7278563412a74d01072a000000" + BASE))[0]
    shown = CliRunner().invoke(app, ["wmbus", frame]).stdout
    assert "2016-08-01" in shown
    assert "0.03" in shown
