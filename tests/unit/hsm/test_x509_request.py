from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from hsm.api import CertificateUse, Curve, KeySlot
from hsm.errors import CommandRefused, UnexpectedResponse
from hsm.x509 import request
from tests.support.soft_module import SoftModule


@pytest.mark.parametrize("curve", list(Curve))
@pytest.mark.parametrize("use", [*CertificateUse, None])
async def test_a_request_is_good_in_the_eyes_of_another_library(
    curve: Curve, use: CertificateUse | None
) -> None:
    module = SoftModule()
    public = await module.generate_key_pair(KeySlot.WAN_TLS, curve)
    judge = x509.load_der_x509_csr(
        await request(module, KeySlot.WAN_TLS, "ESGW0100000001.SMGW", use=use, unit="TEST-CA")
    )
    assert judge.is_signature_valid
    point = judge.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert point == public.point
    subject = {attribute.oid: attribute.value for attribute in judge.subject}
    assert subject == {
        NameOID.COUNTRY_NAME: "DE",
        NameOID.ORGANIZATION_NAME: "SM-PKI-DE",
        NameOID.ORGANIZATIONAL_UNIT_NAME: "TEST-CA",
        NameOID.COMMON_NAME: "ESGW0100000001.SMGW",
        NameOID.SERIAL_NUMBER: "0",
    }
    if use is None:
        assert len(judge.extensions) == 0
    else:
        usage = judge.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.digital_signature is (use is not CertificateUse.ENC)
        assert usage.value.key_agreement is (use is CertificateUse.ENC)


async def test_an_empty_slot_is_the_modules_own_error() -> None:
    with pytest.raises(CommandRefused, match="6A88"):
        await request(SoftModule(), KeySlot.WAN_TLS, "x")


async def test_a_signature_by_another_key_is_noticed() -> None:
    class Confused(SoftModule):
        async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
            return await super().sign(KeySlot.WAN_ENC, digest)

    module = Confused()
    await module.generate_key_pair(KeySlot.WAN_TLS, Curve.P256)
    await module.generate_key_pair(KeySlot.WAN_ENC, Curve.P256)
    with pytest.raises(UnexpectedResponse, match="does not belong"):
        await request(module, KeySlot.WAN_TLS, "x")
