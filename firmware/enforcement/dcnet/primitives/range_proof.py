"""Bulletproofs: several committed values lie in [0, 2**bits), shown in 2 log2(bits * values) + 9 words.

The aggregated proof of Buenz, Bootle, Boneh, Poelstra, Wuille, Maxwell, "Bulletproofs" (IEEE S&P 2018,
ePrint 2017/1066), sections 4.1 to 4.3, over the group of `edwards`; names as there, vectors as lists. The
argument about the inner product folds with one challenge for each side (G' = G_lo + u^-1 G_hi), the paper's
with its u^2 called u, which saves half of the multiplications. Nothing of the net is in here: what a proof
is bound to is in the transcript it is given. Spec: docs/dcnet.md, V-mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject, ProofRefused
from firmware.enforcement.dcnet.primitives import edwards
from firmware.enforcement.dcnet.primitives.edwards import BASE, IDENTITY, combine, point, times
from firmware.enforcement.dcnet.primitives.kdf import SCHEME
from firmware.enforcement.dcnet.primitives.scalars import ORDER, from_bytes, to_bytes
from firmware.enforcement.dcnet.primitives.transcript import Transcript

BITS: Final = (8, 16, 32, 64)
MAX_SIZE: Final = 256
WORD: Final = 32
_FIXED_WORDS: Final = 9
BLINDING_BASE: Final = edwards.hashed(SCHEME + b" V-mode H")
"""H of every commitment; nobody knows its logarithm to the base point."""
_PRODUCT_BASE: Final = edwards.hashed(SCHEME + b" V-mode U")
_LESS_BASE: Final = times(-1, BASE)


@cache
def _bases(size: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the vectors G and H of the argument; made once, when the first proof is."""
    labels = [at.to_bytes(4, "big") for at in range(size)]
    left = tuple(edwards.hashed(SCHEME + b" V-mode G" + label) for label in labels)
    return left, tuple(edwards.hashed(SCHEME + b" V-mode K" + label) for label in labels)


def proof_bytes(bits: int, values: int) -> int:
    """Return the length of a proof about so many values."""
    return WORD * (_FIXED_WORDS + 2 * _rounds(_size(bits, values)))


@dataclass(frozen=True, slots=True)
class RangeProof:
    """One proof. Its points are checked when it is verified, its numbers when it is decoded."""

    a: bytes
    s: bytes
    t1: bytes
    t2: bytes
    taux: int
    mu: int
    product: int
    """<l, r>."""
    rounds: tuple[tuple[bytes, bytes], ...]
    """(L, R) of each halving."""
    left: int
    right: int

    def to_bytes(self) -> bytes:
        """Encode: four points, three numbers, L and R of each round, two numbers; 32 bytes each."""
        ends = [to_bytes(number) for number in (self.left, self.right)]
        numbers = [to_bytes(number) for number in (self.taux, self.mu, self.product)]
        halves = [half for pair in self.rounds for half in pair]
        return b"".join([self.a, self.s, self.t1, self.t2, *numbers, *halves, *ends])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; another length or a number not below the group's order raises `MalformedObject`."""
        words = [data[at : at + WORD] for at in range(0, len(data), WORD)]
        if len(data) % WORD or len(words) < _FIXED_WORDS or (len(words) - _FIXED_WORDS) % 2:
            raise MalformedObject(f"range proof of {len(data)} bytes")
        taux, mu, product = (from_bytes(word) for word in words[4:7])
        halves = words[7:-2]
        rounds = tuple(zip(halves[::2], halves[1::2], strict=True))
        left, right = (from_bytes(word) for word in words[-2:])
        return cls(words[0], words[1], words[2], words[3], taux, mu, product, rounds, left, right)


@cache
def _choices(size: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return for each bit what it adds to A: -H if it is 0, G if it is 1."""
    return tuple((times(-1, other), one) for one, other in zip(*_bases(size), strict=True))


def commit(value: int, blinding: int) -> bytes:
    """Return the Pedersen commitment value * G + blinding * H; both modulo the group's order.

    Zero, the commonest value, takes as long as any other: what is multiplied is value + 1.
    """
    found = edwards.add(edwards.times_base(value + 1), _LESS_BASE)
    return edwards.add(found, times(blinding, BLINDING_BASE))


def prove(
    transcript: Transcript,
    commitments: Sequence[bytes],
    values: Sequence[int],
    blindings: Sequence[int],
    bits: int,
    secret: bytes,
) -> RangeProof:
    """Show that every value lies in [0, 2**bits).

    Args:
        transcript: holds all else that the proof is bound to.
        commitments: to the values, with these blindings.
        values: as many as a power of two.
        blindings: modulo the group's order.
        bits: of a value, one of BITS.
        secret: fresh, see `Transcript.draws`.

    Raises:
        ValueError: a value lies outside the range, or there are too many.
    """
    size = _size(bits, len(values))
    if any(not 0 <= value < 1 << bits for value in values) or len(values) != len(blindings):
        raise ValueError("a value lies outside the range to be proven")
    _begin(transcript, bits, commitments)
    witness = secret + b"".join(
        to_bytes(number) for pair in zip(values, blindings, strict=True) for number in pair
    )
    alpha, rho, tau1, tau2, *noise = transcript.draws(witness, 4 + 2 * size)
    noise_left, noise_right = noise[:size], noise[size:]
    left_bases, right_bases = _bases(size)
    ones = [value >> at & 1 for value in values for at in range(bits)]
    less = [bit - 1 for bit in ones]
    a = times(alpha, BLINDING_BASE)
    for bit, choice in zip(ones, _choices(size), strict=True):  # as long for every value: one point a bit
        a = edwards.add(a, choice[bit])
    s = combine([(rho, BLINDING_BASE), *_pairs(noise_left, left_bases), *_pairs(noise_right, right_bases)])
    y, z = _first(transcript, a, s)

    powers, shifts = _powers(y, size), _shifts(z, bits, len(values))
    left0 = [bit - z for bit in ones]
    right0 = [power * (bit + z) + shift for power, bit, shift in zip(powers, less, shifts, strict=True)]
    right1 = [power * word for power, word in zip(powers, noise_right, strict=True)]
    middle = _inner(left0, right1) + _inner(noise_left, right0)
    t1, t2 = commit(middle, tau1), commit(_inner(noise_left, right1), tau2)
    x = _second(transcript, t1, t2)

    left = [(zero + x * one) % ORDER for zero, one in zip(left0, noise_left, strict=True)]
    right = [(zero + x * one) % ORDER for zero, one in zip(right0, right1, strict=True)]
    weights = [pow(z, 2 + number, ORDER) for number in range(len(values))]
    taux = (tau2 * x * x + tau1 * x + _inner(weights, blindings)) % ORDER
    mu, product = (alpha + rho * x) % ORDER, _inner(left, right)
    base = times(_third(transcript, taux, mu, product), _PRODUCT_BASE)
    inverse = _powers(pow(y, -1, ORDER), size)
    turned = [times(factor, one) for factor, one in zip(inverse, right_bases, strict=True)]
    rounds, end_left, end_right = _fold(transcript, left, right, list(left_bases), turned, base)
    return RangeProof(a, s, t1, t2, taux, mu, product, rounds, end_left, end_right)


def verify(transcript: Transcript, commitments: Sequence[bytes], bits: int, proof: RangeProof) -> None:
    """Check a proof about the values in `commitments`.

    Args:
        transcript: as the prover's was before it began.
        commitments: points of prime order, already checked.
        bits: of a value.
        proof: decoded.

    Raises:
        ProofRefused: naming the check that failed.
    """
    size = _size(bits, len(commitments))
    if len(proof.rounds) != _rounds(size):
        raise ProofRefused("length", "a proof about another number of bits")
    try:
        halves = [half for pair in proof.rounds for half in pair]
        for element in (proof.a, proof.s, proof.t1, proof.t2, *halves):
            point(element)
    except MalformedObject as error:
        raise ProofRefused("point", str(error)) from error
    _begin(transcript, bits, commitments)
    y, z = _first(transcript, proof.a, proof.s)
    x = _second(transcript, proof.t1, proof.t2)
    w = _third(transcript, proof.taux, proof.mu, proof.product)
    halvings = [_halving(transcript, one, other) for one, other in proof.rounds]
    powers, shifts = _powers(y, size), _shifts(z, bits, len(commitments))

    # The product is the one that the commitments ask for (paper: equation 65, generalised in 4.3).
    weights = [pow(z, 2 + number, ORDER) for number in range(len(commitments))]
    constant = (z - z * z) * sum(powers) - z * sum(weights) * ((1 << bits) - 1)
    asked = [(constant - proof.product, BASE), (-proof.taux, BLINDING_BASE), (x, proof.t1), (x * x, proof.t2)]
    if combine([*asked, *zip(weights, commitments, strict=True)]) != IDENTITY:
        raise ProofRefused("polynomial", "the product does not belong to the commitments")

    # The vectors have this product (paper: equations 66 to 68, and the argument of section 3 unrolled).
    left_bases, right_bases = _bases(size)
    left, right = _unfolded(halvings, size)
    inverse = _powers(pow(y, -1, ORDER), size)
    terms = [(1, proof.a), (x, proof.s), (-proof.mu, BLINDING_BASE)]
    terms += [(-z - proof.left * factor, base) for factor, base in zip(left, left_bases, strict=True)]
    terms += [
        (z + turn * (shift - proof.right * factor), base)
        for factor, turn, shift, base in zip(right, inverse, shifts, right_bases, strict=True)
    ]
    terms.append((w * (proof.product - proof.left * proof.right), _PRODUCT_BASE))
    for u, (one, other) in zip(halvings, proof.rounds, strict=True):
        terms += [(pow(u, -1, ORDER), one), (u, other)]
    if combine(terms) != IDENTITY:
        raise ProofRefused("product", "the vectors do not have the product")


# -- the challenges, in their order ----------------------------------------------------------------------


def _begin(transcript: Transcript, bits: int, commitments: Sequence[bytes]) -> None:
    transcript.absorb("range", bits.to_bytes(2, "big"), *commitments)


def _first(transcript: Transcript, a: bytes, s: bytes) -> tuple[int, int]:
    transcript.absorb("A S", a, s)
    return _drawn(transcript, "y"), _drawn(transcript, "z")


def _second(transcript: Transcript, t1: bytes, t2: bytes) -> int:
    transcript.absorb("T", t1, t2)
    return _drawn(transcript, "x")


def _third(transcript: Transcript, taux: int, mu: int, product: int) -> int:
    transcript.absorb("product", to_bytes(taux), to_bytes(mu), to_bytes(product))
    return _drawn(transcript, "w")


def _halving(transcript: Transcript, left: bytes, right: bytes) -> int:
    transcript.absorb("L R", left, right)
    return _drawn(transcript, "u")


def _drawn(transcript: Transcript, label: str) -> int:
    if not (found := transcript.challenge(label)):
        raise ProofRefused("challenge", "a challenge is zero")
    return found


# -- vectors ---------------------------------------------------------------------------------------------


def _fold(
    transcript: Transcript,
    left: list[int],
    right: list[int],
    ups: list[bytes],
    downs: list[bytes],
    base: bytes,
) -> tuple[tuple[tuple[bytes, bytes], ...], int, int]:
    """Halve both vectors until one number of each is left."""
    rounds = []
    while len(left) > 1:
        half = len(left) // 2
        (left_lo, left_hi), (right_lo, right_hi) = _cut(left, half), _cut(right, half)
        (ups_lo, ups_hi), (downs_lo, downs_hi) = (ups[:half], ups[half:]), (downs[:half], downs[half:])
        cross = (_inner(left_lo, right_hi), base)
        one = combine([*_pairs(left_lo, ups_hi), *_pairs(right_hi, downs_lo), cross])
        cross = (_inner(left_hi, right_lo), base)
        other = combine([*_pairs(left_hi, ups_lo), *_pairs(right_lo, downs_hi), cross])
        u = _halving(transcript, one, other)
        back = pow(u, -1, ORDER)
        left = [(low + u * high) % ORDER for low, high in zip(left_lo, left_hi, strict=True)]
        right = [(low + back * high) % ORDER for low, high in zip(right_lo, right_hi, strict=True)]
        ups = [edwards.add(low, times(back, high)) for low, high in zip(ups_lo, ups_hi, strict=True)]
        downs = [edwards.add(low, times(u, high)) for low, high in zip(downs_lo, downs_hi, strict=True)]
        rounds.append((one, other))
    return tuple(rounds), left[0], right[0]


def _unfolded(halvings: Sequence[int], size: int) -> tuple[list[int], list[int]]:
    """Return with what factor each base is in the last one of `_fold`: u^-1 for every upper half, and u."""
    left = [1]
    for u in halvings:
        back = pow(u, -1, ORDER)
        left = [factor * side % ORDER for factor in left for side in (1, back)]
    right = [1]
    for u in halvings:
        right = [factor * side % ORDER for factor in right for side in (1, u)]
    assert len(left) == size
    return left, right


def _cut(vector: list[int], half: int) -> tuple[list[int], list[int]]:
    return vector[:half], vector[half:]


def _pairs(scalars: Sequence[int], points: Sequence[bytes]) -> list[tuple[int, bytes]]:
    return list(zip(scalars, points, strict=True))


def _inner(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(left, right, strict=True)) % ORDER


def _powers(base: int, count: int) -> list[int]:
    """Return base^0 .. base^(count - 1)."""
    found = [1]
    while len(found) < count:
        found.append(found[-1] * base % ORDER)
    return found


def _shifts(z: int, bits: int, values: int) -> list[int]:
    """Return z^(2 + j) * 2^i for bit i of value j."""
    return [pow(z, 2 + number, ORDER) * (1 << at) % ORDER for number in range(values) for at in range(bits)]


def _size(bits: int, values: int) -> int:
    size = bits * values
    if bits not in BITS or values < 1 or values & (values - 1) or size > MAX_SIZE:
        raise ValueError(f"{values} values of {bits} bits cannot be proven at once")
    return size


def _rounds(size: int) -> int:
    return size.bit_length() - 1
