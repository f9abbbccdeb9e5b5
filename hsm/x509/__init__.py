"""Certificates, signatures, the path check, certification requests: what all networks need of X.509."""

from __future__ import annotations

from datetime import datetime

from hsm.api import CertificateUse, KeySlot, SecurityModule, ServiceKey
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
    "self_signed",
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


async def self_signed(
    module: SecurityModule,
    key: KeySlot | ServiceKey,
    common_name: str,
    *,
    not_before_utc: datetime,
    not_after_utc: datetime,
) -> Certificate:
    """Make a self-signed certificate for a key, as wired meters and the gateway show each other.

    Args:
        module: holds the key; it must have been generated before.
        key: the gateway's own, for a TLS client; or one made for a meter, which is the TLS server.
        slot: the key.
        common_name: of subject and issuer, e.g. "esgw0100000001.sm".
        not_before_utc: aware, whole seconds.
        not_after_utc: aware, whole seconds, at most seven years later.

    Raises:
        ValueError: the period is empty or too long.
        HsmError: from the module.
    Spec: BSI TR-03109-1 v2.0 details, chapter 3; BSI TR-03116-3, 6.3.
    """
    from hsm.x509 import selfsigned  # the ASN.1 library costs 30 ms of start-up, and only this needs it

    return await selfsigned.build(
        module, key, common_name, not_before_utc=not_before_utc, not_after_utc=not_after_utc
    )
