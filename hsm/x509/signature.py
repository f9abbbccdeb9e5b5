"""ECDSA signatures: the module's plain form, the DER form of certificates and TLS; verification. No keys."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from hsm.api import Curve, PublicKey
from hsm.errors import MalformedSignature

_CURVES: Final[dict[Curve, ec.EllipticCurve]] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    32: hashes.SHA256(),
    48: hashes.SHA384(),
    64: hashes.SHA512(),
}


def plain_to_der(plain: bytes, curve: Curve) -> bytes:
    """Turn r | s into an ECDSA-Sig-Value.

    Raises:
        MalformedSignature: not twice the order's length, or r or s is zero.
    Spec: BSI TR-03111 v2.1, 5.2.1 and 5.2.2.
    """
    size = curve.field_bytes
    if len(plain) != 2 * size:
        raise MalformedSignature(f"plain signature of {len(plain)} bytes on {curve.value}")
    body = _integer(plain[:size]) + _integer(plain[size:])
    return b"\x30" + _length(len(body)) + body


def der_to_plain(der: bytes, curve: Curve) -> bytes:
    """Turn an ECDSA-Sig-Value into r | s; only the one DER form of a signature is taken.

    Raises:
        MalformedSignature: not DER, not two positive integers, or one too long for the curve.
    """
    size = curve.field_bytes
    numbers, rest = _take(der, 0x30)
    if rest:
        raise MalformedSignature("bytes after the signature")
    r, numbers = _take(numbers, 0x02)
    s, rest = _take(numbers, 0x02)
    r, s = r.removeprefix(b"\0"), s.removeprefix(b"\0")
    if rest or len(r) > size or len(s) > size:
        raise MalformedSignature("signature does not fit its curve")
    plain = r.rjust(size, b"\0") + s.rjust(size, b"\0")
    if plain_to_der(plain, curve) != der:
        raise MalformedSignature("signature is not DER")
    return plain


def verify(public_key: PublicKey, digest: bytes, signature_plain: bytes) -> bool:
    """Say whether r | s is the signature of a SHA-256, -384 or -512 digest under a public key.

    A point that is not on its curve verifies nothing. `ValueError` for another digest length: that is
    a mistake of the caller.
    """
    if len(digest) not in _HASHES:
        raise ValueError(f"no hash has {len(digest)} bytes")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[public_key.curve], public_key.point)
        der = plain_to_der(signature_plain, public_key.curve)
    except (ValueError, MalformedSignature):
        return False
    try:
        key.verify(der, digest, ec.ECDSA(Prehashed(_HASHES[len(digest)])))
    except InvalidSignature:
        return False
    return True


def _length(count: int) -> bytes:
    return bytes([count]) if count < 0x80 else bytes([0x81, count])


def _integer(field: bytes) -> bytes:
    digits = field.lstrip(b"\0")
    if not digits:
        raise MalformedSignature("a signature half is zero")
    if digits[0] & 0x80:
        digits = b"\0" + digits
    return b"\x02" + _length(len(digits)) + digits


def _take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Cut one element off; lengths up to 255, which is all a signature needs."""
    if len(data) < 2 or data[0] != tag:
        raise MalformedSignature("signature is not DER")
    header, length = (3, data[2]) if data[1] == 0x81 and len(data) > 2 else (2, data[1])
    if (length >= 0x80 and header == 2) or len(data) < header + length:
        raise MalformedSignature("signature is not DER")
    return data[header : header + length], data[header + length :]
