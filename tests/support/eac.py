"""libeac (OpenPACE, GPL-3) through ctypes: an independent PACE and secure messaging, in tests only.

Debian's package `libeac3`; nothing of the product loads it. Both roles share the calls of one context.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_ulong, c_void_p
from typing import Any

from hsm.api import Curve
from hsm.profile import DOMAIN_IDS
from hsm.suites import Suite

_PIN = 3


class _Buffer(ctypes.Structure):
    """BUF_MEM."""

    _fields_ = (("length", c_size_t), ("data", POINTER(c_ubyte)), ("max", c_size_t), ("flags", c_ulong))


_Pointer = POINTER(_Buffer)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "EAC_init": (None,),
    "EAC_CTX_new": (c_void_p,),
    "EAC_CTX_clear_free": (None, c_void_p),
    "EAC_CTX_init_ef_cardaccess": (c_int, c_char_p, c_size_t, c_void_p),
    "PACE_SEC_new": (c_void_p, c_char_p, c_size_t, c_int),
    "PACE_SEC_clear_free": (None, c_void_p),
    "PACE_STEP1_enc_nonce": (_Pointer, c_void_p, c_void_p),
    "PACE_STEP2_dec_nonce": (c_int, c_void_p, c_void_p, _Pointer),
    "PACE_STEP3A_generate_mapping_data": (_Pointer, c_void_p),
    "PACE_STEP3A_map_generator": (c_int, c_void_p, _Pointer),
    "PACE_STEP3B_generate_ephemeral_key": (_Pointer, c_void_p),
    "PACE_STEP3B_compute_shared_secret": (c_int, c_void_p, _Pointer),
    "PACE_STEP3C_derive_keys": (c_int, c_void_p),
    "PACE_STEP3D_compute_authentication_token": (_Pointer, c_void_p, _Pointer),
    "PACE_STEP3D_verify_authentication_token": (c_int, c_void_p, _Pointer),
    "EAC_CTX_set_encryption_ctx": (c_int, c_void_p, c_int),
    "EAC_increment_ssc": (c_int, c_void_p),
    "EAC_encrypt": (_Pointer, c_void_p, _Pointer),
    "EAC_decrypt": (_Pointer, c_void_p, _Pointer),
    "EAC_authenticate": (_Pointer, c_void_p, _Pointer),
}


def load() -> Any:
    """The library; OSError where it is not installed."""
    library = ctypes.CDLL("libeac.so.3")
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.EAC_init()
    return library


def card_access(suite: Suite, curve: Curve) -> bytes:
    """SecurityInfos with one PACEInfo, version 2."""
    inner = b"\x06\x0a" + suite.oid + b"\x02\x01\x02\x02\x01" + bytes((DOMAIN_IDS[curve],))
    info = b"\x30" + bytes((len(inner),)) + inner
    return b"\x31" + bytes((len(info),)) + info


class Eac:
    """One side of one PACE run, and of the secure messaging after it."""

    def __init__(self, suite: Suite, curve: Curve, pin: bytes) -> None:
        self._lib = library()
        self._kept: list[object] = []
        self._context = self._true(self._lib.EAC_CTX_new())
        info = card_access(suite, curve)
        self._true(self._lib.EAC_CTX_init_ef_cardaccess(info, len(info), self._context))
        self._secret = self._true(self._lib.PACE_SEC_new(pin, len(pin), _PIN))
        self.peer = b""

    @staticmethod
    def _true(result: Any) -> Any:
        if not result:
            raise ValueError("libeac refuses")
        return result

    def _in(self, data: bytes) -> Any:
        array = (c_ubyte * max(1, len(data))).from_buffer_copy(data or b"\x00")
        buffer = _Buffer(len(data), ctypes.cast(array, POINTER(c_ubyte)), len(data), 0)
        self._kept = [array, buffer]
        return ctypes.byref(buffer)

    def _out(self, buffer: Any) -> bytes:
        content = self._true(buffer).contents
        return bytes(content.data[: content.length])

    def nonce(self) -> bytes:
        """Card: the encrypted nonce."""
        return self._out(self._lib.PACE_STEP1_enc_nonce(self._context, self._secret))

    def take_nonce(self, cryptogram: bytes) -> None:
        """Terminal: decrypt the nonce."""
        self._true(self._lib.PACE_STEP2_dec_nonce(self._context, self._secret, self._in(cryptogram)))

    def mapping(self) -> bytes:
        """Own mapping point."""
        return self._out(self._lib.PACE_STEP3A_generate_mapping_data(self._context))

    def map(self, peer: bytes) -> None:
        """Map the generator with the peer's mapping point."""
        self._true(self._lib.PACE_STEP3A_map_generator(self._context, self._in(peer)))

    def ephemeral(self) -> bytes:
        """Own ephemeral point."""
        return self._out(self._lib.PACE_STEP3B_generate_ephemeral_key(self._context))

    def agree(self, peer: bytes) -> None:
        """Shared secret and session keys."""
        self.peer = peer
        self._true(self._lib.PACE_STEP3B_compute_shared_secret(self._context, self._in(peer)))
        self._true(self._lib.PACE_STEP3C_derive_keys(self._context))

    def token(self) -> bytes:
        """Own authentication token, over the peer's point."""
        compute = self._lib.PACE_STEP3D_compute_authentication_token
        return self._out(compute(self._context, self._in(self.peer)))

    def check(self, token: bytes) -> bool:
        """Check the peer's token."""
        return self._lib.PACE_STEP3D_verify_authentication_token(self._context, self._in(token)) == 1

    def start_messaging(self) -> None:
        """Use the PACE keys for secure messaging, SSC 0."""
        self._true(self._lib.EAC_CTX_set_encryption_ctx(self._context, 0))

    def step(self) -> None:
        """Count a command or a response."""
        self._true(self._lib.EAC_increment_ssc(self._context))

    def encrypt(self, padded: bytes) -> bytes:
        """AES-CBC with the SSC's IV."""
        return self._out(self._lib.EAC_encrypt(self._context, self._in(padded)))

    def decrypt(self, cryptogram: bytes) -> bytes:
        """Inverse of `encrypt`."""
        return self._out(self._lib.EAC_decrypt(self._context, self._in(cryptogram)))

    def authenticate(self, padded: bytes) -> bytes:
        """MAC of eight bytes; the SSC goes before the data."""
        return self._out(self._lib.EAC_authenticate(self._context, self._in(padded)))

    def close(self) -> None:
        """Free what libeac holds."""
        self._lib.PACE_SEC_clear_free(self._secret)
        self._lib.EAC_CTX_clear_free(self._context)


_CACHE: list[Any] = []


def library() -> Any:
    if not _CACHE:
        _CACHE.append(load())
    return _CACHE[0]
