"""PKCS#10 requests whose key never leaves the security module. Builds bytes, keeps nothing."""

from __future__ import annotations

import hashlib

from asn1crypto import core, csr, keys, x509

from hsm.api import CertificateUse, KeySlot, SecurityModule
from hsm.errors import UnexpectedResponse
from hsm.x509.signature import plain_to_der, verify

_SIGNATURES = {"sha256": "sha256_ecdsa", "sha384": "sha384_ecdsa", "sha512": "sha512_ecdsa"}
_USAGES = {
    CertificateUse.TLS: {"digital_signature"},
    CertificateUse.SIG: {"digital_signature"},
    CertificateUse.ENC: {"key_agreement"},
}


async def build(
    module: SecurityModule,
    slot: KeySlot,
    common_name: str,
    *,
    use: CertificateUse | None,
    organisation: str | None,
    unit: str | None,
    country: str | None,
    serial_number: str | None,
) -> bytes:
    """See `hsm.x509.request`."""
    public = await module.public_key(slot)
    parts = {
        "country_name": country,
        "organization_name": organisation,
        "organizational_unit_name": unit,
        "common_name": common_name,
        "serial_number": serial_number,
    }
    info = csr.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": x509.Name.build({name: text for name, text in parts.items() if text is not None}),
            "subject_pk_info": keys.PublicKeyInfo(
                {
                    "algorithm": {
                        "algorithm": "ec",
                        "parameters": keys.ECDomainParameters("named", _curve_oid(public.curve.value)),
                    },
                    "public_key": keys.ECPointBitString(public.point),
                }
            ),
            "attributes": [] if use is None else [_key_usage(use)],
        }
    )
    digest = hashlib.new(public.curve.hash_name, info.dump()).digest()
    signature = await module.sign(slot, digest)
    if not verify(public, digest, signature):
        raise UnexpectedResponse("the module's signature does not belong to the module's public key")
    request = csr.CertificationRequest(
        {
            "certification_request_info": info,
            "signature_algorithm": {"algorithm": _SIGNATURES[public.curve.hash_name]},
            "signature": core.OctetBitString(plain_to_der(signature, public.curve)),
        }
    )
    return bytes(request.dump())


def _curve_oid(short_name: str) -> keys.NamedCurve:
    return keys.NamedCurve("secp256r1" if short_name == "prime256v1" else short_name.lower())


def _key_usage(use: CertificateUse) -> csr.CRIAttribute:
    usage = {"extn_id": "key_usage", "critical": True, "extn_value": x509.KeyUsage(_USAGES[use])}
    return csr.CRIAttribute({"type": "extension_request", "values": [[usage]]})
