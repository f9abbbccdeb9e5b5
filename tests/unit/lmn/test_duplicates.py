"""Copies: what may differ between two telegrams that are one, and what may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import LmnError
from lmn.mbus.decoder import decode
from lmn.mbus.duplicates import RecentTelegrams, essence
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from tools.counterparts import meter_wmbus_telegram as build

METER, ADAPTER = MeterId("SMG", "12345678", 1, 2), MeterId("RAD", "00000001", 1, 0x37)
KEY = bytes(range(16))
RECORDS = bytes.fromhex("0403D2040000 02FD170000")
WHO, BEHIND = build.Sender(METER, 9), build.Sender(METER, 9, adapter=ADAPTER)


def with_extended(telegram: bytes, ci: int = 0x8C) -> bytes:
    receiver = bytes(range(8)) if ci == 0x8E else b""
    body = telegram[1:10] + bytes((ci, 0x20, 7)) + receiver + telegram[10:]
    return bytes((len(body),)) + body


TELEGRAMS = {
    "mode 5": build.mode5(WHO, KEY, RECORDS),
    "mode 5 under an extended link": with_extended(build.mode5(WHO, KEY, RECORDS)),
    "mode 5 under an extended link with a receiver": with_extended(build.mode5(WHO, KEY, RECORDS), 0x8E),
    "mode 5 behind an adapter": with_extended(build.mode5(BEHIND, KEY, RECORDS)),
    "mode 7": build.mode7(WHO, KEY, 5, RECORDS),
    "mode 7 behind an adapter": build.mode7(BEHIND, KEY, 5, RECORDS),
    "mode 10": build.mode10(WHO, KEY, 5, RECORDS),
    "link": build.link_ctr(WHO, KEY, 5, WHO.transport_header(0) + RECORDS),
}


@pytest.mark.parametrize("name", TELEGRAMS)
def test_a_change_that_passes_every_check_makes_no_other_telegram(name: str) -> None:
    """Whoever replays a telegram can change such bits without the key."""
    good, access = TELEGRAMS[name], MeterAccess(METER, KEY, ReceptionMode.OPEN)
    expected, recent, passed = decode(good, access), RecentTelegrams(), 0
    recent.add(good, 1.0)
    for bit in range(8 * len(good)):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            telegram = decode(bytes(changed), access)
        except LmnError:
            continue
        if name.startswith("mode 5") and telegram.records != expected.records:
            continue  # its vector and its blocks have no integrity: why only an open profile takes it
        assert telegram.records == expected.records
        assert recent.accepted_at(bytes(changed)) == 1.0, bit
        passed += 1
    assert passed >= 1


def test_telegrams_of_their_own_stay_apart() -> None:
    recent = RecentTelegrams()
    for telegram in TELEGRAMS.values():
        recent.add(telegram, 1.0)
    for other in (
        build.mode5(build.Sender(METER, 10), KEY, RECORDS),
        build.mode7(WHO, KEY, 6, RECORDS),
        build.link_ctr(WHO, KEY, 6, WHO.transport_header(0) + RECORDS),
        build.mode5(build.Sender(ADAPTER, 9), KEY, RECORDS),
    ):
        assert recent.accepted_at(other) is None


def test_without_a_transport_header_the_links_access_number_counts() -> None:
    first = with_extended(WHO.link(b"\x78" + RECORDS))
    second = first[:12] + b"\x08" + first[13:]
    assert essence(first) != essence(second)
    assert essence(with_extended(build.plain(WHO, RECORDS))) == essence(
        with_extended(build.plain(WHO, RECORDS))[:12]
        + b"\x08"
        + with_extended(build.plain(WHO, RECORDS))[13:]
    )


@given(st.binary(max_size=60))
def test_any_bytes_have_an_essence_of_their_length(data: bytes) -> None:
    assert len(essence(data)) == len(data)
    assert essence(essence(data)) == essence(data)


def test_recent_telegrams_are_bounded() -> None:
    recent = RecentTelegrams(3)
    for number in range(5):
        recent.add(bytes((number,)), float(number))
    assert [recent.accepted_at(bytes((number,))) for number in (4, 2, 1)] == [4.0, 2.0, None]
