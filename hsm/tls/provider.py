"""An OpenSSL provider whose private-key operations are calls on the security module. One for the process.

It lives beside "default" in an OSSL_LIB_CTX of its own, so nothing else in the process changes. Which
"EC" is taken is steered by property queries: the library context wishes for "default", while an SSL_CTX
wishes for PROPERTIES, two wishes against one; so ephemeral keys and peers' points are ours and signature
checks, hashes and ciphers are OpenSSL's. Whatever draws in this context draws from ours (`rand`). The
context is never freed: no call from C into Python at exit.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Final

from hsm import libcrypto
from hsm.api import Curve, KeySlot, PublicKey
from hsm.errors import TlsRefused
from hsm.tls import params
from hsm.tls.dispatch import INT, PI, PP, Function, P, Registry, S
from hsm.tls.keyexch import KeyExchange
from hsm.tls.keymgmt import DOMAIN, KEYEXCH_NAME, PRIVATE, PUBLIC, SIGNATURE_NAME, SLOT_PARAM, KeyManagement
from hsm.tls.rand import NAME as RAND_NAME
from hsm.tls.rand import Random
from hsm.tls.signature import Signature

NAME: Final = "a-smgw"
"""Sorts before "default": OpenSSL 3.0 asks providers in the order of their names."""
PROPERTIES: Final = "?smgw.ec=yes,?smgw.kex=yes"
_EC_NAMES = "EC:id-ecPublicKey:1.2.840.10045.2.1"
_RAND, _KEYMGMT, _KEYEXCH, _SIGNATURE = 5, 10, 11, 12
_QUERY_OPERATION, _GET_CAPABILITIES = 1027, 1030
_TLS12, _TLS13 = 0x303, 0x304

# Code points of the groups (RFC 8422, 7027, 8734): TLS <= 1.2 and TLS 1.3, and their security bits.
_GROUPS: Final = {
    Curve.P256: (23, 23, 128),
    Curve.P384: (24, 24, 192),
    Curve.BRAINPOOL_P256: (26, 31, 128),
    Curve.BRAINPOOL_P384: (27, 32, 192),
    Curve.BRAINPOOL_P512: (28, 33, 256),
}

_InitFunction = ctypes.CFUNCTYPE(INT, P, P, PP, PP)
_lib: Any = libcrypto.crypto(
    {
        "ERR_clear_error": (None,),
        "OSSL_LIB_CTX_new": (P,),
        "OSSL_PROVIDER_add_builtin": (INT, P, S, _InitFunction),
        "OSSL_PROVIDER_load": (P, P, S),
        "EVP_set_default_properties": (INT, P, S),
        "RAND_set_DRBG_type": (INT, P, S, S, S, S),
        "EVP_PKEY_CTX_new_from_name": (P, P, S, S),
        "EVP_PKEY_CTX_free": (None, P),
        "EVP_PKEY_fromdata_init": (INT, P),
        "EVP_PKEY_fromdata": (INT, P, PP, INT, P),
        "EVP_PKEY_free": (None, P),
    }
)


class Provider:
    """The provider and the library context it is loaded in."""

    def __init__(self) -> None:
        registry = Registry()
        self.key_management = KeyManagement(registry)
        self.key_exchange = KeyExchange(self.key_management.keys)
        self.signature = Signature(registry, self.key_management.keys)
        mine = f"provider={NAME}"
        self._algorithms = {
            _KEYMGMT: registry.algorithm(
                _EC_NAMES, f"{mine},smgw.ec=yes,smgw.kex=yes", self.key_management.functions()
            ),
            _KEYEXCH: registry.algorithm(KEYEXCH_NAME, mine, self.key_exchange.functions()),
            _SIGNATURE: registry.algorithm(SIGNATURE_NAME, mine, self.signature.functions()),
            _RAND: registry.algorithm(RAND_NAME, mine, Random().functions()),
        }
        self._base = registry.table(
            [
                Function(_QUERY_OPERATION, self._query_operation, P, (P, INT, PI)),
                Function(_GET_CAPABILITIES, self._get_capabilities, INT, (P, S, P, P)),
            ]
        )
        self._registry = registry
        self.library_context: int = _lib.OSSL_LIB_CTX_new()
        self._load(registry.keep(_InitFunction(self._init)))

    def _load(self, init: Any) -> None:
        context, name = self.library_context, NAME.encode()
        loaded = (
            _lib.OSSL_PROVIDER_add_builtin(context, name, init)
            and _lib.OSSL_PROVIDER_load(context, name)
            and _lib.OSSL_PROVIDER_load(context, b"default")
            and _lib.EVP_set_default_properties(context, b"?provider=default")
            and _lib.RAND_set_DRBG_type(context, RAND_NAME.encode(), None, None, None)
        )
        if not loaded:
            raise TlsRefused(f"OpenSSL provider: {libcrypto.drain_errors()}")

    @property
    def open_handles(self) -> int:
        """How many handles OpenSSL holds; level over time unless something leaks."""
        return len(self.key_management.keys) + len(self.key_exchange.exchanges) + len(self.signature.signings)

    def static_key(self, slot: KeySlot, public: PublicKey) -> int:
        """Return an EVP_PKEY* for a key pair in the module; the caller frees it with `free_key`."""
        _lib.ERR_clear_error()
        items = params.ParamArray(
            ("group", params.UTF8, public.curve.value),
            ("pub", params.OCTETS, public.point),
            (SLOT_PARAM, params.UTF8, str(int(slot))),
        )
        context = _lib.EVP_PKEY_CTX_new_from_name(self.library_context, b"EC", f"provider={NAME}".encode())
        key = P()
        try:
            if (
                not context
                or _lib.EVP_PKEY_fromdata_init(context) != 1
                or _lib.EVP_PKEY_fromdata(
                    context, ctypes.byref(key), PRIVATE | PUBLIC | DOMAIN, items.address
                )
                != 1
            ):
                raise TlsRefused(f"key in {slot.name}: {libcrypto.drain_errors()}")
        finally:
            _lib.EVP_PKEY_CTX_free(context)
        assert key.value is not None
        return key.value

    @staticmethod
    def free_key(key: int) -> None:
        """Give an EVP_PKEY* back."""
        _lib.EVP_PKEY_free(key)

    # ---- called by OpenSSL

    def _init(self, _handle: int, _core: int, out: Any, context: Any) -> int:
        out[0], context[0] = self._base, 1
        return 1

    def _query_operation(self, _provider: int, operation: int, no_cache: Any) -> int | None:
        no_cache[0] = 0
        return self._algorithms.get(operation)

    def _get_capabilities(self, _provider: int, capability: bytes, callback: int, argument: int) -> int:
        if capability != b"TLS-GROUP":
            return 1
        report = ctypes.CFUNCTYPE(INT, P, P)(callback)
        for curve in Curve:
            for array in _capabilities(curve):
                if not report(array.address, argument):
                    return 0
        return 1


def _capabilities(curve: Curve) -> list[params.ParamArray]:
    """How libssl is told of a group; a Brainpool curve is two groups, one for each version of TLS."""
    old, new, security_bits = _GROUPS[curve]
    name = tls_group(curve)
    if old == new:
        return [_capability(name, curve, old, security_bits, 0x301, 0)]
    return [
        _capability(name, curve, old, security_bits, 0x301, _TLS12),
        _capability(f"{name}tls13", curve, new, security_bits, _TLS13, 0),
    ]


def _capability(
    name: str, curve: Curve, code_point: int, security_bits: int, first: int, last: int
) -> params.ParamArray:
    return params.ParamArray(
        ("tls-group-name", params.UTF8, name),
        ("tls-group-name-internal", params.UTF8, curve.value),
        ("tls-group-id", params.UNSIGNED, code_point),
        ("tls-group-alg", params.UTF8, "EC"),  # libssl takes no other name in TLS 1.2
        ("tls-group-sec-bits", params.UNSIGNED, security_bits),
        ("tls-group-is-kem", params.UNSIGNED, 0),
        ("tls-min-tls", params.INTEGER, first),
        ("tls-max-tls", params.INTEGER, last),
        ("tls-min-dtls", params.INTEGER, -1),
        ("tls-max-dtls", params.INTEGER, -1),
    )


def tls_group(curve: Curve) -> str:
    """The name of a curve as a TLS group, e.g. secp256r1 (libcrypto calls it prime256v1)."""
    return "secp256r1" if curve is Curve.P256 else curve.value


@functools.cache
def provider() -> Provider:
    """The provider of this process, made at first use."""
    return Provider()
