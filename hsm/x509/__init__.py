"""Certificates, signatures, the path check, certification requests: what all networks need of X.509."""

from __future__ import annotations

from hsm.api import CertificateUse, KeySlot, SecurityModule
from hsm.x509.certificate import Certificate, load_pem_chain, load_pem_crls
from hsm.x509.path import check_path
from hsm.x509.signature import der_to_plain, plain_to_der, verify

__all__ = [
    "Certificate",
    "check_path",
    "der_to_plain",
    "load_pem_chain",
    "load_pem_crls",
    "plain_to_der",
    "request",
    "verify",
]


async def request(
    module: SecurityModule,
    slot: KeySlot,
    common_name: str,
    *,
    use: CertificateUse | None = None,
    organisation: str | None = "SM-PKI-DE",
    unit: str | None = None,
    country: str | None = "DE",
    serial_number: str | None = "0",
) -> bytes:
    """Make a PKCS#10 request (DER) for the key in `slot`, signed by the module.

    Args:
        module: holds the key; it must have been generated before.
        slot: the key.
        common_name: of the subject, e.g. "ESGW0100000001.SMGW".
        use: asks for the key usage of this kind of certificate; None asks for nothing.
        organisation: O of the subject; None leaves it out, as for the parts that follow.
        unit: OU.
        country: C, two letters.
        serial_number: the subject's serialNumber attribute.

    Raises:
        HsmError: from the module; `UnexpectedResponse` if its signature does not verify.
    Spec: RFC 2986; subject as in BSI TR-03116-3 (name forms of the SM-PKI).
    """
    from hsm.x509 import enrolment  # the ASN.1 library costs 30 ms of start-up, and only this needs it

    return await enrolment.build(
        module,
        slot,
        common_name,
        use=use,
        organisation=organisation,
        unit=unit,
        country=country,
        serial_number=serial_number,
    )
