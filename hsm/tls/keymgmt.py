"""Key management "EC": a slot or an ephemeral reference beside a public point, never a private value.

Function numbers and signatures: OpenSSL 3, openssl/core_dispatch.h and provider-keymgmt(7).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

from hsm.api import Curve, KeySlot
from hsm.tls import params
from hsm.tls.dispatch import INT, Function, P, Registry
from hsm.tls.keys import HandleTable, Key, current

PRIVATE, PUBLIC, DOMAIN = 0x01, 0x02, 0x04
"""Selections: OSSL_KEYMGMT_SELECT_*."""
SLOT_PARAM = "smgw-slot"
"""The parameter by which `Provider.static_key` names a slot; nothing else knows it."""
KEYEXCH_NAME, SIGNATURE_NAME = "SMECDH", "ECDSA"
_OPERATION_KEYEXCH, _OPERATION_SIGNATURE = 11, 12
_SECURITY_BITS = {32: 128, 48: 192, 64: 256}


@dataclass(slots=True)
class _Generation:
    selection: int
    curve: Curve | None = None


class KeyManagement:
    """The keys that OpenSSL holds handles of."""

    def __init__(self, registry: Registry) -> None:
        self.keys: HandleTable[Key] = HandleTable()
        self._generations: HandleTable[_Generation] = HandleTable()
        self._settable = registry.keep(
            params.ParamArray(
                ("group", params.UTF8, ""),
                ("pub", params.OCTETS, b""),
                ("encoded-pub-key", params.OCTETS, b""),
                (SLOT_PARAM, params.UTF8, ""),
            )
        )
        self._gettable = registry.keep(
            params.ParamArray(
                ("bits", params.INTEGER, 0),
                ("security-bits", params.INTEGER, 0),
                ("max-size", params.INTEGER, 0),
                ("group", params.UTF8, ""),
                ("encoded-pub-key", params.OCTETS, b""),
                ("pub", params.OCTETS, b""),
            )
        )
        self._exported = registry.keep(
            params.ParamArray(("group", params.UTF8, ""), ("pub", params.OCTETS, b""))
        )
        self._operation_names = {
            _OPERATION_KEYEXCH: registry.keep(ctypes.create_string_buffer(KEYEXCH_NAME.encode())),
            _OPERATION_SIGNATURE: registry.keep(ctypes.create_string_buffer(SIGNATURE_NAME.encode())),
        }

    def functions(self) -> list[Function]:
        """The dispatch table."""
        return [
            Function(1, self._new, P, (P,)),
            Function(2, self._gen_init, P, (P, INT, P)),
            Function(3, self._gen_set_template, INT, (P, P)),
            Function(4, self._gen_set_params, INT, (P, P)),
            Function(5, self._gen_settable, P, (P, P)),
            Function(6, self._gen, P, (P, P, P)),
            Function(7, self._gen_cleanup, None, (P,)),
            Function(10, self._free, None, (P,)),
            Function(11, self._get_params, INT, (P, P)),
            Function(12, self._gettable_params, P, (P,)),
            Function(13, self._set_params, INT, (P, P)),
            Function(14, self._settable_params, P, (P,)),
            Function(20, self._operation_name, P, (INT,)),
            Function(21, self._has, INT, (P, INT)),
            Function(23, self._match, INT, (P, P, INT)),
            Function(40, self._import, INT, (P, INT, P)),
            Function(41, self._types, P, (INT,)),
            Function(42, self._export, INT, (P, INT, P, P)),
            Function(43, self._types, P, (INT,)),
            Function(44, self._duplicate, P, (P, INT)),
        ]

    # ---- keys

    def _new(self, _provider: int) -> int:
        return self.keys.put(Key())

    def _free(self, handle: int | None) -> None:
        key = self.keys.pop(handle)
        if key and key.owner and key.ephemeral:
            key.owner.discard(key.ephemeral)

    def _has(self, handle: int | None, selection: int) -> int:
        if not handle:
            return 0  # an EVP_PKEY with no key in it yet
        key = self.keys[handle]
        missing = (
            (selection & PUBLIC and key.point is None)
            or (selection & PRIVATE and not key.private)
            or (selection & DOMAIN and key.curve is None)
        )
        return int(not missing)

    def _match(self, one: int, other: int, selection: int) -> int:
        a, b = self.keys[one], self.keys[other]
        if selection & DOMAIN and a.curve is not b.curve:
            return 0
        return int(not selection & (PUBLIC | PRIVATE) or a.point == b.point)

    def _duplicate(self, handle: int, selection: int) -> int | None:
        key = self.keys[handle]
        if selection & PRIVATE and key.ephemeral:
            return None  # an ephemeral private key exists once
        point = key.point if selection & PUBLIC else None
        slot = key.slot if selection & PRIVATE else None
        return self.keys.put(Key(key.curve, point, slot))

    def _get_params(self, handle: int, address: int) -> int:
        key = self.keys[handle]
        if key.curve is None:
            return 0
        values = {**_FACTS[key.curve], "pub": key.point, "encoded-pub-key": key.point}
        good = True
        for name, param in params.walk(address):
            if (value := values.get(name)) is not None:
                good &= params.store(param, value)
        return int(good)

    def _gettable_params(self, _provider: int) -> int:
        return int(self._gettable.address)

    def _set_params(self, handle: int, address: int) -> int:
        key = self.keys[handle]
        for name, param in params.walk(address):
            if name in ("pub", "encoded-pub-key"):
                key.point = params.octets(param)
            elif name == "group":
                key.curve = Curve(params.text(param))
        return 1

    def _settable_params(self, _provider: int) -> int:
        return int(self._settable.address)

    def _operation_name(self, operation: int) -> int | None:
        name = self._operation_names.get(operation)
        return ctypes.addressof(name) if name else None

    # ---- in and out

    def _import(self, handle: int, _selection: int, address: int) -> int:
        key = self.keys[handle]
        for name, param in params.walk(address):
            if name == "pub":
                key.point = params.octets(param)
            elif name == "group":
                key.curve = Curve(params.text(param))
            elif name == SLOT_PARAM:
                key.slot = KeySlot(int(params.text(param)))
            elif name == "priv":
                return 0  # a private value has no business here
        return int(key.curve is not None)

    def _export(self, handle: int, selection: int, callback: int, argument: int) -> int:
        key = self.keys[handle]
        if key.curve is None or (key.private and selection & PRIVATE):
            return 0  # so that EVP stays with this provider for private operations
        items: list[tuple[str, int, params.Value]] = [("group", params.UTF8, key.curve.value)]
        if selection & PUBLIC and key.point:
            items.append(("pub", params.OCTETS, key.point))
        array = params.ParamArray(*items)
        return int(ctypes.CFUNCTYPE(INT, P, P)(callback)(array.address, argument))

    def _types(self, _selection: int) -> int:
        return int(self._exported.address)

    # ---- generation

    def _gen_init(self, _provider: int, selection: int, address: int) -> int:
        generation = _Generation(selection)
        _set_group(generation, address)
        return self._generations.put(generation)

    def _gen_set_template(self, handle: int, template: int) -> int:
        self._generations[handle].curve = self.keys[template].curve
        return 1

    def _gen_set_params(self, handle: int, address: int) -> int:
        _set_group(self._generations[handle], address)
        return 1

    def _gen_settable(self, _handle: int, _provider: int) -> int:
        return int(self._settable.address)

    def _gen(self, handle: int, _callback: int, _argument: int) -> int | None:
        generation = self._generations[handle]
        if generation.curve is None:
            return None
        if not generation.selection & PRIVATE:
            return self.keys.put(Key(generation.curve))
        module = current().module
        pair = module.generate(generation.curve)
        return self.keys.put(Key(generation.curve, pair.public.point, ephemeral=pair, owner=module))

    def _gen_cleanup(self, handle: int | None) -> None:
        self._generations.pop(handle)


def signature_room(curve: Curve) -> int:
    """An upper bound for the length of a DER signature."""
    return 2 * curve.field_bytes + 10


_FACTS: Final[dict[Curve, dict[str, params.Value | None]]] = {
    curve: {
        "bits": 8 * curve.field_bytes,
        "security-bits": _SECURITY_BITS[curve.field_bytes],
        "max-size": signature_room(curve),
        "group": curve.value,
        "point-format": "uncompressed",
        "field-type": "prime-field",
        "default-digest": curve.hash_name.upper(),
    }
    for curve in Curve
}


def _set_group(generation: _Generation, address: int) -> None:
    for name, param in params.walk(address):
        if name == "group":
            generation.curve = Curve(params.text(param))
