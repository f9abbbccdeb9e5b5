"""Shares: the field by other means, any t of m, fewer say nothing, wrong ones are found."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import SharesRefused
from firmware.enforcement.dcnet.primitives import shares
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from tests.support import dcnet_model as model
from tests.support.vectors import vectors

element = st.integers(0, (1 << 128) - 1)
key16 = st.binary(min_size=16, max_size=16)


def by_division(a: int, b: int) -> int:
    """Carry-less product, then the remainder of long division by x^128 + x^7 + x^2 + x + 1."""
    product = 0
    for bit in range(128):
        if b >> bit & 1:
            product ^= a << bit
    while product.bit_length() > 128:
        product ^= (1 << 128 | 0x87) << (product.bit_length() - 129)
    return product


@given(element, element)
def test_the_product_is_that_of_long_division(a: int, b: int) -> None:
    assert shares.multiply(a, b) == by_division(a, b)
    if a:
        assert by_division(a, shares.invert(a)) == 1


@vectors("dcnet/shares.json")
def test_known_shares(case: dict[str, Any]) -> None:
    """Made by this project; a second computation of polynomial and seal says the same."""
    seed, coefficients = bytes.fromhex(case["seed"]), [bytes.fromhex(c) for c in case["coefficients"]]
    previous, owner, slot = bytes.fromhex(case["prev"]), case["owner"], case["slot"]
    dealt = shares.split(seed, coefficients, len(case["holders"]))
    assert [share.hex() for share in dealt] == case["shares"]
    rows = zip(case["holders"], case["edge_epoch_keys"], case["shares"], case["sealed"], strict=True)
    for x, (holder, key, share, sealed) in enumerate(rows, start=1):
        value, power = int.from_bytes(seed, "big"), x
        for coefficient in coefficients:
            value ^= by_division(int.from_bytes(coefficient, "big"), power)
            power = by_division(power, x)
        assert f"{value:032x}" == share
        mask = model.prf(bytes.fromhex(key), previous, slot, 1 + (owner > holder), 16)
        assert f"{value ^ int.from_bytes(mask, 'big'):032x}" == sealed
        found = shares.seal(bytes.fromhex(share), Prf(bytes.fromhex(key)), previous, slot, owner, holder)
        assert found.hex() == sealed


def test_doubling_the_highest_power_is_the_reduction_polynomial() -> None:
    assert shares.multiply(1 << 127, 2) == 0x87
    with pytest.raises(ZeroDivisionError):
        shares.invert(0)


@given(key16, st.lists(key16, min_size=1, max_size=5), st.data())
def test_any_t_of_m_give_the_seed(seed: bytes, coefficients: list[bytes], data: st.DataObject) -> None:
    threshold = len(coefficients) + 1
    count = data.draw(st.integers(threshold, 9))
    dealt = shares.split(seed, coefficients, count)
    for x, share in enumerate(dealt, start=1):  # the polynomial by its definition
        value, power = int.from_bytes(seed, "big"), x
        for coefficient in coefficients:
            value ^= by_division(int.from_bytes(coefficient, "big"), power)
            power = by_division(power, x)
        assert share == value.to_bytes(16, "big")
    chosen = data.draw(st.permutations(range(1, count + 1)))[:threshold]
    assert shares.combine({x: dealt[x - 1] for x in chosen}) == seed


@given(key16, key16, key16)
def test_t_minus_1_shares_fit_every_seed(seed: bytes, other: bytes, coefficient: bytes) -> None:
    """For each other seed there is a polynomial through the share seen: it says nothing."""
    (seen, _) = shares.split(seed, [coefficient], 2)
    slope = int.from_bytes(seen, "big") ^ int.from_bytes(other, "big")
    assert shares.split(other, [slope.to_bytes(16, "big")], 2)[0] == seen


@given(key16, st.lists(key16, min_size=4, max_size=4), st.integers(1, 8), st.integers(1, 1 << 127))
def test_one_wrong_share_of_eight_is_found(
    seed: bytes, coefficients: list[bytes], wrong: int, error: int
) -> None:
    dealt = dict(enumerate(shares.split(seed, coefficients, 8), start=1))
    assert shares.recover(dealt, 5) == (seed, frozenset())
    dealt[wrong] = (int.from_bytes(dealt[wrong], "big") ^ error).to_bytes(16, "big")
    assert shares.recover(dealt, 5) == (seed, {wrong})
    six = {x: share for x, share in dealt.items() if x != (1 if wrong != 1 else 2)}
    six = dict(itertools.islice(six.items(), 5)) | {wrong: dealt[wrong]}
    if len(six) == 6:
        with pytest.raises(SharesRefused, match="polynomial"):
            shares.recover(six, 5)


@given(key16, st.lists(key16, min_size=0, max_size=3), st.integers(0, 8), st.data())
def test_whichever_shares_are_wrong_they_are_found_or_too_many(
    seed: bytes, coefficients: list[bytes], extra: int, data: st.DataObject
) -> None:
    threshold = len(coefficients) + 1
    dealt = dict(enumerate(shares.split(seed, coefficients, threshold + extra), start=1))
    errors = data.draw(st.dictionaries(st.sampled_from(sorted(dealt)), st.integers(1, 1 << 127)))
    for x, error in errors.items():
        dealt[x] = (int.from_bytes(dealt[x], "big") ^ error).to_bytes(16, "big")
    try:
        found, wrong = shares.recover(dealt, threshold)
    except SharesRefused:
        assert 2 * len(errors) > extra
    else:
        assert 2 * len(wrong) <= extra
        if 2 * len(errors) <= extra:
            assert (found, wrong) == (seed, errors.keys())


@pytest.mark.parametrize(("count", "threshold"), [(16, 8), (63, 5)])
def test_shares_that_are_all_wrong_are_refused_in_few_steps(
    count: int, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lost member that had dealt 63 wrong ones kept the supplier at it for hours, and its net with it."""
    steps, multiply = itertools.count(), shares.multiply

    def counted(a: int, b: int) -> int:
        assert next(steps) < 100_000
        return multiply(a, b)

    monkeypatch.setattr(shares, "multiply", counted)
    dealt = {x: hashlib.sha256(b"%d" % x).digest()[:16] for x in range(1, count + 1)}
    with pytest.raises(SharesRefused, match="polynomial"):
        shares.recover(dealt, threshold)


def test_too_few_shares_are_refused() -> None:
    dealt = shares.split(bytes(16), [b"c" * 16] * 4, 8)
    with pytest.raises(SharesRefused, match="4 shares; 5"):
        shares.recover(dict(enumerate(dealt[:4], start=1)), 5)
    for count in (4, 256):
        with pytest.raises(ValueError, match="shares of a polynomial"):
            shares.split(bytes(16), [bytes(16)] * 4, count)


@given(key16, key16, st.binary(min_size=32, max_size=32), st.integers(1, 99), st.integers(1, 99))
def test_a_sealed_share_opens_at_the_other_end_alone(
    share: bytes, key: bytes, previous: bytes, owner: int, holder: int
) -> None:
    if owner == holder:
        return
    sealed = shares.seal(share, Prf(key), previous, 7, owner, holder)
    mask = model.prf(key, previous, 7, 1 + (owner > holder), 16)
    assert sealed == bytes(a ^ b for a, b in zip(share, mask, strict=True))
    assert shares.seal(sealed, Prf(key), previous, 7, owner, holder) == share
    assert shares.seal(sealed, Prf(key), previous, 7, holder, owner) != share
    assert shares.seal(sealed, Prf(key), previous, 8, owner, holder) != share
