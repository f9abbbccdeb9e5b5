"""Certificates and revocation lists as libcrypto's own objects, for path check and TLS. No clock, no I/O."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hsm import libcrypto
from hsm.errors import CertificateRefused

_P, _I, _L, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p
_PP = ctypes.POINTER(_P)

_lib: Any = libcrypto.crypto(
    {
        "ERR_clear_error": (None,),
        "X509_new_ex": (_P, _P, _S),
        "X509_free": (None, _P),
        "d2i_X509": (_P, _PP, _PP, _L),
        "i2d_X509": (_I, _P, _PP),
        "X509_CRL_new_ex": (_P, _P, _S),
        "X509_CRL_free": (None, _P),
        "d2i_X509_CRL": (_P, _PP, _PP, _L),
        "X509_STORE_add_cert": (_I, _P, _P),
        "X509_STORE_add_crl": (_I, _P, _P),
        "X509_STORE_set_flags": (_I, _P, ctypes.c_ulong),
        "X509_get_key_usage": (ctypes.c_uint32, _P),
        "X509_get_extended_key_usage": (ctypes.c_uint32, _P),
        "X509_verify_cert_error_string": (_S, _L),
    }
)

CRL_CHECK, CRL_CHECK_ALL, STRICT, NO_CHECK_TIME = 0x4, 0x8, 0x20, 0x200000
"""Flags of X509_VERIFY_PARAM (openssl/x509_vfy.h)."""
AUTH_LEVEL = 2
"""112 bits at least: SHA-1 signatures and short keys end the path."""
KU_DIGITAL_SIGNATURE, KU_KEY_AGREEMENT, KU_KEY_CERT_SIGN = 0x80, 0x08, 0x04
XKU_SSL_SERVER, XKU_SSL_CLIENT = 0x1, 0x2
EXTENSION_ABSENT = 0xFFFFFFFF


def parse_certificate(der: bytes, library_context: int | None = None) -> int:
    """Return an X509* (the caller frees it with `free_certificate`); `CertificateRefused` if it is none."""
    return _parse("X509", der, library_context, "certificate")


def parse_crl(der: bytes, library_context: int | None = None) -> int:
    """Return an X509_CRL* (the caller frees it with `free_crl`); `CertificateRefused` if it is none."""
    return _parse("X509_CRL", der, library_context, "revocation list")


def _parse(kind: str, der: bytes, library_context: int | None, noun: str) -> int:
    _lib.ERR_clear_error()
    item = _P(getattr(_lib, f"{kind}_new_ex")(library_context, None))
    buffer = ctypes.create_string_buffer(der, len(der))
    start = ctypes.addressof(buffer)
    position = _P(start)
    parsed = getattr(_lib, f"d2i_{kind}")(ctypes.byref(item), ctypes.byref(position), len(der))
    if not parsed:  # d2i has freed the object
        raise CertificateRefused(f"not a {noun}: {libcrypto.drain_errors()}")
    if position.value != start + len(der):
        getattr(_lib, f"{kind}_free")(parsed)
        raise CertificateRefused(f"not a {noun}: bytes after its end")
    return int(parsed)


def free_certificate(certificate: int) -> None:
    """Give an X509* back."""
    _lib.X509_free(certificate)


def free_crl(crl: int) -> None:
    """Give an X509_CRL* back."""
    _lib.X509_CRL_free(crl)


@contextmanager
def certificate_of(der: bytes, library_context: int | None = None) -> Iterator[int]:
    """An X509* for the length of a block."""
    certificate = parse_certificate(der, library_context)
    try:
        yield certificate
    finally:
        free_certificate(certificate)


def certificate_der(certificate: int) -> bytes:
    """The DER form of an X509*."""
    length = _lib.i2d_X509(certificate, None)
    buffer = ctypes.create_string_buffer(length)
    position = _P(ctypes.addressof(buffer))
    _lib.i2d_X509(certificate, ctypes.byref(position))
    return buffer.raw


def add_trust(store: int, certificate: int) -> None:
    """Put a trust anchor into an X509_STORE."""
    if _lib.X509_STORE_add_cert(store, certificate) != 1:
        raise CertificateRefused(f"trust anchor: {libcrypto.drain_errors()}")


def add_crls(store: int, crls: tuple[bytes, ...], library_context: int | None = None) -> None:
    """Put revocation lists into an X509_STORE and, if there are any, demand one for each issuer."""
    for der in crls:
        crl = parse_crl(der, library_context)
        try:
            if _lib.X509_STORE_add_crl(store, crl) != 1:
                raise CertificateRefused(f"revocation list: {libcrypto.drain_errors()}")
        finally:
            free_crl(crl)
    _lib.X509_STORE_set_flags(store, STRICT | (CRL_CHECK | CRL_CHECK_ALL if crls else 0))


def key_usage(certificate: int) -> int:
    """Bits of the key usage extension, `EXTENSION_ABSENT` if there is none."""
    return int(_lib.X509_get_key_usage(certificate))


def extended_key_usage(certificate: int) -> int:
    """XKU bits of the extended key usage extension, `EXTENSION_ABSENT` if there is none."""
    return int(_lib.X509_get_extended_key_usage(certificate))


def reason(code: int) -> str:
    """The text of an X509_V_ERR_ number."""
    return str(_lib.X509_verify_cert_error_string(code).decode("ascii", "replace"))
