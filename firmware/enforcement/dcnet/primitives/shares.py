"""Shares of a self-mask's seed: any t of m give the seed, fewer say nothing. Never decides who gets one.

Shamir's scheme over GF(2^128) with x^128 + x^7 + x^2 + x + 1; elements are big-endian integers of 16 bytes.
Spec: docs/dcnet.md, "Exact constructions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
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
    first = sorted(shares)[:threshold]
    seed, wrong = _against(_Polynomial({x: shares[x] for x in first}).at, shares)
    if 2 * len(wrong) > len(shares) - threshold:  # one of the first is wrong, or too many are
        found = _nearest({x: int.from_bytes(share, "big") for x, share in shares.items()}, threshold)
        if found is None:
            raise SharesRefused(f"{len(shares)} shares do not lie on one polynomial")
        seed, wrong = _against(partial(_at, found), shares)
        if 2 * len(wrong) > len(shares) - threshold:
            raise SharesRefused(f"{len(shares)} shares do not lie on one polynomial")
    return seed, wrong


def _against(at: Callable[[int], int], shares: Mapping[int, bytes]) -> tuple[bytes, frozenset[int]]:
    """Return the seed that a polynomial gives, and which shares do not lie on it."""
    wrong = frozenset(x for x, share in shares.items() if at(x) != int.from_bytes(share, "big"))
    return at(0).to_bytes(SHARE_BYTES, "big"), wrong


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


def _nearest(points: Mapping[int, int], threshold: int) -> list[int] | None:
    """Return the polynomial of degree below t that misses at most (n - t) / 2 of n points, ascending.

    If there is none, None or one that misses more. Trying subsets would take ages as soon as somebody deals
    many wrong shares; this takes n * n steps. After S. Gao, A new algorithm for decoding Reed-Solomon codes.
    """
    whole = [1]
    for x in points:  # the product of (z - x)
        whole = [multiply(low, x) ^ high for low, high in zip([*whole, 0], [0, *whole], strict=True)]
    parts = [_without(whole, x) for x in points]
    inverses = _inverses([_at(part, x) for part, x in zip(parts, points, strict=True)])
    through = [0] * len(points)
    for value, inverse, part in zip(points.values(), inverses, parts, strict=True):
        weight = multiply(value, inverse)
        through = [have ^ multiply(weight, more) for have, more in zip(through, part, strict=True)]
    rest, other, factor, other_factor = _trimmed(through), whole, [1], list[int]()
    while 2 * (len(rest) - 1) >= len(points) + threshold:
        quotient, remainder = _divided(other, rest)
        rest, other = remainder, rest
        product = _product(quotient, factor)
        factor, other_factor = _sum(other_factor, product), factor
    found, remainder = _divided(rest, factor)
    return None if remainder or len(found) > threshold else found


def _without(whole: Sequence[int], x: int) -> list[int]:
    """Divide a polynomial by (z - x), which it contains."""
    found = [0]
    for coefficient in reversed(whole[1:]):
        found.append(multiply(found[-1], x) ^ coefficient)
    return found[:0:-1]


def _trimmed(polynomial: list[int]) -> list[int]:
    """Take the zeros off its upper end; the zero polynomial is empty."""
    while polynomial and polynomial[-1] == 0:
        polynomial.pop()
    return polynomial


def _sum(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return _trimmed([x ^ y for x, y in zip_longest(a, b, fillvalue=0)])


def _product(a: Sequence[int], b: Sequence[int]) -> list[int]:
    found = [0] * (len(a) + len(b))
    for place, coefficient in enumerate(a):
        for above, other in enumerate(b):
            found[place + above] ^= multiply(coefficient, other)
    return _trimmed(found)


def _divided(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return quotient and remainder; b is not the zero polynomial."""
    rest, quotient, inverse = list(a), [0] * max(0, len(a) - len(b) + 1), invert(b[-1])
    for place in reversed(range(len(quotient))):
        quotient[place] = factor = multiply(rest[place + len(b) - 1], inverse)
        for above, coefficient in enumerate(b):
            rest[place + above] ^= multiply(factor, coefficient)
    return _trimmed(quotient), _trimmed(rest)


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
