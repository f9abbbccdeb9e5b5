"""Sealing: FCS_COP.1/MEM, FDP_SDI.2."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store import seal
from firmware.store.nobodys_point import nobodys_point
from firmware.store.seal import Places, Sealer, WrappedKey, new_partition_key, open_partition_key
from hsm.api import Curve, KeySlot, PublicKey
from hsm.errors import CommandRefused
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of

KEY, SALT = bytes(range(32)), b"s" * 32


def sealer(opening: int = 1, salt: bytes = SALT, earlier: dict[int, bytes] | None = None) -> Sealer:
    return Sealer(KEY, opening, salt, (earlier or {}).get)


@given(place=st.binary(max_size=40), plaintext=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_what_was_sealed_opens(place, plaintext):
    one = sealer()
    sealed = one.seal(place, plaintext)
    assert len(sealed) == len(plaintext) + seal.OVERHEAD_BYTES
    assert one.open(place, sealed) == plaintext


def test_every_changed_bit_is_noticed():
    one = sealer(earlier={2: b"t" * 32})
    sealed = one.seal(b"place", b"a reading of 12 bytes")
    for position, bit in itertools.product(range(len(sealed)), range(8)):
        changed = bytearray(sealed)
        changed[position] ^= 1 << bit
        with pytest.raises(StoreCorrupt):
            one.open(b"place", bytes(changed))


def test_every_cut_is_noticed():
    one = sealer()
    sealed = one.seal(b"place", b"plaintext")
    for end in range(len(sealed)):
        with pytest.raises(StoreCorrupt):
            one.open(b"place", sealed[:end])
    with pytest.raises(StoreCorrupt):
        one.open(b"place", sealed + b"\0")


def test_a_record_in_another_place_is_noticed():
    one, places = sealer(), Places("consumer")
    sealed = one.seal(places.record("interval", 7), b"plaintext")
    for other in (
        places.record("interval", 8),
        places.record("interva", 7),
        places.item("interval", (7).to_bytes(8, "big")),
        Places("system").record("interval", 7),
        b"",
    ):
        with pytest.raises(StoreCorrupt):
            one.open(other, sealed)


def test_no_two_places_encode_alike():
    names = ["a", "ab", "b", "", "aR", "R", "P", "\0\1a"]
    seen: dict[bytes, tuple[str, ...]] = {}
    for partition, kind, last in itertools.product(names, names, names):
        places = Places(partition)
        for what, place in (
            (("I", partition, kind, last), places.item(kind, last.encode())),
            (("K", partition, kind, last), places.key(kind, last)),
            (("R", partition, kind, str(len(last))), places.record(kind, len(last))),
            (("N", partition, str(len(last))), places.kind_row(len(last))),
        ):
            assert seen.setdefault(place, what) == what


def test_an_earlier_opening_is_read_and_an_unknown_one_is_not():
    sealed = sealer(1, b"1" * 32).seal(b"place", b"old")
    assert sealer(2, b"2" * 32, {1: b"1" * 32}).open(b"place", sealed) == b"old"
    for salts in ({}, {1: b"x" * 32}, {1: b"short"}):
        with pytest.raises(StoreCorrupt):
            sealer(2, b"2" * 32, salts).open(b"place", sealed)


def test_many_earlier_openings_do_not_pile_up_in_memory():
    salts = {opening: opening.to_bytes(32, "big") for opening in range(1, 60)}
    sealed = [Sealer(KEY, opening, salt, salts.get).seal(b"p", b"x") for opening, salt in salts.items()]
    last = sealer(60, b"6" * 32, salts)
    assert [last.open(b"p", record) for record in sealed] == [b"x"] * len(sealed)
    assert len(last._ciphers) <= 16


def test_nonces_count_up_and_end():
    one = sealer()
    nonces = [one.seal(b"", b"")[:12] for _ in range(100)]
    assert len(set(nonces)) == 100 == one.seals
    one._seals = seal.MAX_SEALS
    with pytest.raises(StoreUnavailable):
        one.seal(b"", b"")


@pytest.mark.parametrize("opening", [0, -1, 2**32])
def test_an_opening_that_does_not_fit_is_refused(opening):
    with pytest.raises(StoreUnavailable):
        sealer(opening)


def test_neither_repr_nor_label_tells_a_secret():
    one = sealer()
    assert KEY.hex() not in repr(one)
    assert b"consumer-1" not in one.label(b"consumer-1")
    assert one.label(b"a") != one.label(b"b")
    assert one.label(b"a") == sealer(9, b"9" * 32).label(b"a")


async def test_the_partition_key_comes_back_from_the_same_module():
    module = module_of(4711)
    key, wrapped = await new_partition_key(module, "system")
    assert key not in wrapped.wrapped
    assert await open_partition_key(module, "system", [wrapped]) == (key, wrapped, True)
    assert (
        module.counts["agree"] == 3
    )  # with nobody's point to wrap and to open, with the ephemeral key to open


async def test_a_wrapped_key_of_another_module_partition_or_content_is_refused():
    module = module_of(4711)
    _, wrapped = await new_partition_key(module, "system")
    with pytest.raises(StoreUnavailable, match="another security module"):
        await open_partition_key(module_of(4712), "system", [wrapped])
    with pytest.raises(StoreCorrupt):
        await open_partition_key(module, "consumer", [wrapped])
    for position in range(len(wrapped.wrapped)):
        changed = bytearray(wrapped.wrapped)
        changed[position] ^= 1
        with pytest.raises(StoreCorrupt):
            await open_partition_key(
                module, "system", [WrappedKey(wrapped.store, wrapped.ephemeral_point, bytes(changed))]
            )
    for length in (0, 8, 16, 24, 32, 39, 48):
        cut = WrappedKey(wrapped.store, wrapped.ephemeral_point, wrapped.wrapped[:length].ljust(length, b"0"))
        with pytest.raises(StoreCorrupt):
            await open_partition_key(module, "system", [cut])


async def test_a_damaged_ephemeral_point_is_noticed():
    module = module_of(4711)
    _, wrapped = await new_partition_key(module, "system")
    with pytest.raises(StoreCorrupt):
        await open_partition_key(
            module, "system", [WrappedKey(wrapped.store, b"\4" + bytes(64), wrapped.wrapped)]
        )
    module.faults["agree"] = CommandRefused("agree", 0x6982)
    with pytest.raises(CommandRefused):  # this one is no matter of the data
        await open_partition_key(module, "system", [wrapped])


@pytest.mark.parametrize("curve", Curve)
async def test_nobodys_point_lies_on_the_curve_and_is_another_for_each_key(curve):
    module, points = SoftModule(), set()
    for _ in range(20):
        key = await module.generate_key_pair(KeySlot.STORE, curve)
        point = nobodys_point(key)
        assert point == nobodys_point(key) != key.point
        assert len(await module.agree(KeySlot.STORE, point)) == curve.field_bytes  # refused off the curve
        points.add(point)
    assert len(points) == 20


async def test_no_key_without_a_store_key():
    with pytest.raises(CommandRefused):
        await new_partition_key(SoftModule(), "system")


async def test_the_wrapping_key_depends_on_the_store_point():
    module = module_of(4711)
    _, wrapped = await new_partition_key(module, "system")
    module_public = await module.public_key(KeySlot.STORE)
    assert wrapped.store == module_public
    with pytest.raises(StoreUnavailable):
        await open_partition_key(
            module,
            "system",
            [
                WrappedKey(
                    PublicKey(module_public.curve, wrapped.ephemeral_point),
                    wrapped.ephemeral_point,
                    b"0" * 40,
                )
            ],
        )
