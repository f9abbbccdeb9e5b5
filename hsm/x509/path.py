"""The one certificate path check of the gateway: libcrypto's X509_verify_cert at a given time. No clock."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from hsm import libcrypto
from hsm.api import CertificateUse
from hsm.errors import CertificateRefused
from hsm.x509 import native
from hsm.x509.certificate import Certificate

_P, _I, _S, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_long

_lib: Any = libcrypto.crypto(
    {
        "ERR_clear_error": (None,),
        "X509_STORE_new": (_P,),
        "X509_STORE_free": (None, _P),
        "X509_STORE_CTX_new_ex": (_P, _P, _S),
        "X509_STORE_CTX_free": (None, _P),
        "X509_STORE_CTX_init": (_I, _P, _P, _P, _P),
        "X509_STORE_CTX_get0_param": (_P, _P),
        "X509_STORE_CTX_get_error": (_I, _P),
        "X509_STORE_CTX_get_error_depth": (_I, _P),
        "X509_VERIFY_PARAM_set_time": (None, _P, ctypes.c_int64),
        "X509_VERIFY_PARAM_set_auth_level": (None, _P, _I),
        "X509_verify_cert": (_I, _P),
        "OPENSSL_sk_new_null": (_P,),
        "OPENSSL_sk_push": (_I, _P, _P),
        "OPENSSL_sk_free": (None, _P),
    }
)


def check_path(
    leaf: Certificate,
    intermediates: Iterable[Certificate],
    anchors: Iterable[Certificate],
    *,
    at_utc: datetime,
    use: CertificateUse | None,
    crls: Iterable[bytes] = (),
) -> None:
    """Demand that `leaf` leads to a self-signed trust anchor and may be used as `use`.

    Checked are signatures (SHA-2 only), validity, basic constraints, path length, key usage of each CA,
    unknown critical extensions and the stricter rules of RFC 5280; with revocation lists (DER) each
    certificate below the anchor must have a current one that does not name it.

    Args:
        leaf: the certificate in question.
        intermediates: certificates that may stand between; they are trusted for nothing.
        anchors: the roots.
        at_utc: the moment to check at, an aware datetime.
        use: what the leaf is to be used for (BSI TR-03109-4: digitalSignature for TLS and SIG,
            keyAgreement for ENC); None for a certificate that only issues others.
        crls: revocation lists; none at all means that revocation is not checked.

    Raises:
        CertificateRefused: with the reason and the subject it concerns.
    """
    if at_utc.tzinfo is None:
        raise ValueError("at_utc must be an aware datetime")
    with ExitStack() as stack:
        store = _lib.X509_STORE_new()
        stack.callback(_lib.X509_STORE_free, store)
        for anchor in anchors:
            native.add_trust(store, stack.enter_context(native.certificate_of(anchor.der)))
        native.add_crls(store, tuple(crls))
        untrusted = _lib.OPENSSL_sk_new_null()
        stack.callback(_lib.OPENSSL_sk_free, untrusted)
        chain = list(intermediates)
        for certificate in chain:
            _lib.OPENSSL_sk_push(untrusted, stack.enter_context(native.certificate_of(certificate.der)))
        subject = stack.enter_context(native.certificate_of(leaf.der))
        context = _lib.X509_STORE_CTX_new_ex(None, None)
        stack.callback(_lib.X509_STORE_CTX_free, context)
        _lib.ERR_clear_error()
        if _lib.X509_STORE_CTX_init(context, store, subject, untrusted) != 1:
            raise CertificateRefused(f"{leaf.subject_cn}: {libcrypto.drain_errors()}")
        param = _lib.X509_STORE_CTX_get0_param(context)
        _lib.X509_VERIFY_PARAM_set_time(param, int(at_utc.timestamp()))
        _lib.X509_VERIFY_PARAM_set_auth_level(param, native.AUTH_LEVEL)
        if _lib.X509_verify_cert(context) != 1:
            libcrypto.drain_errors()
            code = _lib.X509_STORE_CTX_get_error(context)
            depth = _lib.X509_STORE_CTX_get_error_depth(context)
            where = f"{depth} above {leaf.subject_cn}" if depth else leaf.subject_cn
            raise CertificateRefused(f"{where}: {native.reason(code)}")
        if use is not None:
            check_use(subject, leaf.subject_cn, use)


def check_use(certificate: int, name: str, use: CertificateUse) -> None:
    """Demand the key usage of the SM-PKI for an X509*; `CertificateRefused` names what is missing."""
    usage = native.key_usage(certificate)
    agreement = use is CertificateUse.ENC
    wanted = native.KU_KEY_AGREEMENT if agreement else native.KU_DIGITAL_SIGNATURE
    if usage == native.EXTENSION_ABSENT or not usage & wanted:
        noun = "keyAgreement" if agreement else "digitalSignature"
        raise CertificateRefused(f"{name}: key usage lacks {noun}, needed for {use.value}")
    if usage & native.KU_KEY_CERT_SIGN:
        raise CertificateRefused(f"{name}: a certificate of a CA is no {use.value} certificate")
    purposes = native.extended_key_usage(certificate)
    if (
        use is CertificateUse.TLS
        and purposes != native.EXTENSION_ABSENT
        and not purposes & (native.XKU_SSL_SERVER | native.XKU_SSL_CLIENT)
    ):
        raise CertificateRefused(f"{name}: extended key usage allows no TLS")
