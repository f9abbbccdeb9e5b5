"""The test PKI, judged by openssl and by pyhanko-certvalidator, and what it refuses to issue."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hsm.api import CertificateUse, Curve
from hsm.x509 import Certificate, check_path, load_pem_crls
from tests.support.soft_module import SoftModule
from tests.unit.wan.conftest import GATEWAY, Party, Pki, enrol
from tools.counterparts.messages import MessageRefused, Trust
from tools.counterparts.pki import issue_gateway, make_pki, write_crls
from wan.pki import profile
from wan.pki.enrol import make_triple


def openssl(*arguments: object, stdin: bytes = b"") -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


PARTIES = [(party, use) for party in ("gwa", "emp") for use in CertificateUse]


@pytest.mark.parametrize(("party", "use"), PARTIES)
async def test_openssl_and_our_path_check_accept_the_parties(
    pki: Pki, party: str, use: CertificateUse
) -> None:
    path = pki.folder / party / f"{use.value}.pem"
    openssl(
        *("verify", "-x509_strict", "-crl_check_all", "-CAfile", pki.folder / "root.pem"),
        *("-untrusted", pki.folder / "sub-ca.pem", "-CRLfile", pki.folder / "crls.pem", path),
    )
    certificate = Certificate.from_pem(path.read_bytes())
    crls = load_pem_crls((pki.folder / "crls.pem").read_bytes())
    check_path(certificate, [pki.sub_ca], [pki.root], at_utc=datetime.now(UTC), use=use, crls=crls)
    usage = "key_agreement" if use is CertificateUse.ENC else "digital_signature"
    await Trust.load(pki.folder).check(certificate.der, usage)


def test_fields_as_in_the_productive_pki(gateway: Party) -> None:
    """BSI TR-03109-4 as surveyed: subject, key usage, basic constraints, two years."""
    for ours, use in ((gateway.tls, "tls"), (gateway.sig, "sig"), (gateway.enc, "enc")):
        assert ours is not None
        certificate = x509.load_der_x509_certificate(ours.der)
        assert certificate.subject.rfc4514_string() == (
            "2.5.4.5=0,CN=ESGW0100000001.SMGW,OU=SM-Test-Sub.CA,O=SM-PKI-DE,C=DE"
        )
        assert ours.public_key.curve is Curve.BRAINPOOL_P256
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=730)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert not constraints.value.ca
        key_usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert key_usage.critical
        assert key_usage.value.digital_signature == (use != "enc")
        assert key_usage.value.key_agreement == (use == "enc")


async def test_triple_is_made_in_the_module() -> None:
    module = SoftModule()
    requests = await make_triple(module, GATEWAY)
    assert list(requests) == list(CertificateUse)
    assert (module.counts["generate_key_pair"], module.counts["sign"]) == (3, 3)
    for der in requests.values():
        openssl("req", "-inform", "DER", "-verify", "-noout", stdin=der)


async def test_issuing_refuses(pki: Pki) -> None:
    requests = await make_triple(SoftModule(), GATEWAY)
    with pytest.raises(ValueError, match="not for ESGW0100000002"):
        issue_gateway(pki.folder, "esgw0100000002", requests)
    altered = bytearray(requests[CertificateUse.TLS])
    altered[-1] ^= 1
    with pytest.raises(ValueError, match="own key"):
        issue_gateway(pki.folder, GATEWAY, {CertificateUse.TLS: bytes(altered)})
    with pytest.raises(ValueError):
        issue_gateway(pki.folder, GATEWAY, {CertificateUse.TLS: b"junk"})
    other = await make_triple(SoftModule(), GATEWAY, Curve.P256)
    with pytest.raises(ValueError, match="not on brainpoolP256r1"):
        issue_gateway(pki.folder, GATEWAY, other)


def test_keys_are_never_overwritten(pki: Pki) -> None:
    with pytest.raises(FileExistsError):
        make_pki(pki.folder)


@pytest.fixture
def copy(pki: Pki, tmp_path: Path) -> Path:
    for name in ("root", "sub-ca"):
        for suffix in ("pem", "key"):
            shutil.copyfile(pki.folder / f"{name}.{suffix}", tmp_path / f"{name}.{suffix}")
    return tmp_path


async def test_trust_refuses(pki: Pki, gateway: Party, copy: Path) -> None:
    der = gateway.sig.der
    trust = Trust.load(pki.folder)
    with pytest.raises(MessageRefused, match="certificate"):
        await trust.check(gateway.enc.der, "digital_signature")
    with pytest.raises(MessageRefused, match="certificate"):
        await trust.check(der, "digital_signature", datetime.now(UTC) + timedelta(days=731))
    with pytest.raises(MessageRefused, match="certificate"):
        await trust.check(der, "digital_signature", datetime.now(UTC) - timedelta(days=1))
    write_crls(copy, revoked=[gateway.sig.serial])
    with pytest.raises(MessageRefused, match="revoked"):
        await Trust.load(copy).check(der, "digital_signature")
    (copy / "crls.pem").write_bytes(
        (copy / "crls.pem").read_bytes().partition(b"-----END X509 CRL-----\n")[0]
        + b"-----END X509 CRL-----\n"
    )
    with pytest.raises(MessageRefused, match="certificate"):  # the sub-CA's list is missing
        await Trust.load(copy).check(der, "digital_signature")
    await asyncio.to_thread(make_pki, copy / "other")
    with pytest.raises(MessageRefused, match="certificate"):
        await Trust.load(copy / "other").check(der, "digital_signature")


def test_names() -> None:
    assert profile.common_name(profile.Role.GATEWAY, "esgw0100000001") == "ESGW0100000001.SMGW"
    assert profile.gateway_of("ESGW0100000001.SMGW") == "esgw0100000001"
    for name in ("testemp.EMT", "SMGW", ".SMGW", "ESGW0100000001.SMGW.EMT", "ESGW0100000001SMGW", ""):
        assert profile.gateway_of(name) is None


async def test_issued_with_other_dates(pki: Pki) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    expired = await asyncio.to_thread(
        enrol, pki, "esgw0100000668", not_before_utc=start, lifetime=timedelta(days=1)
    )
    assert expired.sig.not_after_utc == start + timedelta(days=1)
