"""Points of libsodium's Edwards curve (edwards25519): only members of the group of prime order count.

The one module that loads PyNaCl; it is imported by nothing that runs before V-mode is ordered. The cofactor
is dealt with at the edge: `point` takes a received point only if it is canonical, on the curve, of prime
order and not the identity, and points made here are in that group by construction. Spec: docs/dcnet.md,
V-mode; RFC 8032, section 5.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from nacl import bindings as sodium

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.primitives.scalars import ORDER, to_bytes

POINT_BYTES: Final = 32
IDENTITY: Final = b"\x01" + bytes(31)


def times_base(scalar: int) -> bytes:
    """Return scalar * G, G being the base point of RFC 8032."""
    if scalar % ORDER == 0:
        return IDENTITY
    return bytes(sodium.crypto_scalarmult_ed25519_base_noclamp(to_bytes(scalar)))


BASE: Final = times_base(1)


def point(data: bytes) -> bytes:
    """Take a point that came from outside.

    Raises:
        MalformedObject: not canonical, not on the curve, of small or mixed order, or the identity.
    """
    if len(data) != POINT_BYTES or not sodium.crypto_core_ed25519_is_valid_point(data):
        raise MalformedObject("not a point of prime order")
    return data


def hashed(label: bytes) -> bytes:
    """Return a point whose discrete logarithm nobody knows: libsodium's map of SHA-256(label).

    The map is Elligator 2 and a multiplication by the cofactor 8 (crypto_core_ed25519_from_uniform).
    """
    return bytes(sodium.crypto_core_ed25519_from_uniform(hashlib.sha256(label).digest()))


def times(scalar: int, element: bytes) -> bytes:
    """Return scalar * element; libsodium refuses zero, so that is said here."""
    if scalar % ORDER == 0 or element == IDENTITY:
        return IDENTITY
    if scalar % ORDER == 1:
        return element
    return bytes(sodium.crypto_scalarmult_ed25519_noclamp(to_bytes(scalar), element))


def add(left: bytes, right: bytes) -> bytes:
    """Return left + right."""
    return bytes(sodium.crypto_core_ed25519_add(left, right))


def combine(terms: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the sum of scalar * point over all terms; equal points are multiplied once."""
    gathered: dict[bytes, int] = {}
    for scalar, element in terms:
        gathered[element] = gathered.get(element, 0) + scalar
    found = times_base(gathered.pop(BASE, 0))
    for element, scalar in gathered.items():
        if scalar % ORDER:
            found = add(found, times(scalar, element))
    return found
