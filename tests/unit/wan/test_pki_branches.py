"""Two branches under one root: certificates of one are believed in the other, once they are introduced."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hsm.api import CertificateUse
from hsm.errors import CertificateRefused
from hsm.x509 import Certificate, check_path, load_pem_chain
from tools.counterparts.messages import MessageRefused, Trust
from tools.counterparts.pki import make_participant, make_pki
from tools.counterparts.pki_branches import introduce, make_branch
from wan.pki.profile import Role


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    make_pki(tmp_path / "root")
    for name in ("north", "south"):
        make_branch(
            tmp_path / "root",
            tmp_path / name,
            name=f"SM-Test-{name}.CA",
            gwa=name,
            gwa_server_name=f"{name}.test",
        )
    make_participant(tmp_path / "south", tmp_path / "south" / "emp", Role.EMP, "emp", server_name="emp.test")
    return tmp_path


def der(path: Path) -> bytes:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.public_bytes(serialization.Encoding.DER)


async def test_strangers_are_refused_until_they_are_introduced(pki: Path) -> None:
    signer = der(pki / "south" / "emp" / "sig.pem")
    with pytest.raises(MessageRefused):
        await Trust.load(pki / "north" / "gwa").check(signer, "digital_signature")
    introduce(pki / "root", [pki / "north", pki / "south"])
    await Trust.load(pki / "north" / "gwa").check(signer, "digital_signature")
    await Trust.load(pki / "south" / "emp").check(der(pki / "north" / "gwa" / "sig.pem"), "digital_signature")


def test_a_gateway_believes_both_branches(pki: Path) -> None:
    introduce(pki / "root", [pki / "north", pki / "south"])
    known = load_pem_chain((pki / "north" / "sub-ca.pem").read_bytes())
    roots = load_pem_chain((pki / "north" / "root.pem").read_bytes())
    for owner in ("north/gwa", "south/gwa", "south/emp"):
        signer = Certificate.from_der(der(pki / owner / "sig.pem"))
        check_path(signer, known, roots, at_utc=datetime.now(UTC), use=CertificateUse.SIG)
        with pytest.raises(CertificateRefused):
            check_path(signer, (), roots, at_utc=datetime.now(UTC), use=CertificateUse.SIG)


def test_a_branch_is_made_once(pki: Path) -> None:
    with pytest.raises(FileExistsError, match="holds a branch"):
        make_branch(pki / "root", pki / "north", name="x", gwa="x", gwa_server_name="x")
