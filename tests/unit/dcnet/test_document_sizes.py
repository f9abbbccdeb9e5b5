"""No document holds a gateway up: what is too much is refused before anything is built of it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages import shape
from firmware.enforcement.dcnet.messages.canonical import MAX_DOCUMENT_BYTES, decode, decode_kept, encode
from firmware.enforcement.dcnet.messages.conduct import ReceiptDay, SentFrames, SlotDigest, Taken
from firmware.enforcement.dcnet.messages.roster import (
    Administrator,
    Attestation,
    Roster,
    RosterEntry,
    RosterPublication,
    SignedBundle,
)
from firmware.enforcement.dcnet.messages.witnessed import Witnessed
from firmware.enforcement.dcnet.service.client import NetClient
from firmware.enforcement.dcnet.service.sizes import most_bytes
from firmware.enforcement.dcnet.slot.reconcile import Carried
from tests.unit.dcnet.support import rules
from tools.counterparts.net_filling import MOST_CARRIED

LONG = MAX_DOCUMENT_BYTES - 5
HASH = bytes(32)


def filled(item: bytes) -> bytes:
    """The longest document, an array of equal items."""
    return b"\x9a" + (LONG // len(item)).to_bytes(4, "big") + item * (LONG // len(item))


@pytest.mark.parametrize(
    "item", [b"\x80", b"\x01", b"\x40", b"\x83\x01\x01\x01"], ids=["arrays", "numbers", "bytes", "triples"]
)
def test_a_document_of_millions_of_items_is_refused_before_anything_is_built(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cbor2, "loads", built)
    with pytest.raises(MalformedObject, match="more than 36000 items"):
        decode(filled(item))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"\x82\x01", "cut off"),
        (b"\x42\x01", "cut off"),
        (b"\x19\x01", "cut off"),
        (b"\x9b" + b"\xff" * 8, "cut off"),
        (b"\x01\x01", "stands behind it"),
        (b"\x9f\x01\xff", "canonical"),
        (b"\x1c", "canonical"),
        (b"\xa0", "major type 5"),
        (b"\x20", "major type 1"),
        (b"\xc2\x41\x01", "major type 6"),
        (b"\xf9\x3c\x00", "major type 7"),
        (b"\xf5", "major type 7"),
        (b"\x81" * 9 + b"\x01", "nested too deeply"),
        (b"\x81" * MAX_DOCUMENT_BYTES, "nested too deeply"),
    ],
)
def test_what_no_document_holds_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(MalformedObject, match=message):
        shape.check(data)
    with pytest.raises(MalformedObject):
        decode(data)


documents = st.recursive(
    st.none() | st.integers(0, (1 << 64) - 1) | st.binary(max_size=70_000) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=30),
    max_leaves=40,
)


@settings(max_examples=100)
@given(st.lists(documents, max_size=5))
def test_every_document_passes_and_none_that_is_cut_off(value: list[Any]) -> None:
    data = encode(value)
    try:
        shape.check(data)
    except MalformedObject as error:
        assert "deeply" in str(error)  # noqa: PT017 - the only reason that there may be
        return
    assert decode(data) == value
    for other in (data[:-1], data + b"\x00"):
        with pytest.raises(MalformedObject):
            shape.check(other)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_whatever_passes_holds_nothing_else_than_it_should(data: bytes) -> None:
    try:
        shape.check(data)
        value = cbor2.loads(data)
    except (MalformedObject, cbor2.CBORError, ValueError):
        return
    _only_known(value)


def _only_known(value: object) -> None:
    if isinstance(value, list):
        for one in value:
            _only_known(one)
    else:
        assert value is None or type(value) in (int, bytes, str)


def roster(members: int, administrators: int = 1) -> Roster:
    names = [f"gwa{number:03}" for number in range(administrators)]
    entries = tuple(
        RosterEntry(index, bytes(16), HASH, names[index % administrators], HASH, 1, 0)
        for index in range(1, members + 1)
    )
    commitments = tuple(Administrator(name, HASH, HASH) for name in names)
    return Roster(rules().net, 1, HASH, HASH, HASH, 20_000, HASH, commitments, entries)


def test_the_largest_roster_is_within_the_limit() -> None:
    assert Roster.from_bytes(roster(4096, 64).to_bytes()).entries[-1].index == 4096


def test_what_is_long_by_right_is_read() -> None:
    """Slots of 10 s make 8640 of a day; a period of them may be owed."""
    slots = range(8640)
    received = tuple((slot, HASH, Taken.ACCEPTED) for slot in slots)
    day = ReceiptDay(rules().net, 1, 20_000, 1, received)
    assert ReceiptDay.from_bytes(day.to_bytes()) == day
    sent = tuple(SentFrames(slot, HASH, HASH) for slot in range(20_000))
    digest = SlotDigest(rules().net, 1, 1, 20_000, HASH, sent)
    assert SlotDigest.from_bytes(digest.to_bytes()) == digest
    owed = Carried(1, 0, tuple((slot, slot) for slot in range(0, 60_000, 2)))
    assert Carried.from_bytes(owed.to_bytes()) == owed


@pytest.mark.parametrize("members", [16, 64])
@pytest.mark.parametrize("administrators", [1, 16])
def test_the_longest_true_answers_are_within_their_limits(members: int, administrators: int) -> None:
    """With certificates and signatures of 1.2 kB each, more than any key of this PKI makes."""
    net = replace(rules(), n_max=members)
    signed = [bytes(1200)] * 2
    content = roster(members, administrators).to_bytes()
    cosigned = tuple(Attestation(signed[0], bytes(1200) + content) for _ in range(administrators))
    bundles = tuple(SignedBundle(signed[0], bytes(1500)) for _ in range(members))
    published = RosterPublication(bytes(1200) + content, cosigned, bundles)
    assert len(published.to_bytes()) <= most_bytes(net, "roster/1")
    manifest = bytes(1200 + 200 + 2 * 513)
    witnessed = Witnessed(manifest, tuple(Attestation(signed[0], manifest) for _ in range(administrators)))
    assert len(witnessed.to_bytes()) <= most_bytes(net, "manifest/1/1")
    assert most_bytes(net, "roster/1") < MAX_DOCUMENT_BYTES
    assert most_bytes(replace(net, n_max=4096), "roster/1") == MAX_DOCUMENT_BYTES


def test_the_largest_roster_that_a_supplier_drafts_fits_beside_its_bundles() -> None:
    """With the sizes of this PKI: certificates of 0.85 kB, signatures of 0.8 kB, and eight administrators."""
    content = roster(MOST_CARRIED, 8).to_bytes()
    countersigned = (Attestation(bytes(850), bytes(900) + content),) * 8
    bundles = (SignedBundle(bytes(850), bytes(980)),) * MOST_CARRIED
    data = RosterPublication(bytes(900) + content, countersigned, bundles).to_bytes()
    assert len(RosterPublication.from_bytes(data).bundles) == MOST_CARRIED


@pytest.mark.parametrize(
    ("resource", "longest"),
    [
        ("result/1", 1 << 17),
        ("receipt/day/20000/1", 4096 + 64 * 97),
        ("audit/1/1", (1 << 17) + 16 * (4096 + 256)),
        ("order/1/1", (1 << 17) + 17 * (4096 + 192 * 16) + (16 << 13)),
    ],
)
def test_limits_follow_from_the_policy(resource: str, longest: int) -> None:
    net = replace(rules(), n_max=16, slot_s=900, epoch_s=86_400)
    assert most_bytes(net, resource) == longest


@dataclass
class Said:
    status: int
    body: bytes


@pytest.mark.parametrize("resource", ["result", "roster"])
def test_an_answer_that_is_too_long_is_no_answer(resource: str, caplog: pytest.LogCaptureFixture) -> None:
    net = replace(rules(), n_max=16)
    limit = most_bytes(net, f"{resource}/1")
    asked: list[str] = []

    async def main(size: int, *, relayed: bool = False) -> bytes | None:
        async def emp(_method: str, path: str, _body: bytes) -> Said:
            asked.append(path)
            return Said(404, b"") if relayed else Said(200, bytes(size))

        async def administrator(_method: str, path: str, _body: bytes) -> Said:
            asked.append(path)
            return Said(200, bytes(size))

        log = logging.LoggerAdapter(logging.getLogger("net"), {})
        clock: Any = None
        client = NetClient(net, emp, clock, log, administrator)
        found = None
        for _ in range(30 if relayed else 1):
            found = await (client.result(1) if resource == "result" else client.roster(1))
        return found

    assert asyncio.run(main(limit)) == bytes(limit)
    assert asyncio.run(main(limit + 1)) is None
    assert f"an answer of {limit + 1} bytes is ignored" in caplog.text
    if resource == "roster":  # the relay is held to the same limit
        assert asyncio.run(main(limit, relayed=True)) == bytes(limit)
        assert asyncio.run(main(limit + 1, relayed=True)) is None
        assert "/relay/roster/1" in asked[-1]


def test_an_own_record_is_read_again_however_long_it_is() -> None:
    record = encode([bytes(3 << 20), bytes(3 << 20)])
    with pytest.raises(MalformedObject):
        decode(record)
    assert decode_kept(record) == [bytes(3 << 20), bytes(3 << 20)]
    with pytest.raises(MalformedObject):
        decode_kept(record[:-1])
