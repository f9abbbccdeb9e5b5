"""Elliptic curves: domain parameters and point arithmetic, all of it libcrypto's.

Points are uncompressed octets (04 | x | y), scalars are integers. Every point that comes in is checked: right
length and form, on the curve, not at infinity. Scalars are drawn by rejection (TR-03111 v2.1, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from functools import cache

from hsm import libcrypto
from hsm.api import Curve
from hsm.errors import ModuleFailed, PointRefused

_UNCOMPRESSED = 4
_BN_FLG_CONSTTIME = 4
_MAX_DRAWS = 128

_lib = libcrypto.crypto(
    {
        "OBJ_sn2nid": (c_int, c_char_p),
        "EC_GROUP_new_by_curve_name": (c_void_p, c_int),
        "EC_GROUP_get0_order": (c_void_p, c_void_p),
        "EC_GROUP_get0_generator": (c_void_p, c_void_p),
        "EC_POINT_new": (c_void_p, c_void_p),
        "EC_POINT_clear_free": (None, c_void_p),
        "EC_POINT_oct2point": (c_int, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p),
        "EC_POINT_point2oct": (c_size_t, c_void_p, c_void_p, c_int, c_char_p, c_size_t, c_void_p),
        "EC_POINT_mul": (c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
        "EC_POINT_add": (c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
        "EC_POINT_is_on_curve": (c_int, c_void_p, c_void_p, c_void_p),
        "EC_POINT_is_at_infinity": (c_int, c_void_p, c_void_p),
        "BN_bin2bn": (c_void_p, c_char_p, c_int, c_void_p),
        "BN_bn2bin": (c_int, c_void_p, c_char_p),
        "BN_set_flags": (None, c_void_p, c_int),
        "BN_clear_free": (None, c_void_p),
    }
)


@cache
def _group(curve: Curve) -> int:
    """The library's constant description of a curve; kept for the life of the process."""
    group = _lib.EC_GROUP_new_by_curve_name(_lib.OBJ_sn2nid(curve.value.encode()))
    if not group:
        raise ModuleFailed(f"this libcrypto has no {curve.value}: {libcrypto.drain_errors()}")
    return int(group)


@cache
def order(curve: Curve) -> int:
    """Order n of the base point (the cofactor is 1 on all five curves)."""
    buffer = create_string_buffer(curve.field_bytes)
    length = _lib.BN_bn2bin(_lib.EC_GROUP_get0_order(_group(curve)), buffer)
    return int.from_bytes(buffer.raw[:length], "big")


@cache
def generator(curve: Curve) -> bytes:
    """The standard base point."""
    return _encode(curve, _lib.EC_GROUP_get0_generator(_group(curve)))


@contextmanager
def _new_point(curve: Curve) -> Iterator[int]:
    point = _lib.EC_POINT_new(_group(curve))
    if not point:
        raise MemoryError("EC_POINT_new")
    try:
        yield point
    finally:
        _lib.EC_POINT_clear_free(point)


@contextmanager
def _number(value: int, length: int) -> Iterator[int]:
    number = _lib.BN_bin2bn(value.to_bytes(length, "big"), length, None)
    if not number:
        raise MemoryError("BN_bin2bn")
    _lib.BN_set_flags(number, _BN_FLG_CONSTTIME)
    try:
        yield number
    finally:
        _lib.BN_clear_free(number)


def _encode(curve: Curve, point: int) -> bytes:
    size = 2 * curve.field_bytes + 1
    buffer = create_string_buffer(size)
    if _lib.EC_POINT_point2oct(_group(curve), point, _UNCOMPRESSED, buffer, size, None) != size:
        libcrypto.drain_errors()
        raise PointRefused("the result is the point at infinity")
    return buffer.raw


def _decode(curve: Curve, octets: bytes, point: int) -> None:
    """Fill `point` from octets that are checked in every respect."""
    if len(octets) != 2 * curve.field_bytes + 1 or octets[0] != _UNCOMPRESSED:
        raise PointRefused("not an uncompressed point of this curve's length")
    group = _group(curve)
    if (
        not _lib.EC_POINT_oct2point(group, point, octets, len(octets), None)
        or _lib.EC_POINT_is_at_infinity(group, point)
        or _lib.EC_POINT_is_on_curve(group, point, None) != 1
    ):
        libcrypto.drain_errors()
        raise PointRefused("the point is not on the curve")


def check_point(curve: Curve, octets: bytes) -> None:
    """Raise `PointRefused` unless `octets` is a finite point of the curve, uncompressed."""
    with _new_point(curve) as point:
        _decode(curve, octets, point)


def multiply(curve: Curve, scalar: int, base: bytes | None = None) -> bytes:
    """Return scalar * base; the standard base point if `base` is None.

    Args:
        curve: where to compute.
        scalar: 0 < scalar < 2**(8 * field_bytes).
        base: another base point, e.g. a mapped generator.

    Raises:
        PointRefused: `base` is no good point, or the product is the point at infinity.
    """
    group = _group(curve)
    with (
        _number(scalar, curve.field_bytes) as number,
        _new_point(curve) as result,
        _new_point(curve) as point,
    ):
        if base is None:
            # A null point with the first scalar means the group's own generator.
            done = _lib.EC_POINT_mul(group, result, number, None, None, None)
        else:
            _decode(curve, base, point)
            done = _lib.EC_POINT_mul(group, result, None, point, number, None)
        if not done:
            raise ModuleFailed(f"EC_POINT_mul: {libcrypto.drain_errors()}")
        return _encode(curve, result)


def add(curve: Curve, left: bytes, right: bytes) -> bytes:
    """Return left + right.

    Raises:
        PointRefused: one of them is no good point, or the sum is the point at infinity.
    """
    with _new_point(curve) as result, _new_point(curve) as first, _new_point(curve) as second:
        _decode(curve, left, first)
        _decode(curve, right, second)
        if not _lib.EC_POINT_add(_group(curve), result, first, second, None):
            raise ModuleFailed(f"EC_POINT_add: {libcrypto.drain_errors()}")
        return _encode(curve, result)


def map_generator(curve: Curve, nonce: bytes, shared: bytes) -> bytes:
    """Generic mapping: G~ = s * G + H (TR-03110-3 v2.2, A.3.4.1).

    Raises:
        PointRefused: the result is no usable base point; draw again.
    """
    scalar = int.from_bytes(nonce, "big") % order(curve)
    if not scalar:
        raise PointRefused("the nonce is a multiple of the order")
    return add(curve, multiply(curve, scalar), shared)


def x_of(curve: Curve, point: bytes) -> bytes:
    """The x-coordinate at full field length, leading zeros kept."""
    return point[1 : 1 + curve.field_bytes]


def draw_scalar(curve: Curve, draw: Callable[[int], bytes]) -> int:
    """A secret scalar, uniform in 1..n-1, by rejection from `draw(count)`.

    Raises:
        ModuleFailed: the source delivers nothing usable; chance alone would need 2**-128.
    """
    limit = order(curve)
    # All five orders have as many bits as bytes * 8, so at least every second draw of these lengths fits.
    for _ in range(_MAX_DRAWS):
        candidate = int.from_bytes(draw(curve.field_bytes), "big")
        if 0 < candidate < limit:
            return candidate
    raise ModuleFailed("the random source does not deliver usable scalars")
