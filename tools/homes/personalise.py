"""What the administrator does to a gateway's module before it may operate: root, own key, life cycle."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import utils

from hsm.api import KeySlot, LifeCycle, PublicSlot
from hsm.session import ModuleSession
from tools.counterparts.keys import SoftwareKeys

_CHAIN: Final = (
    # certificate of the PKI's folder, whose key checks it, where its own key goes
    ("root.pem", PublicSlot.ROOT, PublicSlot.ROOT),
    ("sub-ca.pem", PublicSlot.ROOT, None),
    ("gwa/sig.pem", PublicSlot.VERIFIED, PublicSlot.ADMINISTRATOR),
)


async def put_into_operation(module: ModuleSession, pki: Path) -> None:
    """Import root and administrator by their chain, then enter operation with the administrator's signature.

    Raises:
        HsmError: the module refuses a step.
    """
    fields = 0
    for name, issuer, holder in _CHAIN:
        certificate = x509.load_pem_x509_certificate((pki / name).read_bytes())
        # r and s are as long as the issuer's field: the root signs the first two, the sub-CA the third.
        if issuer is PublicSlot.ROOT:
            fields = fields or _field_bytes(certificate)
        r, s = utils.decode_dss_signature(certificate.signature)
        signature = r.to_bytes(fields, "big") + s.to_bytes(fields, "big")
        await module.import_certificate(issuer, certificate.tbs_certificate_bytes, signature, holder)
        if holder is None:
            fields = _field_bytes(certificate)
    await module.enter(LifeCycle.PERSONALISED)
    keys = SoftwareKeys(pki / "gwa")
    message = await module.administrator_challenge()
    curve = keys.public_key_now(KeySlot.WAN_SIG).curve
    digest = hashlib.new(curve.hash_name, message).digest()
    await module.authenticate_administrator(keys.sign_now(KeySlot.WAN_SIG, digest))
    await module.enter(LifeCycle.OPERATIONAL)
    await module.end_administration()


def _field_bytes(certificate: x509.Certificate) -> int:
    """Length of one coordinate of a certificate's key."""
    return (certificate.public_key().key_size + 7) // 8  # type: ignore[union-attr]  # this PKI has EC keys only
