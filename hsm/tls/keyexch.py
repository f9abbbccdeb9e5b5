"""Key exchange: the shared secret of an ephemeral key comes from the module (provider-keyexch(7))."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from hsm.errors import UnexpectedResponse
from hsm.tls.dispatch import INT, PZ, Function, P, Z
from hsm.tls.keys import HandleTable, Key, current


@dataclass(slots=True)
class _Exchange:
    key: Key | None = None
    peer_point: bytes | None = None


class KeyExchange:
    """ECDH contexts that OpenSSL holds handles of."""

    def __init__(self, keys: HandleTable[Key]) -> None:
        self._keys = keys
        self.exchanges: HandleTable[_Exchange] = HandleTable()

    def functions(self) -> list[Function]:
        """The dispatch table."""
        return [
            Function(1, self._new, P, (P,)),
            Function(2, self._init, INT, (P, P, P)),
            Function(3, self._derive, INT, (P, P, PZ, Z)),
            Function(4, self._set_peer, INT, (P, P)),
            Function(5, self._free, None, (P,)),
        ]

    def _new(self, _provider: int) -> int:
        return self.exchanges.put(_Exchange())

    def _init(self, handle: int, key: int, _params: int) -> int:
        self.exchanges[handle].key = self._keys[key]
        return 1

    def _set_peer(self, handle: int, key: int) -> int:
        self.exchanges[handle].peer_point = self._keys[key].point
        return 1

    def _derive(self, handle: int, out: int | None, length: Any, room: int) -> int:
        exchange = self.exchanges[handle]
        key, point = exchange.key, exchange.peer_point
        if key is None or key.curve is None or key.ephemeral is None or key.owner is None or point is None:
            return 0  # not an ephemeral key of the module, or one already used
        size = key.curve.field_bytes
        if out:
            if room < size:
                return 0
            key.owner = None  # used up, whatever the outcome
            secret = current().module.agree(key.ephemeral, point)
            if len(secret) != size:
                raise UnexpectedResponse(f"shared secret of {len(secret)} bytes on {key.curve.value}")
            ctypes.memmove(out, secret, size)
        length[0] = size
        return 1

    def _free(self, handle: int | None) -> None:
        self.exchanges.pop(handle)
