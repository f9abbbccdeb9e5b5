"""A counterpart's keys for DC-nets: signs with SIG, agrees with ENC, and judges key bundles on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from firmware.enforcement.dcnet.messages.roster import Attestation, SignedBundle
from hsm.api import KeySlot
from hsm.x509 import Certificate
from tools.counterparts.keys import SoftwareKeys
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.server import gateway_of
from wan.cms import signed as cms
from wan.pki.profile import Role

_ADMINISTRATOR: Final = f".{Role.GWA.value}"


class CmsKeys:
    """Implements `net.CoordinatorKeys` from a counterpart's folder, see `tools.counterparts.pki`."""

    def __init__(self, folder: Path) -> None:
        """Read sig.key, enc.key, sig.pem and the trust anchors."""
        self._keys = SoftwareKeys(folder)
        self._certificate = Certificate.from_pem((folder / "sig.pem").read_bytes())
        self.trust = Trust.load(folder)

    @property
    def certificate(self) -> bytes:
        """DER of the SIG certificate."""
        return self._certificate.der

    async def sign(self, content: bytes) -> bytes:
        """Return SignedData over `content`."""
        return await cms.sign(content, module=self._keys, slot=KeySlot.WAN_SIG, certificate=self._certificate)

    async def agree(self, point: bytes) -> bytes:
        """ECKA of the ENC key; raises `CommandRefused` for a bad point."""
        return await self._keys.agree(KeySlot.WAN_ENC, point)

    async def open_bundle(self, bundle: SignedBundle) -> tuple[str, bytes]:
        """Check a bundle; return (gateway id, content). Raises `MessageRefused`."""
        return await open_bundle(self.trust, bundle)

    async def open_attestation(self, attestation: Attestation) -> bytes:
        """Check what an administrator signed and return it. Raises `MessageRefused`."""
        checked = await check_signed(attestation.signed, self.trust)
        if checked.signer != attestation.certificate or not checked.signer_name.endswith(_ADMINISTRATOR):
            raise MessageRefused("identity", "not signed by the administrator that is shown")
        return checked.content


async def open_bundle(trust: Trust, bundle: SignedBundle) -> tuple[str, bytes]:
    """Check a bundle's signature and its signer's path; return (gateway id, content).

    Raises:
        MessageRefused: signature, path, another certificate than shown, or not a gateway's.
    """
    checked = await check_signed(bundle.signed, trust)
    if checked.signer != bundle.certificate:
        raise MessageRefused("identity", "the bundle was signed with another certificate than shown")
    gateway = gateway_of(checked.signer_name)
    if gateway is None:
        raise MessageRefused("identity", "the signer is no gateway")
    return gateway, checked.content
