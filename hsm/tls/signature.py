"""Signature "ECDSA": the digest is made here, the signature by the module (provider-signature(7))."""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass
from typing import Any

from hsm.tls.dispatch import INT, PZ, Function, P, Registry, S, Z
from hsm.tls.keymgmt import signature_room
from hsm.tls.keys import HandleTable, Key, current
from hsm.tls.params import UTF8, ParamArray

_HASHES = {
    "SHA256": "sha256",
    "SHA2-256": "sha256",
    "SHA384": "sha384",
    "SHA2-384": "sha384",
    "SHA512": "sha512",
    "SHA2-512": "sha512",
}


@dataclass(slots=True)
class _Signing:
    key: Key | None = None
    digest: Any = None


class Signature:
    """Signing contexts that OpenSSL holds handles of."""

    def __init__(self, registry: Registry, keys: HandleTable[Key]) -> None:
        self._keys = keys
        self.signings: HandleTable[_Signing] = HandleTable()
        self._settable = registry.keep(ParamArray(("digest", UTF8, "")))

    def functions(self) -> list[Function]:
        """The dispatch table."""
        return [
            Function(1, self._new, P, (P, S)),
            Function(8, self._digest_sign_init, INT, (P, S, P, P)),
            Function(9, self._update, INT, (P, P, Z)),
            Function(10, self._final, INT, (P, P, PZ, Z)),
            Function(11, self._digest_sign, INT, (P, P, PZ, Z, P, Z)),
            Function(16, self._free, None, (P,)),
            Function(20, self._set_params, INT, (P, P)),
            Function(21, self._settable_params, P, (P, P)),
        ]

    def _new(self, _provider: int, _properties: bytes | None) -> int:
        return self.signings.put(_Signing())

    def _digest_sign_init(self, handle: int, name: bytes | None, key: int | None, _params: int) -> int:
        signing = self.signings[handle]
        if key:
            signing.key = self._keys[key]
        if signing.key is None or signing.key.curve is None:
            return 0
        wanted = name.decode("ascii").upper() if name else signing.key.curve.hash_name.upper()
        if wanted not in _HASHES:
            return 0
        signing.digest = hashlib.new(_HASHES[wanted])
        return 1

    def _update(self, handle: int, data: int, count: int) -> int:
        self.signings[handle].digest.update(ctypes.string_at(data, count))
        return 1

    def _final(self, handle: int, out: int | None, length: Any, room: int) -> int:
        signing = self.signings[handle]
        key = signing.key
        if key is None or key.curve is None or key.slot is None:
            return 0
        if not out:
            length[0] = signature_room(key.curve)
            return 1
        work = current()
        der = work.module.sign(key.slot, key.curve, signing.digest.digest())
        work.signed = True
        if len(der) > room:
            return 0
        ctypes.memmove(out, der, len(der))
        length[0] = len(der)
        return 1

    def _digest_sign(
        self, handle: int, out: int | None, length: Any, room: int, data: int, count: int
    ) -> int:
        if out:
            self._update(handle, data, count)
        return self._final(handle, out, length, room)

    def _free(self, handle: int | None) -> None:
        self.signings.pop(handle)

    def _set_params(self, _handle: int, _params: int) -> int:
        return 1

    def _settable_params(self, _handle: int, _provider: int) -> int:
        return int(self._settable.address)
