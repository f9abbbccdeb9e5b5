"""Self-signed certificates whose key never leaves the security module. Builds bytes, keeps nothing.

Form: BSI TR-03109-1 v2.0 details, chapter 3; TR-03116-3, 6.3: v3, random serial number, named curve, key
usage digitalSignature critical, no CA, at most seven years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from asn1crypto import core, keys, x509

from hsm.api import KeySlot, PublicKey, SecurityModule, ServiceKey
from hsm.errors import UnexpectedResponse
from hsm.x509.certificate import Certificate
from hsm.x509.signature import plain_to_der, verify

MAX_YEARS: Final = 7
_SERIAL_BYTES: Final = 16
_SIGNATURES: Final = {"sha256": "sha256_ecdsa", "sha384": "sha384_ecdsa", "sha512": "sha512_ecdsa"}


async def build(
    module: SecurityModule,
    key: KeySlot | ServiceKey,
    common_name: str,
    *,
    not_before_utc: datetime,
    not_after_utc: datetime,
) -> Certificate:
    """See `hsm.x509.self_signed`; a service key becomes that of a TLS server."""
    period = not_after_utc - not_before_utc
    if not 0 < period.total_seconds() <= MAX_YEARS * 366 * 86400:
        raise ValueError("a period of more than nothing and at most seven years")
    if isinstance(key, ServiceKey):
        return await _build(
            module, key.public, lambda digest: module.sign_service(key, digest),
            common_name, "server_auth", not_before_utc, not_after_utc,
        )  # fmt: skip
    return await _build(
        module, await module.public_key(key), lambda digest: module.sign(key, digest),
        common_name, "client_auth", not_before_utc, not_after_utc,
    )  # fmt: skip


async def _build(
    module: SecurityModule,
    public: PublicKey,
    sign: Callable[[bytes], Awaitable[bytes]],
    common_name: str,
    usage: str,
    not_before_utc: datetime,
    not_after_utc: datetime,
) -> Certificate:
    serial = bytes((0x40,)) + await module.random(_SERIAL_BYTES)
    curve = "secp256r1" if public.curve.value == "prime256v1" else public.curve.value.lower()
    algorithm = {"algorithm": _SIGNATURES[public.curve.hash_name]}
    name = x509.Name.build({"common_name": common_name})
    body = x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": int.from_bytes(serial, "big"),
            "signature": algorithm,
            "issuer": name,
            "validity": {"not_before": _time(not_before_utc), "not_after": _time(not_after_utc)},
            "subject": name,
            "subject_public_key_info": keys.PublicKeyInfo(
                {
                    "algorithm": {
                        "algorithm": "ec",
                        "parameters": keys.ECDomainParameters("named", keys.NamedCurve(curve)),
                    },
                    "public_key": keys.ECPointBitString(public.point),
                }
            ),
            "extensions": [
                _extension("key_usage", x509.KeyUsage({"digital_signature"}), critical=True),
                _extension("basic_constraints", x509.BasicConstraints({"ca": False}), critical=True),
                _extension("extended_key_usage", x509.ExtKeyUsageSyntax([usage]), critical=False),
            ],
        }
    )
    digest = hashlib.new(public.curve.hash_name, body.dump()).digest()
    signature = await sign(digest)
    if not verify(public, digest, signature):
        raise UnexpectedResponse("the module's signature does not belong to the module's public key")
    whole = x509.Certificate(
        {
            "tbs_certificate": body,
            "signature_algorithm": algorithm,
            "signature_value": core.OctetBitString(plain_to_der(signature, public.curve)),
        }
    )
    return Certificate.from_der(whole.dump())


def _extension(name: str, value: core.Asn1Value, *, critical: bool) -> x509.Extension:
    return x509.Extension({"extn_id": name, "critical": critical, "extn_value": value})


def _time(instant: datetime) -> x509.Time:
    return x509.Time({"utc_time": x509.UTCTime(instant.astimezone(UTC).replace(microsecond=0))})
