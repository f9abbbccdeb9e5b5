"""Certificates as values: what the gateway needs to know of one, read by libcrypto. Never a path check."""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from hsm import libcrypto
from hsm.api import Curve, PublicKey
from hsm.errors import CertificateRefused
from hsm.x509 import native

_P, _I, _S, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t


class _Tm(ctypes.Structure):
    """Broken-down time of the C library; the fields after the first six are not looked at."""

    _fields_ = (
        *((name, _I) for name in ("sec", "min", "hour", "mday", "mon", "year", "wday", "yday", "isdst")),
        ("gmtoff", ctypes.c_long),
        ("zone", _P),
    )


_lib: Any = libcrypto.crypto(
    {
        "X509_get_subject_name": (_P, _P),
        "X509_NAME_get_index_by_NID": (_I, _P, _I, _I),
        "X509_NAME_get_entry": (_P, _P, _I),
        "X509_NAME_ENTRY_get_data": (_P, _P),
        "ASN1_STRING_to_UTF8": (_I, ctypes.POINTER(_P), _P),
        "ASN1_STRING_length": (_I, _P),
        "ASN1_STRING_get0_data": (_P, _P),
        "ASN1_INTEGER_to_BN": (_P, _P, _P),
        "BN_bn2hex": (_P, _P),
        "BN_free": (None, _P),
        "CRYPTO_free": (None, _P, _S, _I),
        "X509_get_serialNumber": (_P, _P),
        "X509_get0_notBefore": (_P, _P),
        "X509_get0_notAfter": (_P, _P),
        "ASN1_TIME_to_tm": (_I, _P, ctypes.POINTER(_Tm)),
        "X509_get0_subject_key_id": (_P, _P),
        "X509_get0_pubkey": (_P, _P),
        "EVP_PKEY_get_utf8_string_param": (_I, _P, _S, _S, _Z, ctypes.POINTER(_Z)),
        "EVP_PKEY_get_octet_string_param": (_I, _P, _S, _S, _Z, ctypes.POINTER(_Z)),
    }
)
_NID_COMMON_NAME = 13
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate with an EC key on one of the five curves; two are equal if their DER is."""

    der: bytes = field(repr=False)
    subject_cn: str = field(compare=False)
    """Common name of the subject; empty if it has none."""
    public_key: PublicKey = field(compare=False)
    key_identifier: bytes = field(compare=False)
    """The subject key identifier; without that extension SHA-1 of the point (RFC 5280, 4.2.1.2)."""
    serial: int = field(compare=False)
    not_before_utc: datetime = field(compare=False)
    not_after_utc: datetime = field(compare=False)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER form."""
        return hashlib.sha256(self.der).digest()

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read a certificate; `CertificateRefused` for anything else and for keys on other curves."""
        with native.certificate_of(der) as x509:
            key = _public_key(x509)
            name = _common_name(x509)
            if native.certificate_der(x509) != der:
                raise CertificateRefused(f"certificate of {name!r} is not DER")
            return cls(
                der=bytes(der),
                subject_cn=name,
                public_key=key,
                key_identifier=_string(_lib.X509_get0_subject_key_id(x509)) or _sha1(key.point),
                serial=_serial(x509),
                not_before_utc=_time(_lib.X509_get0_notBefore(x509)),
                not_after_utc=_time(_lib.X509_get0_notAfter(x509)),
            )

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read the first certificate of a PEM text; `CertificateRefused` if there is none."""
        for der in _pem_blocks(pem, b"CERTIFICATE"):
            return cls.from_der(der)
        raise CertificateRefused("no certificate in this PEM text")

    def to_pem(self) -> bytes:
        """The PEM form, with a line feed at its end."""
        body = base64.b64encode(self.der)
        lines = [body[i : i + 64] for i in range(0, len(body), 64)]
        return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def load_pem_chain(pem: bytes) -> list[Certificate]:
    """Read every certificate of a PEM text, in its order; an empty text is an empty chain."""
    return [Certificate.from_der(der) for der in _pem_blocks(pem, b"CERTIFICATE")]


def load_pem_crls(pem: bytes) -> list[bytes]:
    """Return the DER form of every revocation list of a PEM text; each one is checked to be one."""
    lists = list(_pem_blocks(pem, b"X509 CRL"))
    for der in lists:
        native.free_crl(native.parse_crl(der))
    return lists


def _pem_blocks(pem: bytes, label: bytes) -> list[bytes]:
    try:
        return [
            binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
            for found, body in _PEM.findall(pem)
            if found == label
        ]
    except binascii.Error as error:
        raise CertificateRefused(f"PEM text: {error}") from error


def _string(asn1_string: int | None) -> bytes:
    if not asn1_string:
        return b""
    return ctypes.string_at(_lib.ASN1_STRING_get0_data(asn1_string), _lib.ASN1_STRING_length(asn1_string))


def _sha1(point: bytes) -> bytes:
    return hashlib.sha1(point, usedforsecurity=False).digest()


def _common_name(x509: int) -> str:
    name = _lib.X509_get_subject_name(x509)
    index = _lib.X509_NAME_get_index_by_NID(name, _NID_COMMON_NAME, -1)
    if index < 0:
        return ""
    data = _lib.X509_NAME_ENTRY_get_data(_lib.X509_NAME_get_entry(name, index))
    text = _P()
    length = _lib.ASN1_STRING_to_UTF8(ctypes.byref(text), data)
    if length < 0:
        raise CertificateRefused(f"subject's common name: {libcrypto.drain_errors()}")
    try:
        raw = ctypes.string_at(text, length) if length else b""
    finally:
        _lib.CRYPTO_free(text, b"", 0)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CertificateRefused("subject's common name is not UTF-8") from error


def _serial(x509: int) -> int:
    number = _lib.ASN1_INTEGER_to_BN(_lib.X509_get_serialNumber(x509), None)
    text = _lib.BN_bn2hex(number)
    try:
        return int(ctypes.string_at(text), 16)
    finally:
        _lib.CRYPTO_free(text, b"", 0)
        _lib.BN_free(number)


def _time(asn1_time: int) -> datetime:
    tm = _Tm()
    if _lib.ASN1_TIME_to_tm(asn1_time, ctypes.byref(tm)) != 1:
        raise CertificateRefused(f"validity: {libcrypto.drain_errors() or 'not a time'}")
    try:
        return datetime(tm.year + 1900, tm.mon + 1, tm.mday, tm.hour, tm.min, tm.sec, tzinfo=UTC)
    except ValueError as error:
        raise CertificateRefused(f"validity: {error}") from error


def _public_key(x509: int) -> PublicKey:
    pkey = _lib.X509_get0_pubkey(x509)
    if not pkey:
        raise CertificateRefused(f"public key: {libcrypto.drain_errors()}")
    length = _Z()
    group = ctypes.create_string_buffer(64)
    point = ctypes.create_string_buffer(160)
    if (
        _lib.EVP_PKEY_get_utf8_string_param(pkey, b"group", group, len(group), ctypes.byref(length)) != 1
        or _lib.EVP_PKEY_get_octet_string_param(pkey, b"pub", point, len(point), ctypes.byref(length)) != 1
    ):
        libcrypto.drain_errors()
        raise CertificateRefused("public key is not one on a named elliptic curve")
    try:
        curve = Curve(group.value.decode("ascii", "replace"))
    except ValueError as error:
        raise CertificateRefused(f"public key is on {group.value!r}, a curve that is not allowed") from error
    key = PublicKey(curve, point.raw[: length.value])
    if len(key.point) != 1 + 2 * curve.field_bytes or key.point[0] != 4:
        raise CertificateRefused("public key is not an uncompressed point")
    return key
