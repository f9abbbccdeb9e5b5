"""The card's random generator: libcrypto's HMAC-DRBG with SHA-256 (NIST SP 800-90A) over our own entropy.

A known answer is checked when a generator is made, everything the source delivers passes the two health tests
of SP 800-90B 4.4, at start and always, and the first failure is final: every later request fails. This is
software and claims no class of AIS 20/31.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ctypes import Structure, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p, cast, create_string_buffer

from hsm import libcrypto
from hsm.emulator.entropy import EntropySource
from hsm.emulator.health import START_SAMPLES, HealthTests
from hsm.errors import ModuleFailed

_STRENGTH = 256
_ENTROPY_BYTES, _NONCE_BYTES = 48, 16
_MAX_REQUEST = 4096
# NIST CAVP, HMAC_DRBG.rsp: SHA-256, no prediction resistance, count 0; the second output counts.
_KAT_ENTROPY = bytes.fromhex("ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488")
_KAT_NONCE = bytes.fromhex("659ba96c601dc69fc902940805ec0ca8")
_KAT_OUTPUT = bytes.fromhex(
    "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89d54fbb978a15b5c443c9ec21036d2460"
    "b6f73ebad0dc2aba6e624abf07745bc107694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668"
    "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8"
)


class _Param(Structure):
    """OSSL_PARAM."""

    _fields_ = (
        ("key", c_char_p),
        ("data_type", c_uint),
        ("data", c_void_p),
        ("data_size", c_size_t),
        ("return_size", c_size_t),
    )


_INTEGER, _UNSIGNED, _UTF8, _OCTETS = 1, 2, 4, 5

_lib = libcrypto.crypto(
    {
        "EVP_RAND_fetch": (c_void_p, c_void_p, c_char_p, c_char_p),
        "EVP_RAND_CTX_new": (c_void_p, c_void_p, c_void_p),
        "EVP_RAND_CTX_free": (None, c_void_p),
        "EVP_RAND_CTX_set_params": (c_int, c_void_p, c_void_p),
        "EVP_RAND_instantiate": (c_int, c_void_p, c_uint, c_int, c_char_p, c_size_t, c_void_p),
        "EVP_RAND_uninstantiate": (c_int, c_void_p),
        "EVP_RAND_generate": (c_int, c_void_p, c_char_p, c_size_t, c_uint, c_int, c_char_p, c_size_t),
        "EVP_RAND_reseed": (c_int, c_void_p, c_int, c_char_p, c_size_t, c_char_p, c_size_t),
    }
)


def _params(entries: Sequence[tuple[bytes, int, bytes]]) -> tuple[object, list[object]]:
    """An OSSL_PARAM array, and the buffers it points into (to be kept as long as it)."""
    array = (_Param * (len(entries) + 1))()
    buffers: list[object] = []
    for entry, (key, kind, value) in zip(array, entries, strict=False):
        buffer = create_string_buffer(value, len(value))
        buffers.append(buffer)
        entry.key, entry.data_type, entry.data_size = key, kind, len(value)
        entry.data = cast(buffer, c_void_p)
    return array, buffers


class _Generator:
    """One EVP_RAND instance over a parent that hands out what it was given (libcrypto's TEST-RAND)."""

    def __init__(self, entropy: bytes, nonce: bytes) -> None:
        self._parent = self._context = 0
        self._parent = self._new(b"TEST-RAND", None)
        self._set(self._parent, [(b"strength", _UNSIGNED, _STRENGTH.to_bytes(4, sys.byteorder))])
        self._feed(entropy, nonce)
        self._done(_lib.EVP_RAND_instantiate(self._parent, _STRENGTH, 0, None, 0, None))
        self._context = self._new(b"HMAC-DRBG", self._parent)
        array, _kept = _params([(b"digest", _UTF8, b"SHA256"), (b"mac", _UTF8, b"HMAC")])
        # An empty personalisation string, not a null one: libcrypto would put its own in its place.
        self._done(_lib.EVP_RAND_instantiate(self._context, _STRENGTH, 0, b"", 0, byref(array)))  # type: ignore[arg-type]  # a ctypes array

    def __del__(self) -> None:
        for context in (self._context, self._parent):
            if context:
                _lib.EVP_RAND_CTX_free(context)

    def reseed(self, entropy: bytes) -> None:
        """Mix fresh entropy in."""
        self._feed(entropy, b"")
        self._done(_lib.EVP_RAND_reseed(self._context, 0, None, 0, None, 0))

    def generate(self, count: int) -> bytes:
        """Return `count` bytes."""
        buffer = create_string_buffer(count)
        self._done(_lib.EVP_RAND_generate(self._context, buffer, count, _STRENGTH, 0, None, 0))
        return buffer.raw

    def _feed(self, entropy: bytes, nonce: bytes) -> None:
        entries = [(b"test_entropy", _OCTETS, entropy)]
        if nonce:
            entries.append((b"test_nonce", _OCTETS, nonce))
        self._set(self._parent, entries)

    def _set(self, context: int, entries: Sequence[tuple[bytes, int, bytes]]) -> None:
        array, _kept = _params(entries)
        self._done(_lib.EVP_RAND_CTX_set_params(context, byref(array)))  # type: ignore[arg-type]  # a ctypes array

    def _new(self, name: bytes, parent: int | None) -> int:
        method = _METHODS[name]
        context = _lib.EVP_RAND_CTX_new(method, parent)
        self._done(bool(context))
        return int(context)

    @staticmethod
    def _done(result: int) -> None:
        if not result:
            raise ModuleFailed(f"random generator: {libcrypto.drain_errors() or 'refused'}")


_METHODS = {name: _lib.EVP_RAND_fetch(None, name, None) for name in (b"TEST-RAND", b"HMAC-DRBG")}


def known_answer() -> bool:
    """Generate twice from NIST's inputs and compare the second output."""
    generator = _Generator(_KAT_ENTROPY, _KAT_NONCE)
    generator.generate(len(_KAT_OUTPUT))
    return generator.generate(len(_KAT_OUTPUT)) == _KAT_OUTPUT


class Drbg:
    """The card's generator.

    Args:
        entropy: where seed and reseed input come from.
        reseed_interval: requests between two reseeds; 1 reseeds before every request.

    Raises:
        ModuleFailed: the known answer is wrong, or the entropy source fails.
    """

    def __init__(self, entropy: EntropySource, *, reseed_interval: int = 1024) -> None:
        if not known_answer():
            raise ModuleFailed("the random generator does not give its known answer")
        self._entropy, self._interval = entropy, reseed_interval
        self._health = HealthTests()
        self._failed = False
        self._requests = 0
        self.reseeds = 0
        self._draw(START_SAMPLES)
        self._generator = _Generator(self._draw(_ENTROPY_BYTES), self._draw(_NONCE_BYTES))

    @property
    def trusted(self) -> bool:
        """True if the entropy is real."""
        return self._entropy.trusted

    @property
    def failed(self) -> bool:
        """True after the first failure; it stays so."""
        return self._failed

    def read(self, count: int) -> bytes:
        """Return `count` random bytes (1..4096).

        Raises:
            ModuleFailed: the source or the generator failed, now or earlier.
        """
        assert 1 <= count <= _MAX_REQUEST
        if self._failed:
            raise ModuleFailed("the random generator is out of service")
        try:
            if self._requests >= self._interval:
                self.reseed()
            self._requests += 1
            return self._generator.generate(count)
        except ModuleFailed:
            self._failed = True
            raise

    def reseed(self) -> None:
        """Take fresh entropy in.

        Raises:
            ModuleFailed: the source failed; the generator is out of service.
        """
        try:
            self._generator.reseed(self._draw(_ENTROPY_BYTES))
        except ModuleFailed:
            self._failed = True
            raise
        self._requests = 0
        self.reseeds += 1

    def _draw(self, count: int) -> bytes:
        try:
            block = self._entropy.read(count)
        except OSError as error:
            raise ModuleFailed("the entropy source does not deliver") from error
        if len(block) != count:
            raise ModuleFailed("the entropy source delivers too little")
        self._health.check(block)
        return block
