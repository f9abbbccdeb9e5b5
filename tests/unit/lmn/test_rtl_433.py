"""rtl_433: its lines on bytes alone, and the real program on recordings of this project's telegrams."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from lmn.errors import LmnError
from lmn.wmbus.link import StickStatistics
from lmn.wmbus.sticks.rtl_433 import Rtl433, to_telegram
from tests.support.air import RATE, samples
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.meter_wmbus_load import MeterKind
from tools.counterparts.meter_wmbus_virtual import Protection, VirtualMeter

PROGRAM = shutil.which("rtl_433")
TELEGRAM = ElectricityMeter(seed=3).telegram()


def line(**changes: object) -> bytes:
    document = {"model": "Wireless-MBus", "mode": "C", "data": TELEGRAM.hex(), "mic": "CRC"} | changes
    return json.dumps(document).encode() + b"\n"


def heard(data: bytes) -> tuple[list[tuple[bytes, str]], StickStatistics]:
    statistics = StickStatistics()
    core = Rtl433(statistics)
    assert core.start() == b""
    return [(frame.data, frame.link_mode) for frame in core.receive(data, 1.0)], statistics


def test_a_line_is_a_telegram() -> None:
    frames, statistics = heard(line() + line(model="Acurite-Tower") + line(mode="T"))
    assert frames == [(TELEGRAM, "C1"), (TELEGRAM, "T1")]
    assert (statistics.frames, statistics.garbage_bytes) == (2, 0)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        (line(mic="PARITY"), "crc_failures"),
        (line(data=TELEGRAM.hex()[:-2]), "truncated"),
        (line(data=""), "garbage_bytes"),
        (line(data="zz"), "garbage_bytes"),
        (line(data=7), "garbage_bytes"),
        (b"[" * 5000 + b"\n", "garbage_bytes"),
        (b'"text"\n', "garbage_bytes"),
        (b"not json\n", "garbage_bytes"),
        (b"9" * 5000 + b"\n", "garbage_bytes"),
        (b"x" * 9000, "garbage_bytes"),
    ],
)
def test_what_is_no_telegram_is_counted(text: bytes, counted: str) -> None:
    frames, statistics = heard(text)
    assert frames == []
    assert getattr(statistics, counted) > 0


def test_format_a_is_believed_only_with_its_last_checksum() -> None:
    printed = bytearray(bytes.fromhex("1144a74d0100001001024420823cfdf1c26b308f25"))
    with pytest.raises(LmnError):
        to_telegram(bytes(printed))
    for telegram in (TELEGRAM, TELEGRAM[:1] + TELEGRAM[1:]):
        assert to_telegram(telegram) == telegram


def test_format_b_may_come_with_the_length_that_was_sent() -> None:
    body = TELEGRAM[1:] + bytes(125 - len(TELEGRAM[1:]))
    bare, as_sent = bytes((125,)) + body, bytes((127,)) + body
    assert to_telegram(as_sent, "C") == to_telegram(bare, "C") == bare
    with pytest.raises(LmnError):
        to_telegram(as_sent, "T")
    # A longer one lacks two bytes of its content, in each version's own way.
    for length, content in ((129, 125), (128, 126), (130, 126)):
        with pytest.raises(LmnError):
            to_telegram(bytes((length,)) + TELEGRAM[1:] + bytes(content - len(TELEGRAM[1:])), "C")


@pytest.mark.skipif(
    PROGRAM is None and "rtl_433" not in os.environ.get("SMGW_REQUIRE_REAL", "").split(),
    reason="no rtl_433 here; ./smgw test unpacks it where there is apt",
)
def test_the_real_program_hears_every_telegram_of_every_length_and_format(tmp_path: Path) -> None:
    assert PROGRAM is not None
    rng = random.Random(4)
    sent: list[tuple[bytes, str]] = []
    for protection in Protection:
        meter = VirtualMeter(rng.choice(list(MeterKind)), protection, seed=9)
        for mode in ("T", "CA", "CB"):
            meter.step()
            sent.append((meter.telegram(), mode))
    for length in (11, 25, 26, 27, 41, 42, 43, 100, 120):
        head = bytes((length, 0x44)) + TELEGRAM[2:10]
        sent.append((head + rng.randbytes(length - 9), rng.choice(("T", "CA", "CB"))))
    recording = tmp_path / "air.cu8"
    recording.write_bytes(samples(sent, pause_s=0.005))
    command = [PROGRAM, "-c", os.devnull, "-R", "104", "-s", str(RATE), "-f", "868950000"]
    run = subprocess.run(
        [*command, "-r", str(recording), "-F", "json"], capture_output=True, timeout=50, check=True
    )
    frames, statistics = heard(run.stdout)
    assert [data for data, _ in frames] == [telegram for telegram, _ in sent]
    assert [mode for _, mode in frames] == [f"{mode[0]}1" for _, mode in sent]
    assert (statistics.truncated, statistics.crc_failures) == (0, 0)
