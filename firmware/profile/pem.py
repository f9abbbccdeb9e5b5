"""Certificates as profiles carry them: PEM to DER, fingerprint of the key. Form only, never a path. Pure.

Walking through a certificate takes a millisecond, and a set names the same few in each profile, so what was
found of the latest texts is remembered.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

_LABEL: Final = "CERTIFICATE"
_REMEMBERED: Final = 1024
"""Texts; a household's set names a dozen, and the longest order has not many more than these."""


@lru_cache(_REMEMBERED)
def to_der(text: str) -> bytes:
    """Return the DER bytes of the one certificate in a PEM text.

    Raises:
        ValueError: the text is no PEM, holds something else than one certificate, or the certificate is
            broken.
    """
    from asn1crypto import pem, x509  # 30 ms of start-up, and only profiles with recipients need it

    try:
        label, headers, der = pem.unarmor(text.encode())
        certificate = x509.Certificate.load(der, strict=True)
        certificate.native  # noqa: B018  parsing is lazy, this walks through every field
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, UnicodeError) as error:
        raise ValueError("no certificate in PEM form") from error
    if label != _LABEL or headers or text.count("-----BEGIN ") != 1:
        raise ValueError("exactly one certificate in PEM form is expected")
    return bytes(der)


def key_curve(text: str) -> str | None:
    """Return the lower-case name of the curve of a certificate's key, None if it has no named one.

    Raises:
        ValueError: as `to_der`.
    """
    der = to_der(text)
    from asn1crypto import x509

    key = x509.Certificate.load(der).public_key
    if key.algorithm != "ec":
        return None
    kind, name = key.curve
    return str(name).lower() if kind == "named" else None


@lru_cache(_REMEMBERED)
def key_fingerprint(text: str) -> str:
    """Return the SHA-256 of the public key in hexadecimal, of the text itself where it holds none.

    Two certificates of one key have one owner, whatever names they carry.
    """
    try:
        der = to_der(text)
    except ValueError:
        return hashlib.sha256(text.encode()).hexdigest()
    from asn1crypto import x509

    return hashlib.sha256(x509.Certificate.load(der).public_key.dump()).hexdigest()
