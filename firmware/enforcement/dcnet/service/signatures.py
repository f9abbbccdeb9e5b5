"""Signatures of a net's control plane: CMS SignedData, certificates pinned or leading to our root.

Spec: docs/dcnet.md, messages; BSI TR-03116-3, chapter 8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final

from hsm.api import CertificateUse, KeySlot, SecurityModule
from hsm.x509 import Certificate, check_path
from wan.cms import signed as cms
from wan.errors import SignatureRefused

_GATEWAY_SUFFIX: Final = ".SMGW"
_ADMINISTRATOR_SUFFIX: Final = ".GWA"


async def _nothing() -> None:
    return


class CmsSignatures:
    """Implements `membership.Signatures`.

    Args:
        module: signs.
        slot: of the SIG key.
        certificate: of the SIG key.
        emp: SIG certificate of the net's EMP, as the profile pins it.
        gwa: SIG certificate of this gateway's administrator, as the configuration pins it.
        intermediates: sub-CAs.
        anchors: roots.
        now_utc: the gateway's clock; certificates must be valid now.
        crls: gives the revocation lists in force, DER.
        breathe: lets whatever else waits run.
    """

    def __init__(
        self,
        *,
        module: SecurityModule,
        slot: KeySlot,
        certificate: Certificate,
        emp: Certificate,
        gwa: Certificate,
        intermediates: Iterable[Certificate],
        anchors: Iterable[Certificate],
        now_utc: Callable[[], datetime],
        crls: Callable[[], Iterable[bytes]] = tuple,
        breathe: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._breathe = breathe or _nothing
        self._module, self._slot, self._own = module, slot, certificate
        self._emp, self._gwa = emp, gwa
        self._intermediates, self._anchors = tuple(intermediates), tuple(anchors)
        self._now_utc, self._crls = now_utc, crls

    @property
    def certificate(self) -> bytes:
        """DER of this gateway's SIG certificate."""
        return self._own.der

    async def sign(self, content: bytes) -> bytes:
        """Sign as this gateway. Raises `HsmError`."""
        return await cms.sign(content, module=self._module, slot=self._slot, certificate=self._own)

    async def by_emp(self, signed: bytes) -> bytes:
        """Return what the net's EMP signed. Raises `WanError`, `CertificateRefused`."""
        return self._checked(signed, self._emp)

    async def by_gwa(self, signed: bytes) -> bytes:
        """Return what this gateway's administrator signed. Raises `WanError`, `CertificateRefused`."""
        return self._checked(signed, self._gwa)

    async def by_administrator(self, signed: bytes, certificate: bytes) -> bytes:
        """Return what an administrator of our PKI signed. Raises `WanError`, `CertificateRefused`."""
        signer = Certificate.from_der(certificate)
        if not signer.subject_cn.endswith(_ADMINISTRATOR_SUFFIX):
            raise SignatureRefused("an administrator's certificate is none")
        return self._checked(signed, signer)

    async def by_member(self, signed: bytes, certificate: bytes) -> bytes:
        """Return what a gateway of our PKI signed. Raises `WanError`, `CertificateRefused`.

        Lets others run before: a roster has as many of these as members, and slots go on meanwhile.
        """
        await self._breathe()
        signer = Certificate.from_der(certificate)
        if not signer.subject_cn.endswith(_GATEWAY_SUFFIX):
            raise SignatureRefused("a member's certificate is no gateway's")
        return self._checked(signed, signer)

    def sealed(self) -> CmsSignatures:
        """Return what reads that which was checked before and has been in the sealed store since."""
        return _Sealed(
            module=self._module,
            slot=self._slot,
            certificate=self._own,
            emp=self._emp,
            gwa=self._gwa,
            intermediates=self._intermediates,
            anchors=self._anchors,
            now_utc=self._now_utc,
            crls=self._crls,
            breathe=self._breathe,
        )

    def _checked(self, signed: bytes, signer: Certificate) -> bytes:
        check_path(
            signer,
            self._intermediates,
            self._anchors,
            at_utc=self._now_utc(),
            use=CertificateUse.SIG,
            crls=self._crls(),
        )
        return cms.verify(signed, signers=[signer]).content


class _Sealed(CmsSignatures):
    """Takes signed objects apart; whoever signed them was checked when they were sealed."""

    def _checked(self, signed: bytes, signer: Certificate) -> bytes:
        return cms.parse(signed).content
