"""Shares of a self-mask's seed: any t of m give the seed, fewer say nothing. Never decides who gets one.

Shamir's scheme over GF(2^128) with x^128 + x^7 + x^2 + x + 1; elements are big-endian integers of 16 bytes.
Spec: docs/dcnet.md, "Exact constructions".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final

from firmware.enforcement.dcnet.errors import SharesRefused
from firmware.enforcement.dcnet.primitives.arithmetic import Prf, Purpose

SHARE_BYTES: Final = 16
MAX_HOLDERS: Final = 255
_BITS: Final = 128
_REDUCTION: Final = 0x87
_MASK: Final = (1 << _BITS) - 1


def multiply(a: int, b: int) -> int:
    """Multiply two elements of the field."""
    if a < b:
        a, b = b, a  # as many rounds as the smaller one has bits
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a = a << 1 if a >> (_BITS - 1) == 0 else (a << 1 & _MASK) ^ _REDUCTION
    return product


def invert(a: int) -> int:
    """Return 1/a, by Euclid's algorithm on polynomials.

    Raises:
        ZeroDivisionError: a is 0.
    """
    if a == 0:
        raise ZeroDivisionError("0 has no inverse")
    rest, other, factor, other_factor = a, 1 << _BITS | _REDUCTION, 1, 0
    while rest != 1:
        if (shift := rest.bit_length() - other.bit_length()) < 0:
            rest, other, factor, other_factor, shift = other, rest, other_factor, factor, -shift
        rest ^= other << shift
        factor ^= other_factor << shift
    return factor


def split(seed: bytes, coefficients: Sequence[bytes], count: int) -> tuple[bytes, ...]:
    """Return the shares at x = 1 .. count.

    Args:
        seed: 16 bytes, the polynomial at 0.
        coefficients: t - 1 times 16 fresh random bytes, the higher coefficients, the linear one first.
        count: m, between t and 255.

    Raises:
        ValueError: m shares would not be enough to get the seed back, or too many were asked for.
    """
    if not len(coefficients) < count <= MAX_HOLDERS:
        raise ValueError(f"{count} shares of a polynomial with {len(coefficients) + 1} coefficients")
    ascending = [int.from_bytes(part, "big") for part in (seed, *coefficients)]
    return tuple(_at(ascending, x).to_bytes(SHARE_BYTES, "big") for x in range(1, count + 1))


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Return the seed from exactly as many shares (x -> share) as the polynomial has coefficients."""
    return _Polynomial(shares).at(0).to_bytes(SHARE_BYTES, "big")


def recover(shares: Mapping[int, bytes], threshold: int) -> tuple[bytes, frozenset[int]]:
    """Return the seed and the x of shares that are wrong, as long as at most (n - t) / 2 of n are.

    Args:
        shares: x -> share, all that came.
        threshold: t.

    Raises:
        SharesRefused: fewer than t shares, or they contradict each other too much to say which are right.
    """
    if len(shares) < threshold:
        raise SharesRefused(f"{len(shares)} shares; {threshold} are needed")
    wrong_at_most = (len(shares) - threshold) // 2
    for chosen in combinations(sorted(shares), threshold):
        through = _Polynomial({x: shares[x] for x in chosen})
        wrong = {
            x
            for x, share in shares.items()
            if x not in chosen and through.at(x) != int.from_bytes(share, "big")
        }
        if len(wrong) <= wrong_at_most:
            return through.at(0).to_bytes(SHARE_BYTES, "big"), frozenset(wrong)
    raise SharesRefused(f"{len(shares)} shares do not lie on one polynomial")


def seal(share: bytes, edge: Prf, previous: bytes, slot: int, owner: int, holder: int) -> bytes:
    """Encrypt a share for the other end of an edge; the same call decrypts it.

    Args:
        share: 16 bytes.
        edge: PRF under the edge's epoch key.
        previous: hash of the manifest before the slot.
        slot: u32.
        owner: index of the member whose seed is shared.
        holder: index of the member at the edge's other end.
    """
    purpose = Purpose.SHARE_TO_LOWER if owner > holder else Purpose.SHARE_TO_HIGHER
    mask = edge.output(previous, slot, purpose, SHARE_BYTES)
    return bytes(a ^ b for a, b in zip(share, mask, strict=True))


def _at(ascending: Sequence[int], x: int) -> int:
    """Evaluate a polynomial by Horner's rule; x is small, so few doublings are needed."""
    value = 0
    for coefficient in reversed(ascending):
        value = multiply(value, x) ^ coefficient
    return value


class _Polynomial:
    """The polynomial of lowest degree through some points (Lagrange), to be evaluated many times.

    What divides is inverted once for all points: an inversion costs as much as 250 multiplications.
    """

    __slots__ = ("_terms",)

    def __init__(self, points: Mapping[int, bytes]) -> None:
        below = []
        for own in points:
            product = 1
            for other in points:
                if other != own:
                    product = multiply(product, own ^ other)
            below.append(product)
        self._terms = [
            (x, multiply(int.from_bytes(share, "big"), inverse))
            for (x, share), inverse in zip(points.items(), _inverses(below), strict=True)
        ]

    def at(self, x: int) -> int:
        """Return the value at x."""
        value, before = 0, 1
        behind = [1]
        for own, _ in reversed(self._terms[1:]):
            behind.append(multiply(behind[-1], x ^ own))
        for (own, weighted), after in zip(self._terms, reversed(behind), strict=True):
            value ^= multiply(multiply(before, after), weighted)
            before = multiply(before, x ^ own)
        return value


def _inverses(values: Sequence[int]) -> list[int]:
    """Invert values, none of them 0, with one inversion: of the product, from which each is taken out."""
    products = [1]
    for value in values:
        products.append(multiply(products[-1], value))
    rest, found = invert(products[-1]), []
    for value, product in zip(reversed(values), reversed(products[:-1]), strict=True):
        found.append(multiply(rest, product))
        rest = multiply(rest, value)
    return found[::-1]
