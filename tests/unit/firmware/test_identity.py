"""Who the gateway is: certificates of its own name, keys in its own module: FIA_ATD.1."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.config import GwaTable, WanTable
from firmware.errors import ConfigurationRefused
from firmware.wide_area.identity import SLOTS, common_name, load
from hsm.api import CertificateUse, Curve, KeySlot
from hsm.errors import CommandRefused, ModuleUnavailable
from tests.support.pki import Authority
from tests.support.soft_module import CURVES, SoftModule

GATEWAY = "ESGW0100000001"


@pytest.fixture(scope="module")
def tree():
    root = Authority("Root", Curve.BRAINPOOL_P384, None, None)
    return root, Authority("Sub-CA", Curve.BRAINPOOL_P384, root, 0)


@pytest.fixture
def module():
    module = SoftModule()
    for slot in SLOTS.values():
        module.keys[slot] = ec.generate_private_key(CURVES[Curve.BRAINPOOL_P256])
    return module


@pytest.fixture
def wan(tmp_path, tree, module):
    root, sub_ca = tree
    (tmp_path / "root.pem").write_bytes(root.certificate.to_pem())
    (tmp_path / "sub-ca.pem").write_bytes(sub_ca.certificate.to_pem())
    for use, slot in SLOTS.items():
        certificate = sub_ca.build(common_name(GATEWAY), module.keys[slot].public_key())
        (tmp_path / f"{use.value}.pem").write_bytes(certificate.to_pem())
    path = tmp_path / "gwa.pem"
    gwa = GwaTable(host="localhost", port=1, server_name="gwa", tls_certificate=path, sig_certificate=path)
    return WanTable(
        root=tmp_path / "root.pem",
        sub_ca=tmp_path / "sub-ca.pem",
        tls=tmp_path / "tls.pem",
        sig=tmp_path / "sig.pem",
        enc=tmp_path / "enc.pem",
        gwa=gwa,
    )


def keys_of(refused):
    return [fault.key for fault in refused.value.faults]


async def test_the_triple_is_loaded_and_belongs_to_the_module(wan, tree, module):
    identity = load(GATEWAY, wan)
    assert identity.gateway_id == "esgw0100000001"
    assert identity.common_name == "ESGW0100000001.SMGW"
    assert set(identity.triple) == set(CertificateUse)
    assert identity.anchors == (tree[0].certificate,)
    assert identity.chain(CertificateUse.SIG) == [identity.triple[CertificateUse.SIG], tree[1].certificate]
    await identity.check_module(module)


def test_all_files_that_hold_no_certificate_are_named(wan):
    wan.tls.write_bytes(b"no certificate")
    wan.sig.unlink()
    wan.root.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    wan.sub_ca.write_bytes(b"")
    with pytest.raises(ConfigurationRefused) as refused:
        load(GATEWAY, wan)
    assert keys_of(refused) == ["wan.tls", "wan.sig", "wan.sub_ca", "wan.root"]
    assert all("PEM" in fault.expected for fault in refused.value.faults)


def test_certificates_of_somebody_else_are_refused(wan):
    with pytest.raises(ConfigurationRefused) as refused:
        load("ESGW0100000002", wan)
    assert keys_of(refused) == ["wan.tls", "wan.sig", "wan.enc"]
    assert "ESGW0100000002.SMGW" in str(refused.value)


async def test_a_certificate_of_another_key_or_of_none_is_refused(wan, module):
    identity = load(GATEWAY, wan)
    module.keys[KeySlot.WAN_TLS] = ec.generate_private_key(CURVES[Curve.BRAINPOOL_P256])
    del module.keys[KeySlot.WAN_ENC]
    with pytest.raises(ConfigurationRefused) as refused:
        await identity.check_module(module)
    assert keys_of(refused) == ["wan.tls", "wan.enc"]


@pytest.mark.parametrize("fault", [ModuleUnavailable("gone"), CommandRefused("READ", 0x6982)])
async def test_a_module_that_cannot_tell_is_its_own_error(wan, module, fault):
    identity = load(GATEWAY, wan)
    module.faults["public_key"] = fault
    with pytest.raises(type(fault)):
        await identity.check_module(module)
