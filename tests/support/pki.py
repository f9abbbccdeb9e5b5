"""A certificate tree for tests, made with pyca: root, sub-CA, end entities, revocation lists."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsm.api import CertificateUse, Curve, PublicKey
from hsm.x509 import Certificate
from tests.support.soft_module import CURVES

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
TLS_PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
DEFAULT_NAMES = ("localhost", "127.0.0.1")


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pyca_key(public: PublicKey) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[public.curve], public.point)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SM-PKI-DE"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


class Authority:
    """A CA: its key, its certificate, and what it issues."""

    def __init__(self, name: str, curve: Curve, parent: Authority | None, path_length: int | None) -> None:
        self.name, self.curve = name, curve
        self.key = ec.generate_private_key(CURVES[curve])
        issuer = parent or self
        self.certificate = issuer.build(name, self.key.public_key(), path_length=path_length, authority=True)

    def build(
        self,
        name: str,
        public: ec.EllipticCurvePublicKey,
        *,
        authority: bool = False,
        path_length: int | None = None,
        use: CertificateUse | None = None,
        names: Iterable[str] = (),
        purposes: Iterable[x509.ObjectIdentifier] = (),
        serial: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        hash_name: str | None = None,
        extra: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(not_before or NOW - DAY)
            .not_valid_after(not_after or NOW + 700 * DAY)
            .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if authority or use is not None:
            usage = x509.KeyUsage(
                digital_signature=use in (CertificateUse.TLS, CertificateUse.SIG),
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=use is CertificateUse.ENC,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        if alternatives := [_alternative(text) for text in names]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        if wanted := list(purposes):
            builder = builder.add_extension(x509.ExtendedKeyUsage(wanted), critical=False)
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical=critical)
        signed = builder.sign(self.key, _HASHES[hash_name or self.curve.hash_name])
        return Certificate.from_der(signed.public_bytes(serialization.Encoding.DER))

    def crl(self, revoked: Iterable[int] = (), *, next_update: datetime | None = None) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(self.name))
            .last_update(NOW - DAY)
            .next_update(next_update or NOW + 30 * DAY)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self.key, _HASHES[self.curve.hash_name])
        return signed.public_bytes(serialization.Encoding.DER)


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Tree:
    """Root and sub-CA on one curve; end entities with chains."""

    def __init__(self, curve: Curve, root_name: str = "Test Root") -> None:
        self.curve = curve
        self.root = Authority(root_name, curve, None, 1)
        self.sub = Authority("Test Sub-CA", curve, self.root, 0)

    @property
    def anchors(self) -> list[Certificate]:
        return [self.root.certificate]

    def crls(self, revoked: Iterable[int] = ()) -> list[bytes]:
        return [self.root.crl(), self.sub.crl(revoked)]

    def tls(
        self,
        key: ec.EllipticCurvePrivateKey,
        name: str = "ESGW0100000001.SMGW",
        *,
        names: Iterable[str] = DEFAULT_NAMES,
        use: CertificateUse = CertificateUse.TLS,
        serial: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> list[Certificate]:
        """A TLS certificate and the sub-CA's: what a side sends."""
        leaf = self.sub.build(
            name,
            key.public_key(),
            use=use,
            names=names,
            purposes=TLS_PURPOSES if use is CertificateUse.TLS else (),
            serial=serial,
            not_before=not_before,
            not_after=not_after,
        )
        return [leaf, self.sub.certificate]


@functools.cache
def tree(curve: Curve, root_name: str = "Test Root") -> Tree:
    return Tree(curve, root_name)


def pem(chain: Iterable[Certificate]) -> bytes:
    return b"".join(certificate.to_pem() for certificate in chain)
