"""The CPU's own random generator (libcrypto), for its PACE keys and for what TLS draws besides a hello."""

from __future__ import annotations

from ctypes import c_char_p, c_int, create_string_buffer

from hsm import libcrypto
from hsm.errors import ModuleFailed

_lib = libcrypto.crypto({"RAND_priv_bytes": (c_int, c_char_p, c_int)})


def host_random(count: int) -> bytes:
    """Return `count` random bytes.

    PACE keys cannot come from the module: before PACE its random numbers would cross the link in the clear.

    Raises:
        ModuleFailed: the generator does not work.
    """
    buffer = create_string_buffer(count)
    if _lib.RAND_priv_bytes(buffer, count) != 1:
        raise ModuleFailed(f"the CPU's random generator failed: {libcrypto.drain_errors()}")
    return buffer.raw
