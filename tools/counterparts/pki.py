"""A test SM-PKI in a folder: root, sub-CA, administrator, supplier, and certificates for gateways.

DIR holds root.pem, sub-ca.pem (and their .key) and crls.pem; DIR/gwa and DIR/emp hold {tls,sig,enc}.{pem,key}
besides copies of sub-ca.pem, root.pem and crls.pem; gateways' certificates go to DIR/gateways/<id>/.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hsm.api import CertificateUse
from tools.counterparts.keys import load_private_key, new_private_key, pyca_curve, save_private_key
from tools.counterparts.server import replacing
from wan.pki.profile import (
    COUNTRY,
    END_ENTITY,
    ORGANISATION,
    ROOT,
    ROOT_NAME,
    SUB_CA,
    SUB_CA_NAME,
    CertificateProfile,
    KeyUsage,
    Role,
    common_name,
)

GWA_SERVER_NAME: Final = "gwa.sm-pki.test"
EMP_SERVER_NAME: Final = "emp.sm-pki.test"
_CRL_DAYS: Final = 2 * 365
_BACKDATE: Final = timedelta(hours=1)
_HASHES: Final[Mapping[int, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = {
    256: hashes.SHA256,
    384: hashes.SHA384,
    512: hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Issuer:
        """Read both from PEM files."""
        return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), load_private_key(key))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def subject_name(common: str, unit: str | None, *, entity: bool) -> x509.Name:
    """Name as the SM-PKI forms it; end entities have serialNumber=0 and their CA as unit."""
    parts = [(NameOID.COUNTRY_NAME, COUNTRY), (NameOID.ORGANIZATION_NAME, ORGANISATION)]
    if unit is not None:
        parts.append((NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    parts.append((NameOID.COMMON_NAME, common))
    if entity:
        parts.append((NameOID.SERIAL_NUMBER, "0"))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


def _key_usage(usages: frozenset[KeyUsage]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=KeyUsage.DIGITAL_SIGNATURE in usages,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=KeyUsage.KEY_AGREEMENT in usages,
        key_cert_sign=KeyUsage.CERT_SIGN in usages,
        crl_sign=KeyUsage.CRL_SIGN in usages,
        encipher_only=False,
        decipher_only=False,
    )


def issue(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    profile: CertificateProfile,
    issuer: Issuer | ec.EllipticCurvePrivateKey,
    *,
    not_before_utc: datetime | None = None,
    lifetime: timedelta | None = None,
    server_names: Iterable[str] = (),
) -> x509.Certificate:
    """Issue one certificate of the given profile; with a bare key as issuer a self-signed one."""
    start = not_before_utc if not_before_utc is not None else _now() - _BACKDATE
    end = start + (lifetime if lifetime is not None else timedelta(days=profile.lifetime_days))
    own = isinstance(issuer, ec.EllipticCurvePrivateKey)
    key = issuer if isinstance(issuer, ec.EllipticCurvePrivateKey) else issuer.key
    issuer_name = subject if isinstance(issuer, ec.EllipticCurvePrivateKey) else issuer.certificate.subject
    builder = (
        x509.CertificateBuilder(issuer_name, subject, public_key, x509.random_serial_number(), start, end)
        .add_extension(x509.BasicConstraints(profile.is_ca, profile.path_length), critical=True)
        .add_extension(_key_usage(profile.key_usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if profile.policy is not None:
        policy = x509.PolicyInformation(x509.ObjectIdentifier(profile.policy), None)
        builder = builder.add_extension(x509.CertificatePolicies([policy]), critical=False)
    if not own:
        contact: list[x509.GeneralName] = [
            x509.RFC822Name("ca@sm-pki.test"),
            x509.UniformResourceIdentifier("https://ca.sm-pki.test/"),
        ]
        builder = builder.add_extension(x509.IssuerAlternativeName(contact), critical=False)
    names = [_general_name(name) for name in server_names]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, _HASHES[key.curve.key_size]())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name_of(certificate: x509.Certificate) -> str:
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in certificates)


def write_crl(issuer: Issuer, *, revoked: Iterable[int] = (), now_utc: datetime | None = None) -> bytes:
    """Return one CA's revocation list with these serial numbers, PEM."""
    now = now_utc if now_utc is not None else _now()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - _BACKDATE)
        .next_update(now + timedelta(days=_CRL_DAYS))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )
    for serial in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        )
    crl = builder.sign(issuer.key, _HASHES[issuer.key.curve.key_size]())
    return crl.public_bytes(serialization.Encoding.PEM)


def write_crls(folder: Path, *, revoked: Iterable[int] = (), now_utc: datetime | None = None) -> bytes:
    """Write DIR/crls.pem: the root's empty list and the sub-CA's with these serial numbers; returns it."""
    text = b""
    for name, serials in (("root", ()), ("sub-ca", tuple(revoked))):
        issuer = Issuer.load(folder / f"{name}.pem", folder / f"{name}.key")
        text += write_crl(issuer, revoked=serials, now_utc=now_utc)
    with replacing(folder / "crls.pem") as path:
        path.write_bytes(text)
    for party in ("gwa", "emp"):
        if (folder / party).is_dir():
            shutil.copyfile(folder / "crls.pem", folder / party / "crls.pem")
    return text


def make_pki(
    folder: Path,
    *,
    gwa: str = "testgwa",
    emp: str = "testemp",
    now_utc: datetime | None = None,
) -> None:
    """Make the whole PKI in a new or empty folder.

    Raises:
        FileExistsError: DIR/root.key is there already; keys are never overwritten.
    """
    if (folder / "root.key").exists():
        raise FileExistsError(f"{folder} holds a PKI already")
    folder.mkdir(parents=True, exist_ok=True)
    start = (now_utc if now_utc is not None else _now()) - _BACKDATE
    root_key, sub_key = new_private_key(ROOT.curve), new_private_key(SUB_CA.curve)
    root_name, sub_name = (
        subject_name(ROOT_NAME, None, entity=False),
        subject_name(SUB_CA_NAME, None, entity=False),
    )
    root = issue(root_name, root_key.public_key(), ROOT, root_key, not_before_utc=start)
    sub = issue(sub_name, sub_key.public_key(), SUB_CA, Issuer(root, root_key), not_before_utc=start)
    for name, certificate, key in (("root", root, root_key), ("sub-ca", sub, sub_key)):
        save_private_key(folder / f"{name}.key", key)
        (folder / f"{name}.pem").write_bytes(_pem(certificate))
    for party, role, title, host in (
        ("gwa", Role.GWA, gwa, GWA_SERVER_NAME),
        ("emp", Role.EMP, emp, EMP_SERVER_NAME),
    ):
        make_participant(folder, folder / party, role, title, server_name=host, now_utc=now_utc)
    write_crls(folder, now_utc=now_utc)


def make_participant(
    folder: Path, target: Path, role: Role, name: str, *, server_name: str, now_utc: datetime | None = None
) -> None:
    """Make a triple with software keys for an administrator or a supplier, in a folder of its own."""
    start = (now_utc if now_utc is not None else _now()) - _BACKDATE
    target.mkdir(parents=True, exist_ok=True)
    issuer = Issuer.load(folder / "sub-ca.pem", folder / "sub-ca.key")
    subject = subject_name(common_name(role, name), _common_name_of(issuer.certificate), entity=True)
    for use, profile in END_ENTITY.items():
        key = new_private_key(profile.curve)
        names = (server_name, "localhost", "127.0.0.1") if use is CertificateUse.TLS else ()
        certificate = issue(
            subject, key.public_key(), profile, issuer, not_before_utc=start, server_names=names
        )
        save_private_key(target / f"{use.value}.key", key)
        # The server sends the sub-CA's certificate along; the other two files hold one certificate each.
        chain = (certificate, issuer.certificate) if use is CertificateUse.TLS else (certificate,)
        (target / f"{use.value}.pem").write_bytes(_pem(*chain))
    for file in ("sub-ca.pem", "root.pem", "crls.pem"):
        if (folder / file).exists():
            shutil.copyfile(folder / file, target / file)
    settings = target / f"{role.name.lower()}.toml"
    if not settings.exists():
        settings.write_text(f'name = "{name}"\nserver_name = "{server_name}"\n', encoding="utf-8")


def issue_gateway(
    folder: Path,
    gateway_id: str,
    requests: Mapping[CertificateUse, bytes],
    *,
    not_before_utc: datetime | None = None,
    lifetime: timedelta | None = None,
) -> dict[CertificateUse, str]:
    """Issue a gateway's certificates from its PKCS#10 requests (DER); returns PEM texts.

    They are kept in DIR/gateways/<id>/ too.

    Raises:
        ValueError: a request is not one, is not signed by its own key, is for another name or another curve.
    """
    issuer = Issuer.load(folder / "sub-ca.pem", folder / "sub-ca.key")
    expected = common_name(Role.GATEWAY, gateway_id)
    issued: dict[CertificateUse, str] = {}
    for use, der in requests.items():
        request = x509.load_der_x509_csr(der)
        key, profile = request.public_key(), END_ENTITY[use]
        names = [item.value for item in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if not request.is_signature_valid:
            raise ValueError(f"{use.value}: the request is not signed by its own key")
        if names != [expected]:
            raise ValueError(f"{use.value}: the request is for {names}, not for {expected}")
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != pyca_curve(profile.curve).name:
            raise ValueError(f"{use.value}: the key is not on {profile.curve.value}")
        certificate = issue(
            subject_name(expected, _common_name_of(issuer.certificate), entity=True),
            key,
            profile,
            issuer,
            not_before_utc=not_before_utc,
            lifetime=lifetime,
        )
        issued[use] = _pem(certificate).decode("ascii")
    target = folder / "gateways" / gateway_id.lower()
    target.mkdir(parents=True, exist_ok=True)
    for use, text in issued.items():
        (target / f"{use.value}.pem").write_text(text, encoding="ascii")
    return issued
