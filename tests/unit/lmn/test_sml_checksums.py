"""SML frames of meters that take another checksum, or fill up too much: as public frames have it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from lmn.errors import ChecksumMismatch, LmnError, PortClosed
from lmn.ports import BytePort
from lmn.sml.driver import HeadMeter, SmlHead
from lmn.sml.messages import Message, read_frame
from lmn.sml.readings import Quirk, meter_of
from lmn.sml.transport import (
    ANY_CHECKSUM,
    ESCAPE,
    START,
    Checksum,
    ReceivedSml,
    SmlDeframer,
    kermit,
    one_frame,
    x25,
)
from lmn.wired_values import WiredRefusal, WiredValues
from tools.cli.decode import app
from tools.counterparts.meter_sml import SmlMeter

RUN = CliRunner()


def messages() -> tuple[Message, ...]:
    return read_frame(one_frame(SmlMeter().frame()).data)


def built(frame_sum: Checksum, message_sum: Checksum) -> bytes:
    """A frame of a virtual meter under these checksums."""
    body = b""
    for message in messages():
        counted = message.to_bytes()[:-4]
        body += counted + b"\x63" + message_sum(counted) + b"\x00"
    assert ESCAPE not in body
    filling = -len(body) % 4
    frame = START + body + bytes(filling) + ESCAPE + bytes((0x1A, filling))
    return frame + frame_sum(frame)


def answered(frame: bytes) -> dict[str, object]:
    line = json.dumps({"name": "x", "sml_hex": frame.hex()})
    found: dict[str, object] = json.loads(RUN.invoke(app, ["sml", "--jsonl", "-"], input=line).stdout)
    return found


def test_the_tool_reads_either() -> None:
    assert answered(built(kermit, kermit)) == answered(built(x25, x25)) == answered(SmlMeter().frame())
    assert answered(built(kermit, kermit))["ok"] is True


@pytest.mark.parametrize(("frame_sum", "message_sum"), [(kermit, x25), (x25, kermit)])
def test_one_frame_has_one_kind(frame_sum: Checksum, message_sum: Checksum) -> None:
    error = answered(built(frame_sum, message_sum))["error"]
    assert error == {"code": "crc", "message": "CRC of a message"}


def test_every_flipped_bit_is_noticed() -> None:
    good = built(kermit, kermit)
    for place in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[place] ^= 1 << bit
            with pytest.raises(LmnError):
                one_frame(bytes(damaged), ANY_CHECKSUM)


def test_who_is_told_of_one_takes_no_other() -> None:
    (refused,) = SmlDeframer().receive(built(kermit, kermit))
    assert isinstance(refused, ChecksumMismatch)
    (refused,) = SmlDeframer(checksums=(kermit,)).receive(built(x25, x25))
    assert isinstance(refused, ChecksumMismatch)
    (found,) = SmlDeframer(checksums=(kermit,)).receive(built(kermit, kermit))
    assert isinstance(found, ReceivedSml)


def filled(count: int) -> bytes:
    """A frame that ends with so many zeros: its transaction numbers are made longer until it fits."""
    for size in range(4):
        body = b""
        for message in messages():
            body += replace(message, transaction=bytes(size + 1)).to_bytes()
        if len(body) % 4 == -count % 4:
            break
    frame = START + body + bytes(count) + ESCAPE + bytes((0x1A, count))
    return frame + x25(frame)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_filling_that_is_read(count: int) -> None:
    assert answered(filled(count))["ok"] is True


@pytest.mark.parametrize("count", [5, 8, 0x1B])
def test_filling_that_is_none(count: int) -> None:
    assert answered(filled(count))["ok"] is False


class Line:
    """A port that brings one frame and is gone."""

    def __init__(self, frame: bytes) -> None:
        self._reads = [frame, b""]

    async def read(self) -> bytes:
        return self._reads.pop(0)

    def close(self) -> None:
        return


async def heard(frame: bytes, *quirks: Quirk) -> WiredValues | WiredRefusal:
    server = messages()[0].body.server_id  # type: ignore[union-attr]  # an opening
    assert server is not None
    found: list[WiredValues | WiredRefusal] = []

    async def opened() -> BytePort:
        return Line(frame)  # type: ignore[return-value]  # nothing is written to a head

    head = HeadMeter(meter_of(server), server, frozenset(quirks))
    with pytest.raises(PortClosed):
        await SmlHead(opened, head, found.append, lambda: 0.0).run()
    return found[0]


async def test_a_head_takes_the_one_that_its_owner_named() -> None:
    odd, usual = built(kermit, kermit), built(x25, x25)
    assert isinstance(await heard(odd, Quirk.CRC_KERMIT), WiredValues)
    assert isinstance(await heard(usual), WiredValues)
    assert isinstance(await heard(odd), WiredRefusal)
    assert isinstance(await heard(usual, Quirk.CRC_KERMIT), WiredRefusal)
