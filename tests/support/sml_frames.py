"""SML frames for tests, built from our own encoder; real dumps have no licence that lets them in."""

from __future__ import annotations

from lmn.sml.codec import boolean, octets, sequence, signed, unsigned
from lmn.sml.messages import Body, CloseResponse, GetListResponse, Message, OpenResponse, to_transport
from lmn.sml.values import ListEntry, SmlTime, TimeKind

SERVER_ID = bytes.fromhex("0a01534d470000989681")
METER = "SMG-10000001-00-02"


def entry(
    obis: str,
    encoded: bytes,
    *,
    unit: int | None = None,
    scaler: int | None = None,
    status: int | bytes | None = None,
    time: SmlTime | None = None,
    signature: bytes | None = None,
) -> ListEntry:
    return ListEntry(bytes.fromhex(obis), status, time, unit, scaler, None, encoded, signature)


ENTRIES = (
    entry("8181c78203ff", octets(b"SMG")),
    entry("0100000009ff", octets(SERVER_ID)),
    entry("0100010800ff", signed(123456, 5), unit=30, scaler=-1, status=0x1C104),
    entry("0100020800ff", unsigned(7, 1), unit=30, scaler=3, time=SmlTime(TimeKind.SECONDS_INDEX, 77)),
    entry("0100100700ff", signed(-1500, 2), unit=27, scaler=-2),
    entry("0100600505ff", boolean(True)),
    entry("8181c78205ff", octets(bytes(range(48))), signature=b"\x01\x02"),
    entry("01000000f1ff", octets(b"\x1b" * 11), status=b"\x82"),
    entry("010000090bff", sequence(unsigned(1, 1), unsigned(99, 4)), unit=7),
    entry("0100010801ff", b"\x01", unit=30, scaler=-1),
)


def pushed(*entries: ListEntry, server_id: bytes | None = SERVER_ID) -> list[Message]:
    bodies: tuple[Body, ...] = (
        OpenResponse(b"\x07", server_id),
        GetListResponse(server_id, entries, b"\x01\x00\x62\x0a\xff\xff", SmlTime(TimeKind.SECONDS_INDEX, 5)),
        CloseResponse(),
    )
    return [Message(body, bytes((number,))) for number, body in enumerate(bodies, 1)]


def frame(*entries: ListEntry, server_id: bytes | None = SERVER_ID) -> bytes:
    return to_transport(pushed(*(entries or ENTRIES), server_id=server_id))
