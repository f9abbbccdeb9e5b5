"""How a gateway comes to its triple: keys made in the module, requests signed there."""

from __future__ import annotations

from typing import Final

from hsm.api import CertificateUse, Curve, KeySlot, SecurityModule
from hsm.x509 import request
from wan.pki import profile

SLOTS: Final = {
    CertificateUse.TLS: KeySlot.WAN_TLS,
    CertificateUse.SIG: KeySlot.WAN_SIG,
    CertificateUse.ENC: KeySlot.WAN_ENC,
}


async def make_triple(
    module: SecurityModule, gateway_id: str, curve: Curve = Curve.BRAINPOOL_P256
) -> dict[CertificateUse, bytes]:
    """Make new TLS, SIG and ENC key pairs and return a PKCS#10 request (DER) for each.

    The keys that were in these slots before are gone.

    Args:
        module: the gateway's security module.
        gateway_id: e.g. "esgw0100000001", in any case.
        curve: brainpoolP256r1 as BSI TR-03116-3, 4.1.1 and 8 ask for.

    Raises:
        HsmError: from the module; slots done before have new keys already.
    """
    name = profile.common_name(profile.Role.GATEWAY, gateway_id)
    requests = {}
    for use, slot in SLOTS.items():
        await module.generate_key_pair(slot, curve)
        requests[use] = await request(module, slot, name, use=use)
    return requests
