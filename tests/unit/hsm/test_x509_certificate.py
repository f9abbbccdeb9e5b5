from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import Name, NameAttribute, load_der_x509_certificate
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.api import Curve
from hsm.errors import CertificateRefused
from hsm.x509 import Certificate, load_pem_chain, load_pem_crls
from tests.support.pki import NOW, pem, tree
from tests.support.soft_module import public_of

BP256 = tree(Curve.BRAINPOOL_P256)
KEY = ec.generate_private_key(ec.BrainpoolP256R1())
LEAF = BP256.tls(KEY, "ESGW0100000001.SMGW")[0]


@pytest.mark.parametrize("curve", list(Curve))
def test_values_agree_with_an_independent_parser(curve: Curve) -> None:
    certificate = tree(curve).sub.certificate
    judge = load_der_x509_certificate(certificate.der)
    assert certificate.serial == judge.serial_number
    assert certificate.not_before_utc == judge.not_valid_before_utc
    assert certificate.not_after_utc == judge.not_valid_after_utc
    assert certificate.public_key == public_of(tree(curve).sub.key)
    assert certificate.subject_cn == "Test Sub-CA"
    assert certificate.fingerprint == hashlib.sha256(certificate.der).digest()
    assert certificate.key_identifier == hashlib.sha1(certificate.public_key.point).digest()


def test_two_certificates_are_equal_by_their_der() -> None:
    assert Certificate.from_der(LEAF.der) == LEAF
    assert BP256.sub.certificate != LEAF
    assert len({LEAF, Certificate.from_pem(LEAF.to_pem())}) == 1


def test_pem_both_ways_and_chains_in_order() -> None:
    chain = [LEAF, BP256.sub.certificate, BP256.root.certificate]
    assert load_pem_chain(b"a line of text\n" + pem(chain)) == chain
    assert load_pem_chain(b"") == []


@pytest.mark.parametrize(
    "text",
    [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", LEAF.to_pem().replace(b"CERTIFICATE", b"X509 CRL")],
)
def test_a_text_without_a_certificate_is_refused(text: bytes) -> None:
    with pytest.raises(CertificateRefused, match="no certificate"):
        Certificate.from_pem(text)


def test_broken_base64_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="PEM"):
        load_pem_chain(b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n")


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(CertificateRefused, match="after its end"):
        Certificate.from_der(LEAF.der + b"\0")


def test_an_rsa_key_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    der = _self_made(key.public_key())
    with pytest.raises(CertificateRefused, match="elliptic curve"):
        Certificate.from_der(der)


def test_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    with pytest.raises(CertificateRefused, match="secp521r1"):
        Certificate.from_der(_self_made(key.public_key()))


def _self_made(public: object) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    name = Name([NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1)).public_key(public)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_subject_without_common_name_has_an_empty_one() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    name = Name([NameAttribute(NameOID.COUNTRY_NAME, "DE")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = (
        builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1)).public_key(KEY.public_key())
    )
    der = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    certificate = Certificate.from_der(der)
    assert certificate.subject_cn == ""
    assert certificate.key_identifier == hashlib.sha1(certificate.public_key.point).digest()


def test_revocation_lists_are_told_from_other_things() -> None:
    import base64

    crl = BP256.sub.crl()
    text = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(crl) + b"-----END X509 CRL-----\n"
    assert load_pem_crls(text) == [crl]
    with pytest.raises(CertificateRefused, match="revocation list"):
        load_pem_crls(LEAF.to_pem().replace(b"CERTIFICATE", b"X509 CRL"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_certificate_or_a_named_error(data: bytes) -> None:
    with pytest.raises(CertificateRefused):
        Certificate.from_der(data)


@settings(max_examples=300)
@given(st.integers(0, len(LEAF.der) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_another_certificate_or_a_named_error(at: int, change: int) -> None:
    mutant = bytearray(LEAF.der)
    mutant[at] ^= change
    try:
        certificate = Certificate.from_der(bytes(mutant))
    except CertificateRefused:
        return
    assert certificate != LEAF
