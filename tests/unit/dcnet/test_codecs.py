"""Frames and documents: any bytes give a value or a named error, and each value has one encoding."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.founding import authorisation, beacon
from firmware.enforcement.dcnet.messages import canonical, conduct, faults, frames, reports
from firmware.enforcement.dcnet.messages.documents import from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, ManifestReply, SlotResult
from firmware.enforcement.dcnet.messages.roster import (
    RESERVED_FOR_A_HYBRID,
    Attestation,
    KeyBundle,
    KeyExchange,
    Roster,
    RosterDraft,
    RosterPublication,
    SignedBundle,
)
from tests.support.vectors import load

KINDS = [
    KeyBundle,
    Roster,
    EpochManifest,
    Manifest,
    SlotResult,
    SignedBundle,
    RosterDraft,
    RosterPublication,
    Attestation,
    beacon.BeaconCommit,
    beacon.BeaconReveal,
    beacon.Nonces,
    authorisation.PeerAuthorisation,
    authorisation.GraphPublication,
    ManifestReply,
    faults.RecoveryOrder,
    faults.CanaryStatement,
    faults.AuditReport,
    faults.TwoAccounts,
    faults.WrongProof,
    faults.DisputedEdge,
    faults.OtherEnds,
    conduct.Calendar,
    conduct.CalendarPublication,
    conduct.Receipt,
    conduct.ReceiptDay,
    conduct.RefusalNotice,
    conduct.SlotDigest,
    reports.Rates,
    reports.RatesReport,
    reports.OutageNotice,
    reports.OutagePublication,
    reports.Statement,
    reports.Complaint,
]
DOCUMENTS = {kind.__name__: kind for kind in (KeyBundle, Roster, EpochManifest, SlotResult, Manifest)}
KNOWN = [
    (DOCUMENTS[case["type"]], bytes.fromhex(case["hex"])) for case in load("dcnet/documents.json")["cases"]
]

u32 = st.integers(0, 2**32 - 1)
lanes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8).map(tuple)
made_frames = st.builds(
    Frame,
    st.sampled_from([FrameType.SUBMIT, FrameType.OPEN]),
    u32,
    st.binary(min_size=8, max_size=8),
    u32,
    u32,
    u32,
    st.binary(min_size=32, max_size=32),
    lanes,
)


@given(made_frames)
def test_a_frame_comes_back_and_is_as_long_as_specified(frame: Frame) -> None:
    body = frame.to_bytes()
    assert len(body) == 64 + 8 * len(frame.lanes)
    assert Frame.from_bytes(body) == frame


def test_header_layout_is_little_endian() -> None:
    frame = Frame(FrameType.OPEN, 0x01020304, b"net-0001", 0x0A0B0C0D, 7, 0x5152, b"\xee" * 32, (1, 2, 3))
    head = frame.to_bytes()[:64].hex()
    expected = "0102000004030201" + b"net-0001".hex() + "0d0c0b0a030000000700000052510000" + "ee" * 32
    assert head == expected
    assert frame.to_bytes()[64:72].hex() == "0100000000000000"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedObject):
        assert Frame.from_bytes(data).to_bytes() == data


@given(made_frames, st.integers(0, 15), st.integers(1, 255))
def test_a_frame_of_another_form_is_refused(frame: Frame, position: int, change: int) -> None:
    body = bytearray(frame.to_bytes())
    for cut in (body[:-1], body + b"\0", body[:63], b""):
        with pytest.raises(MalformedObject):
            Frame.from_bytes(bytes(cut))
    for index, wrong in ((0, 2), (1, 9), (2, 2), (22, 1), (1, FrameType.HELLO), (1, FrameType.SHARE)):
        altered = bytearray(body)
        altered[index] = wrong
        with pytest.raises(MalformedObject):
            Frame.from_bytes(bytes(altered))
    sealed = bytearray(frames.seal(bytes(body), b"k" * 16))
    assert frames.unseal(bytes(sealed), b"k" * 16) == bytes(body)
    sealed[-1 - position] ^= change
    with pytest.raises(MalformedObject):
        frames.unseal(bytes(sealed), b"k" * 16)


def test_a_hello_has_no_lanes() -> None:
    hello = Frame(FrameType.HELLO, 1, bytes(8), 1, 1, 1, bytes(32))
    assert Frame.from_bytes(hello.to_bytes()) == hello
    with pytest.raises(MalformedObject):
        Frame.from_bytes(replace(hello, type=FrameType.SUBMIT).to_bytes())
    with pytest.raises(MalformedObject):
        frames.unseal(b"short", b"k" * 16)


values = st.recursive(
    st.none()
    | st.integers(-(2**70), 2**70)
    | st.binary(max_size=40)
    | st.text(max_size=8)
    | st.booleans()
    | st.floats(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.integers(0, 9), inner, max_size=2),
    max_leaves=20,
)


@given(st.sampled_from(KINDS), st.binary(max_size=80) | values.map(cbor2.dumps))
def test_any_bytes_are_a_document_or_malformed(kind: Any, data: bytes) -> None:
    with contextlib.suppress(MalformedObject):
        assert kind.from_bytes(data).to_bytes() == data


@given(st.sampled_from(KNOWN), st.data())
def test_a_damaged_document_is_another_one_or_malformed(
    known: tuple[Any, bytes], data: st.DataObject
) -> None:
    kind, encoded = known
    position, change = data.draw(st.integers(0, len(encoded) - 1)), data.draw(st.integers(1, 255))
    damaged = encoded[:position] + bytes([encoded[position] ^ change]) + encoded[position + 1 :]
    for candidate in (damaged, encoded[:position], encoded + b"\0"):
        with contextlib.suppress(MalformedObject):
            assert kind.from_bytes(candidate).to_bytes() == candidate
    with pytest.raises(MalformedObject):
        kind.from_bytes(encoded[:-1])


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x18\x05\x00",  # 5 in two bytes
        b"\x9f\x01\xff",  # indefinite length
        b"\x81\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",  # a float
        b"\x81\xf5",  # true
        b"\xa1\x00\x00",  # a map
        b"\x81\xc1\x00",  # a tag
        b"\x81" * 100_000,
        b"\x81" * 12 + b"\x00",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        bytes(canonical.MAX_DOCUMENT_BYTES + 1),
    ],
)
def test_other_forms_of_cbor_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedObject):
        canonical.decode(data)


def _shared(width: int, depth: int) -> bytes:
    """Each array holds the one before so often: `width ** depth` items in some hundred bytes."""
    arrays = [b"\xd8\x1c" + bytes([0x80 + width]) + bytes(width)]
    for before in range(depth - 1):
        arrays.append(b"\xd8\x1c" + bytes([0x80 + width]) + bytes([0xD8, 0x1D, before]) * width)
    return bytes([0x80 + depth]) + b"".join(arrays)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_shared(4, 3), id="an array in itself again and again"),
        pytest.param(b"\xd9\x01\x00\x83\x43abc" + b"\xd8\x19\x00" * 2, id="a text said twice by number"),
        pytest.param(b"\x81\xc4\x82\x00\xc2\x41\x07", id="a decimal fraction of a long number"),
        pytest.param(b"\x81\xd8\x23\x63(a)", id="a regular expression"),
        pytest.param(b"\x81\xa1\x00\x00", id="a map whose keys may collide"),
        pytest.param(b"\x9f\x01\xff", id="a length that is not given"),
    ],
)
def test_what_can_stand_for_more_than_its_bytes_is_not_even_built(data: bytes) -> None:
    """411 bytes kept a gateway busy for 15 s, 700 for ever, 4 MB took all memory: before any signature."""
    with pytest.raises(MalformedObject, match=r"major type [56]|canonical form"):
        canonical.decode(data)


def test_fields_out_of_range_are_refused() -> None:
    kind, encoded = KNOWN[0]
    fields = cbor2.loads(encoded)
    for position, wrong in enumerate([2, b"short", 2**32, b"", 9, b"\x02" + bytes(64), b"x", b""]):
        altered = [*fields[:position], wrong, *fields[position + 1 :]]
        with pytest.raises(MalformedObject):
            kind.from_bytes(canonical.encode(altered))
    roster = cbor2.loads(KNOWN[1][1])
    roster[9][0][0] = 2
    with pytest.raises(MalformedObject, match="gaps"):
        Roster.from_bytes(canonical.encode(roster))
    for wrong in ([], [*roster[8], ["nobody's", bytes(32), bytes(32)]], [*roster[8], roster[8][0]]):
        with pytest.raises(MalformedObject, match="administrators"):
            Roster.from_bytes(
                canonical.encode([*roster[:8], wrong, [[1, *roster[9][0][1:]], *roster[9][1:]]])
            )


def test_the_key_exchange_of_the_future_is_refused_and_taken_by_nothing_else() -> None:
    kind, encoded = KNOWN[0]
    fields = cbor2.loads(encoded)
    assert fields[4] == KeyExchange.ECKA
    assert RESERVED_FOR_A_HYBRID not in list(KeyExchange)
    fields[4] = RESERVED_FOR_A_HYBRID
    with pytest.raises(MalformedObject):
        kind.from_bytes(canonical.encode(fields))


def test_peers_of_an_authorisation_rise() -> None:
    good = authorisation.PeerAuthorisation(bytes(8), 1, bytes(32), 9, ((1, bytes(32)), (3, bytes(32))))
    assert authorisation.PeerAuthorisation.from_bytes(good.to_bytes()) == good
    for peers in (good.peers[::-1], (good.peers[0],) * 2):
        with pytest.raises(MalformedObject, match="rise"):
            authorisation.PeerAuthorisation.from_bytes(replace(good, peers=peers).to_bytes())


@given(st.integers(1, 70), st.data())
def test_bitmaps(size: int, data: st.DataObject) -> None:
    members = data.draw(st.sets(st.integers(1, size)))
    bitmap = to_bitmap(members, size)
    assert from_bitmap(bitmap, size) == members
    for wrong in (bitmap + b"\0", bitmap[:-1]):
        with pytest.raises(MalformedObject):
            from_bitmap(wrong, size)
    if size % 8:
        with pytest.raises(MalformedObject):
            from_bitmap(bitmap[:-1] + b"\x80", size)
    assert to_bitmap([1, 9], 10) == b"\x01\x01"
