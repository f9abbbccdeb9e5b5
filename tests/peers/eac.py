"""libeac (OpenPACE, GPL-3) through ctypes: an independent PACE and secure messaging, in tests only.

Debian's package `libeac3`; nothing of the product loads it, and nothing of ours is loaded here. Both roles
share the calls of one context. As a program, `python tests/peers/eac.py ROUNDS` prints the median in
milliseconds of PACE between libeac and libeac, the reference of `smgw bench hsm`; status 3: the library is
not installed.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_ulong, c_void_p
from statistics import median
from time import perf_counter
from typing import Any

_PIN = 3
# SecurityInfos: PACE with ECDH, generic mapping and AES-128 on brainpoolP256r1.
_ACCESS = bytes.fromhex("31143012060a04007f0007020204020202010202010d")
_MISSING = 3


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


class Eac:
    """One side of one PACE run, and of the secure messaging after it."""

    def __init__(self, access: bytes, pin: bytes) -> None:
        """Begin; `access` is the card's EF.CardAccess, whose first PACEInfo is taken."""
        self._lib = library()
        self._kept: list[object] = []
        self._context = self._true(self._lib.EAC_CTX_new())
        self._true(self._lib.EAC_CTX_init_ef_cardaccess(access, len(access), self._context))
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
    """The library, loaded once; OSError where it is not installed."""
    if not _CACHE:
        _CACHE.append(load())
    return _CACHE[0]


def _pace() -> float:
    """One PACE, both ends libeac; seconds."""
    card, terminal = (Eac(_ACCESS, b"1234567890") for _ in range(2))
    try:
        started = perf_counter()
        terminal.take_nonce(card.nonce())
        mappings = card.mapping(), terminal.mapping()
        card.map(mappings[1])
        terminal.map(mappings[0])
        points = card.ephemeral(), terminal.ephemeral()
        card.agree(points[1])
        terminal.agree(points[0])
        tokens = card.token(), terminal.token()
        agreed = card.check(tokens[1]) and terminal.check(tokens[0])
        spent = perf_counter() - started
    finally:
        card.close()
        terminal.close()
    if not agreed:
        raise RuntimeError("libeac does not agree with libeac")
    return spent


def main() -> None:
    """Measure and print."""
    try:
        library()
    except OSError:
        sys.exit(_MISSING)
    _pace()
    print(1000 * median(_pace() for _ in range(int(sys.argv[1]))))  # the parent reads it


if __name__ == "__main__":
    main()
