"""edwards25519 in plain integers, after RFC 8032, section 5.1: a second opinion on points, slow and obvious.

Shares nothing with the product or libsodium: extended coordinates, double and add. Also the
map from 32 bytes to a point (Elligator 2, as in RFC 9380, section 6.7.1 and appendix D.1, then times 8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
ZERO: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    return _affine(_add(_extended(a), _extended(b)))


def times(scalar: int, point: Point) -> Point:
    return total([(scalar, point)])


def total(terms: Iterable[tuple[int, Point]]) -> Point:
    found = _extended(ZERO)
    for scalar, point in terms:
        found = _add(found, _times(scalar % (8 * L), _extended(point)))
    return _affine(found)


_Extended = tuple[int, int, int, int]


def _extended(point: Point) -> _Extended:
    x, y = point
    return x, y, 1, x * y % P


def _affine(point: _Extended) -> Point:
    x, y, z, _ = point
    back = pow(z, -1, P)
    return x * back % P, y * back % P


def _add(one: _Extended, other: _Extended) -> _Extended:
    """RFC 8032, section 5.1.4."""
    (x1, y1, z1, t1), (x2, y2, z2, t2) = one, other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(scalar: int, point: _Extended) -> _Extended:
    found = _extended(ZERO)
    while scalar:
        if scalar & 1:
            found = _add(found, point)
        point, scalar = _add(point, point), scalar >> 1
    return found


def decode(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    assert y < P, "not canonical"
    x = root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
    assert not (x == 0 and sign), "not canonical"
    return (x if x & 1 == sign else P - x), y


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def root(square: int) -> int:
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    assert (x * x - square) % P == 0, "not a square"
    return x


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
_A = 486662


def mapped(data: bytes) -> Point:
    """Elligator 2 on curve25519 with the non-square 2, then edwards25519; the sign of x is the top bit."""
    number = int.from_bytes(data, "little")
    sign, r = number >> 255, number & ((1 << 255) - 1)
    u = -_A * pow(1 + 2 * r * r, -1, P) % P
    square = u * (u * u + _A * u + 1) % P
    if pow(square, (P - 1) // 2, P) == P - 1:
        u = (-u - _A) % P
        square = u * (u * u + _A * u + 1) % P
    v = root(square)
    scale = root(-(_A + 2) % P)
    x, y = scale * u * pow(v, -1, P) % P, (u - 1) * pow(u + 1, -1, P) % P
    if x & 1 != sign:
        x = P - x
    assert (-x * x + y * y - 1 - D * x * x * y * y) % P == 0
    return times(8, (x, y))


# -- the transcript and the check of a range proof, written down again ------------------------------------


class Hashes:
    """The transcript of V-mode as docs/dcnet.md says it."""

    def __init__(self, purpose: str) -> None:
        self.state = hashlib.sha512(b"smgw-dc/1 V-mode").digest()
        self.take("purpose", purpose.encode())

    def take(self, label: str, *items: bytes) -> None:
        said = self.state + len(items).to_bytes(4, "big")
        for item in (label.encode(), *items):
            said += len(item).to_bytes(4, "big") + item
        self.state = hashlib.sha512(said).digest()

    def number(self, label: str) -> int:
        self.take("challenge", label.encode())
        return int.from_bytes(hashlib.sha512(self.state + b"\x01").digest(), "little") % L


def base_of(name: bytes) -> Point:
    return mapped(hashlib.sha256(b"smgw-dc/1 V-mode " + name).digest())


def proves(hashes: Hashes, commitments: Sequence[bytes], bits: int, proof: bytes) -> bool:
    """Check a proof as the paper says it: two equations, and the bases folded round by round."""
    words = [proof[at : at + 32] for at in range(0, len(proof), 32)]
    size = bits * len(commitments)
    a, s, t1, t2 = (decode(word) for word in words[:4])
    taux, mu, product = (int.from_bytes(word, "little") for word in words[4:7])
    halves, ends = words[7:-2], [int.from_bytes(word, "little") for word in words[-2:]]
    hashes.take("range", bits.to_bytes(2, "big"), *commitments)
    hashes.take("A S", words[0], words[1])
    y, z = hashes.number("y"), hashes.number("z")
    hashes.take("T", words[2], words[3])
    x = hashes.number("x")
    hashes.take("product", *words[4:7])
    w = hashes.number("w")
    h, u_base = base_of(b"H"), times(w, base_of(b"U"))

    delta = (z - z * z) * sum(pow(y, i, L) for i in range(size))
    delta -= sum(pow(z, 3 + j, L) * (2**bits - 1) for j in range(len(commitments)))
    asked = [(pow(z, 2 + j, L), decode(one)) for j, one in enumerate(commitments)]
    if total([(product, BASE), (taux, h)]) != total([*asked, (delta, BASE), (x, t1), (x * x, t2)]):
        return False

    ups = [base_of(b"G" + i.to_bytes(4, "big")) for i in range(size)]
    downs = [times(pow(y, -i, L), base_of(b"K" + i.to_bytes(4, "big"))) for i in range(size)]
    point = total([(1, a), (x, s), (-mu % (8 * L), h), (product, u_base)])
    for i in range(size):
        j, bit = divmod(i, bits)
        factor = z * pow(y, i, L) + pow(z, 2 + j, L) * 2**bit
        point = add(point, total([(-z % L, ups[i]), (factor % L, downs[i])]))
    for left, right in zip(halves[::2], halves[1::2], strict=True):
        hashes.take("L R", left, right)
        u = hashes.number("u")
        back, half = pow(u, -1, L), len(ups) // 2
        ups = [add(low, times(back, high)) for low, high in zip(ups[:half], ups[half:], strict=True)]
        downs = [add(low, times(u, high)) for low, high in zip(downs[:half], downs[half:], strict=True)]
        point = total([(1, point), (back, decode(left)), (u, decode(right))])
    assert len(ups) == 1
    return point == total([(ends[0], ups[0]), (ends[1], downs[0]), (ends[0] * ends[1], u_base)])
