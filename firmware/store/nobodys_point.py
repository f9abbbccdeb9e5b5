"""A point of a curve whose logarithm nobody knows. No I/O, no randomness.

A module that multiplies it by a private key gives what nobody else can compute, although everybody knows the
point and the public key: who could would solve the computational Diffie-Hellman problem. The module's own
public key would do as well, but modules refuse to agree with themselves.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.api import Curve, PublicKey

_DOMAIN: Final = b"smgw store own 1"
_CURVES: Final[dict[Curve, ec.EllipticCurve]] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
_TRIES: Final = 256
"""Each one hits with a probability of about a half."""


def nobodys_point(key: PublicKey) -> bytes:
    """Return the uncompressed point that belongs to a public key: a hash that happens to be an x-coordinate.

    Raises:
        ValueError: `key.point` is of no form that leads to a point; happens for no key.
    """
    named = _DOMAIN + key.curve.value.encode() + b"\0" + key.point
    for number in range(_TRIES):
        x = hashlib.shake_256(named + number.to_bytes(2, "big")).digest(key.curve.field_bytes)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[key.curve], b"\2" + x)
        except ValueError:  # no point has it
            continue
        return point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise ValueError("no hash is an x-coordinate of this curve")
