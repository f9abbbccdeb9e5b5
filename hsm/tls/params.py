"""OSSL_PARAM arrays: how OpenSSL 3 passes named values between itself and a provider."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

INTEGER, UNSIGNED, UTF8, OCTETS = 1, 2, 4, 5
"""OSSL_PARAM data types (openssl/core.h)."""
_UNMODIFIED = ctypes.c_size_t(-1).value
_INT_BYTES = 4

Value = int | str | bytes


class Param(ctypes.Structure):
    """OSSL_PARAM."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("type", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("returned", ctypes.c_size_t),
    )


class ParamArray:
    """An OSSL_PARAM array of our own; it lives as long as this object."""

    def __init__(self, *items: tuple[str, int, Value]) -> None:
        self._array = (Param * (len(items) + 1))()
        self._buffers = []
        for param, (key, kind, value) in zip(self._array, items, strict=False):
            raw = _encode(value, kind, _INT_BYTES)
            buffer = ctypes.create_string_buffer(raw, len(raw) + 1)
            self._buffers.append(buffer)
            param.key, param.type = key.encode(), kind
            param.data, param.size = ctypes.addressof(buffer), len(raw)
            param.returned = _UNMODIFIED

    @property
    def address(self) -> int:
        """What C calls `OSSL_PARAM *`."""
        return ctypes.addressof(self._array)


def walk(address: int | None) -> Iterator[tuple[str, Param]]:
    """Go through an OSSL_PARAM array of OpenSSL's; NULL is an empty one."""
    while address:
        param = Param.from_address(address)
        if param.key is None:
            return
        yield param.key.decode("ascii"), param
        address += ctypes.sizeof(Param)


def text(param: Param) -> str:
    """The value of a UTF-8 parameter."""
    return octets(param).split(b"\0")[0].decode("utf-8")


def octets(param: Param) -> bytes:
    """The value of an octet string parameter."""
    return ctypes.string_at(param.data, param.size) if param.data else b""


def store(param: Param, value: Value) -> bool:
    """Answer a request for a parameter; False if OpenSSL's buffer is too small."""
    raw = _encode(value, param.type, param.size or _INT_BYTES)
    param.returned = len(raw)
    if not param.data:
        return True  # only the length is asked for
    if param.size < len(raw):
        return False
    if isinstance(value, str) and param.size > len(raw):
        raw += b"\0"
    ctypes.memmove(param.data, raw, len(raw))
    return True


def _encode(value: Value, kind: int, int_bytes: int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(int_bytes, sys.byteorder, signed=kind == INTEGER)
    return value.encode() if isinstance(value, str) else value
