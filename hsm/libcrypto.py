"""The distribution's libcrypto and libssl, loaded once. Each user declares the prototypes it needs.

The libraries of the distribution are taken, not those inside a wheel: TLS with keys in the module and
point arithmetic need calls that no wheel exports.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

# RTLD_DEEPBIND: a Python with OpenSSL linked in statically must not capture libssl's references.
_MODE = os.RTLD_LOCAL | os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0)
_SONAMES = (("libcrypto.so.3", "libssl.so.3"), ("libcrypto.so.4", "libssl.so.4"))

Prototypes = Mapping[str, tuple[Any, ...]]
"""Function name -> (result type, argument types...)."""


def _pairs() -> tuple[tuple[str, str], ...]:
    """Library files to try: SMGW_OPENSSL="/path/libcrypto.so.X:/path/libssl.so.X" wins."""
    if named := os.environ.get("SMGW_OPENSSL"):
        crypto, ssl = named.split(":")
        return ((crypto, ssl),)
    return _SONAMES


def _load() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    reasons = []
    for crypto, ssl in _pairs():
        try:
            return ctypes.CDLL(crypto, _MODE), ctypes.CDLL(ssl, _MODE)
        except OSError as error:
            reasons.append(str(error))
    raise ImportError("no usable OpenSSL 3 or 4 on this system: " + "; ".join(reasons))


_CRYPTO, _SSL = _load()


def _declare(library: ctypes.CDLL, prototypes: Prototypes) -> Any:
    bound = SimpleNamespace()
    for name, (result, *arguments) in prototypes.items():
        # Indexing gives each caller a function object of its own, so that prototypes never clash.
        function = library[name]
        function.restype, function.argtypes = result, arguments
        setattr(bound, name, function)
    return bound


def crypto(prototypes: Prototypes) -> Any:
    """Bind functions of libcrypto."""
    return _declare(_CRYPTO, prototypes)


def ssl(prototypes: Prototypes) -> Any:
    """Bind functions of libssl."""
    return _declare(_SSL, prototypes)


_lib = crypto(
    {
        "OpenSSL_version_num": (ctypes.c_ulong,),
        "ERR_get_error": (ctypes.c_ulong,),
        "ERR_error_string_n": (None, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_size_t),
    }
)


def version() -> tuple[int, int, int]:
    """The loaded library's version, e.g. (3, 0, 19)."""
    number = int(_lib.OpenSSL_version_num())
    return number >> 28, number >> 20 & 0xFF, number >> 4 & 0xFFFF


def drain_errors() -> str:
    """Empty OpenSSL's error queue of this thread and return it as one line."""
    lines = []
    buffer = ctypes.create_string_buffer(256)
    while code := _lib.ERR_get_error():
        _lib.ERR_error_string_n(code, buffer, len(buffer))
        lines.append(buffer.value.decode("ascii", "replace"))
    return "; ".join(lines)
