"""One pushed SML frame: from transport bytes to values, beside what reading it must cost at least."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Final

from lmn.crc import crc16_x25
from lmn.sml.bodies import Body, CloseResponse, GetListResponse, OpenResponse
from lmn.sml.codec import octets, signed, unsigned
from lmn.sml.messages import Message, read_frame, to_transport
from lmn.sml.readings import pushed_list, to_values
from lmn.sml.transport import ReceivedSml, SmlDeframer
from lmn.sml.values import ListEntry
from tools.bench.figure import Figure

BAR_US: Final = 150
_FRAMES: Final = 500
_CHUNK: Final = 64


def sample() -> bytes:
    """A frame as modern meters push it: nine values, some 300 bytes (the mean of public captures)."""

    def value(obis: str, encoded: bytes, unit: int | None = None, scaler: int | None = None) -> ListEntry:
        return ListEntry(bytes.fromhex(obis), None, None, unit, scaler, None, encoded)

    server = bytes.fromhex("0a01534d470000989682")
    entries = (
        value("8181c78203ff", octets(b"SMG")),
        value("0100000009ff", octets(server)),
        value("0100010800ff", signed(123456789, 5), 30, -1),
        value("0100010801ff", signed(123456789, 5), 30, -1),
        value("0100010802ff", signed(0, 5), 30, -1),
        value("0100020800ff", unsigned(5, 1), 30, -1),
        value("0100100700ff", signed(-1234, 4), 27, -1),
        value("0100200700ff", unsigned(2301, 2), 35, -1),
        value("8181c78205ff", octets(bytes(range(48)))),
    )
    bodies: tuple[Body, ...] = (
        OpenResponse(b"\x01", server),
        GetListResponse(server, entries),
        CloseResponse(),
    )
    return to_transport([Message(body, bytes((1, at))) for at, body in enumerate(bodies)])


def _spent_us(work: Callable[[], object]) -> float:
    began = process_time()
    for _ in range(_FRAMES):
        work()
    return (process_time() - began) / _FRAMES * 1e6


async def run(rounds: int) -> list[Figure]:
    """Decode one frame over and over, in chunks as a line brings it; process time, medians count."""
    frame = sample()

    def decode() -> None:
        deframer = SmlDeframer()
        for start in range(0, len(frame), _CHUNK):
            for found in deframer.receive(frame[start : start + _CHUNK]):
                assert isinstance(found, ReceivedSml)
                to_values(pushed_list(read_frame(found.data)))

    def least() -> None:
        """What no reader can leave out: both levels of checksums, and a look at every byte."""
        crc16_x25(frame)
        crc16_x25(frame)
        for _ in frame:
            pass

    decoding, floor = [], []
    for _ in range(rounds):
        decoding.append(_spent_us(decode))
        floor.append(_spent_us(least))
    return [
        Figure(
            f"SML frame of {len(frame)} bytes to values", median(decoding), "us", bar=BAR_US,
            reference="its checksums and a loop over its bytes", reference_value=median(floor),
        )
    ]  # fmt: skip
