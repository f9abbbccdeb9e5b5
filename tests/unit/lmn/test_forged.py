"""Forged, altered, weakened and replayed telegrams: none of them may release a value of its own."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator

import pytest

from lmn.errors import CounterRefused, DowngradeRefused, LmnError, MacRefused, SecurityUnsupported
from lmn.mbus.decoder import Telegram, decode
from lmn.mbus.security import mode7
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from tools.counterparts import meter_wmbus_telegram as build

METER, OTHER = MeterId("SMG", "12345678", 1, 2), MeterId("SMG", "12345679", 1, 2)
ADAPTER = MeterId("RAD", "00000001", 1, 0x37)
KEY = bytes(range(16))
RECORDS = bytes.fromhex("0403D2040000 02FD170000")
STRICT = MeterAccess(METER, KEY, ReceptionMode.STRICT)
OPEN = MeterAccess(METER, KEY, ReceptionMode.OPEN)
DIRECT, BEHIND = build.Sender(METER, 9, 4), build.Sender(METER, 9, 4, adapter=ADAPTER)

PROTECTED: dict[str, bytes] = {
    f"{name}, {way}": make(who)
    for way, who in (("short header", DIRECT), ("long header", BEHIND))
    for name, make in {
        "mode 7": lambda who: build.mode7(who, KEY, 5, RECORDS),
        "mode 7, all fields": lambda who: build.mode7(
            who, KEY, 5, RECORDS, key_information=b"\x01\x02", with_length=True
        ),
        "mode 7, 12 bytes": lambda who: build.mode7(who, KEY, 5, RECORDS, authentication_type=6),
        "mode 7, 16 bytes": lambda who: build.mode7(who, KEY, 5, RECORDS, authentication_type=7),
        "mode 10": lambda who: build.mode10(who, KEY, 5, RECORDS),
        "mode 10, 12 bytes": lambda who: build.mode10(who, KEY, 5, RECORDS, tag_bytes=12),
        "mode 10, 16 bytes, clear end": lambda who: build.mode10(
            who, KEY, 5, RECORDS, tag_bytes=16, clear=RECORDS[6:]
        ),
    }.items()
}


def altered(telegram: bytes) -> Iterator[tuple[int, bytes]]:
    """Each bit flipped; each byte left out, doubled or zeroed, the L field made to fit."""
    for bit in range(8 * len(telegram)):
        changed = bytearray(telegram)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(changed)
    for place in range(1, len(telegram)):
        for part in (b"", telegram[place : place + 1] * 2, b"\x00"):
            changed = bytearray(telegram[:place] + part + telegram[place + 1 :])
            changed[0] = len(changed) - 1
            if bytes(changed) != telegram:
                yield place, bytes(changed)
    for end in range(1, len(telegram)):
        yield end, bytes((end - 1,)) + telegram[1:end]


@pytest.mark.parametrize("name", PROTECTED)
def test_no_alteration_releases_another_value(name: str) -> None:
    """What no code covers is the radio link's own: C field, an adapter's address, extended link layer."""
    good = PROTECTED[name]
    expected, refused, passed = decode(good, STRICT, 4), 0, set[int]()
    for place, bad in altered(good):
        try:
            assert decode(bad, STRICT, 4) == expected
            passed.add(place)
        except LmnError:
            refused += 1
    uncovered = {1, 3, 11, 12} if good[10] == 0x8C else {1, 3}
    if "long" in name:
        uncovered |= set(range(2, 10))
    assert passed <= uncovered
    assert refused > 10 * len(good)


def test_pieces_of_other_telegrams_do_not_fit() -> None:
    first, second = (build.mode7(DIRECT, KEY, counter, RECORDS) for counter in (5, 6))
    assert len(first) == len(second)
    for place in range(13, len(first) - 1):
        mixed = first[:place] + second[place:]
        if mixed not in (first, second):
            with pytest.raises(MacRefused):
                decode(mixed, STRICT, 4)


@pytest.mark.parametrize("build_it", [build.mode7, build.mode10])
def test_a_telegram_in_the_name_of_another_meter(build_it: Callable[..., bytes]) -> None:
    """Same key on both meters: the derived key differs, because the identification is part of it."""
    foreign = build_it(build.Sender(OTHER), KEY, 5, RECORDS)
    renamed = foreign[:4] + DIRECT.address[2:6] + foreign[8:]
    with pytest.raises(MacRefused):
        decode(renamed, STRICT, 4)


def _inner() -> bytes:
    return DIRECT.transport_header(0) + RECORDS


WEAKER: dict[str, tuple[bytes, MeterAccess, int | None, type[LmnError]]] = {
    "mode 5 after mode 7": (build.mode5(DIRECT, KEY, RECORDS), OPEN, 4, DowngradeRefused),
    "mode 5, strict": (build.mode5(DIRECT, KEY, RECORDS), STRICT, None, DowngradeRefused),
    "mode 0 for a meter with a key": (build.plain(DIRECT, RECORDS), OPEN, None, DowngradeRefused),
    "mode 0 for a meter with a key, strict": (build.plain(DIRECT, RECORDS), STRICT, None, DowngradeRefused),
    "no header for a meter with a key": (DIRECT.link(b"\x78" + RECORDS), OPEN, None, DowngradeRefused),
    "mode 5 that encrypts nothing": (
        DIRECT.link(DIRECT.transport_header(0x0500) + b"\x2f\x2f" + RECORDS),
        OPEN,
        None,
        DowngradeRefused,
    ),
    "only the link encrypted, after mode 7": (
        build.link_ctr(DIRECT, KEY, 9, _inner()),
        OPEN,
        4,
        DowngradeRefused,
    ),
    "only the link encrypted, strict": (
        build.link_ctr(DIRECT, KEY, 9, _inner()),
        STRICT,
        None,
        SecurityUnsupported,
    ),
    "mode 7 with a code of 2 bytes": (
        build.mode7(DIRECT, KEY, 5, RECORDS, authentication_type=3),
        OPEN,
        4,
        MacRefused,
    ),
    "mode 7 with a code of 4 bytes": (
        build.mode7(DIRECT, KEY, 5, RECORDS, authentication_type=4),
        STRICT,
        4,
        MacRefused,
    ),
    "mode 7 that encrypts nothing": (
        build.mode7(DIRECT, KEY, 5, RECORDS, encrypted=False),
        STRICT,
        4,
        DowngradeRefused,
    ),
    "mode 10 with a tag of 4 bytes": (
        build.mode10(DIRECT, KEY, 5, RECORDS, tag_bytes=4),
        OPEN,
        4,
        MacRefused,
    ),
    "mode 7 without a code": (
        DIRECT.link(DIRECT.transport_header(0x0710) + b"\x10" + build.pad(RECORDS)),
        STRICT,
        None,
        MacRefused,
    ),
    "an old counter in mode 7": (PROTECTED["mode 7, short header"], STRICT, 5, CounterRefused),
    "an old counter in mode 10": (PROTECTED["mode 10, short header"], STRICT, 6, CounterRefused),
}


@pytest.mark.parametrize("name", WEAKER)
def test_what_is_weaker_than_the_meters_profile_is_refused(name: str) -> None:
    telegram, access, last_counter, error = WEAKER[name]
    with pytest.raises(error):
        decode(telegram, access, last_counter)


@pytest.mark.parametrize("name", ["mode 7, short header", "mode 10, short header"])
def test_a_wrong_code_is_refused_before_anything_is_decrypted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = PROTECTED[name]

    def must_not_run(*_arguments: object, **_options: object) -> bytes:
        raise AssertionError("plaintext was looked at before the code")

    monkeypatch.setattr("lmn.mbus.records.parse", must_not_run)
    monkeypatch.setattr(mode7, "decrypt_cbc", must_not_run)
    with pytest.raises(MacRefused):
        decode(good[:-1] + bytes((good[-1] ^ 1,)), STRICT, 4)
    with pytest.raises(AssertionError):
        decode(good, STRICT, 4)


def test_codes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode 10's tag is compared inside the cryptographic library; mode 7's here, by this function alone."""
    compared: list[tuple[int, int]] = []

    def watched(ours: bytes, theirs: bytes) -> bool:
        compared.append((len(ours), len(theirs)))
        return True

    monkeypatch.setattr(hmac, "compare_digest", watched)
    forged = bytearray(PROTECTED["mode 7, short header"])
    forged[22] ^= 0xFF  # inside the code
    assert isinstance(decode(bytes(forged), STRICT, 4), Telegram)
    assert compared == [(8, 8)]
