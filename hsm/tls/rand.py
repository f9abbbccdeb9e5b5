"""Random generator "SMGW-HELLO": the module's bytes in a hello, the CPU's elsewhere (provider-rand(7)).

BSI TR-03109-1 (detailed specifications 13.4) wants the ClientHello's randomness from the security module. A
handshake step finds the module's bytes in its `Work`, fetched before; whoever asks when they are used up, or
outside a step (ticket keys, explicit IVs, blinding), gets the CPU's, because a record cannot wait for a card.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from hsm import libcrypto
from hsm.host_random import host_random
from hsm.tls import params
from hsm.tls.dispatch import INT, Function, P, U, Z
from hsm.tls.keys import hello_bytes

NAME: Final = "SMGW-HELLO"
HELLO_BYTES: Final = 64
"""What a hello shows: its random and, in TLS 1.3, a session identifier without meaning (RFC 8446 D.4)."""
_READY: Final = 1  # EVP_RAND_STATE_READY
_STRENGTH_BITS: Final = 256
_MAX_REQUEST: Final = 1 << 16
# OpenSSL frees its contexts when a thread, or the process, ends, perhaps after Python has: so it gets a
# function of C that does nothing (and takes no argument, which no 64-bit calling convention minds).
_NOTHING: Final = ctypes.cast(libcrypto.crypto({"BIO_s_null": (P,)}).BIO_s_null, P).value


class Random:
    """Contexts have no state: all of them are the number 1."""

    def functions(self) -> list[Function]:
        """The dispatch table."""
        assert _NOTHING is not None
        return [
            Function(1, self._new, P, (P, P, P)),
            Function(2, _NOTHING, None, (P,)),
            Function(3, self._instantiate, INT, (P, U, INT, P, Z, P)),
            Function(4, self._yes, INT, (P,)),
            Function(5, self._generate, INT, (P, P, Z, U, INT, P, Z)),
            Function(8, self._yes, INT, (P,)),
            Function(15, self._get_params, INT, (P, P)),
        ]

    def _new(self, _provider: int, _parent: int | None, _parent_calls: int | None) -> int:
        return 1

    def _instantiate(self, *_arguments: Any) -> int:
        return 1

    def _yes(self, _handle: int) -> int:
        return 1  # nothing to undo, and nothing that needs a lock

    def _generate(self, _handle: int, out: int, count: int, *_arguments: Any) -> int:
        drawn = hello_bytes(count)
        if len(drawn) < count:
            drawn += host_random(count - len(drawn))
        ctypes.memmove(out, drawn, count)
        return 1

    def _get_params(self, _handle: int, wanted: int) -> int:
        known = {"state": _READY, "strength": _STRENGTH_BITS, "max_request": _MAX_REQUEST}
        return int(all(params.store(param, known[key]) for key, param in params.walk(wanted) if key in known))
