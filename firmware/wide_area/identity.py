"""Who the gateway is: its id and the certificate triple in use. The private keys are the module's alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware.config import WanTable
from firmware.errors import ConfigurationRefused, Fault
from hsm.api import CertificateUse, KeySlot, SecurityModule
from hsm.errors import CertificateRefused, CommandRefused
from hsm.x509 import Certificate, load_pem_chain

SLOTS: Final = {
    CertificateUse.TLS: KeySlot.WAN_TLS,
    CertificateUse.SIG: KeySlot.WAN_SIG,
    CertificateUse.ENC: KeySlot.WAN_ENC,
}
"""Where the private key of each certificate lives."""
_NO_SUCH_KEY: Final = 0x6A88


@dataclass(frozen=True, slots=True)
class Identity:
    """The gateway in the wide area network."""

    gateway_id: str
    """Lower case, as in URLs and documents."""
    triple: Mapping[CertificateUse, Certificate]
    sub_ca: tuple[Certificate, ...]
    """Intermediates that go along with the gateway's own certificates."""
    anchors: tuple[Certificate, ...]
    """Roots that are trusted."""

    @property
    def common_name(self) -> str:
        """What the gateway's certificates are issued for, e.g. "ESGW0100000001.SMGW"."""
        return common_name(self.gateway_id)

    def chain(self, use: CertificateUse) -> list[Certificate]:
        """Return a certificate and its intermediates, as a TLS handshake sends them."""
        return [self.triple[use], *self.sub_ca]

    async def check_module(self, module: SecurityModule) -> None:
        """See to it that the module holds the key of each certificate.

        Raises:
            ConfigurationRefused: names every certificate of another key.
            HsmError: the module cannot tell.
        """
        faults = []
        for use, slot in SLOTS.items():
            try:
                held = await module.public_key(slot)
            except CommandRefused as refused:
                if refused.sw != _NO_SUCH_KEY:
                    raise
                held = None
            if held != self.triple[use].public_key:
                expected = f"a certificate of the key in the security module's slot {slot.name}"
                faults.append(Fault("security module", None, f"wan.{use.value}", expected))
        if faults:
            raise ConfigurationRefused(faults)


def common_name(gateway_id: str) -> str:
    """Return the subject's common name of a gateway's certificates (name form of the SM-PKI)."""
    return f"{gateway_id.upper()}.SMGW"


def load(gateway_id: str, wan: WanTable) -> Identity:
    """Read the gateway's certificates and those of the PKI above it; their paths are checked when used.

    Raises:
        ConfigurationRefused: lists every file that holds no certificate, or one of somebody else.
    """
    faults: list[Fault] = []
    triple = {
        use: certificates[0]
        for use in CertificateUse
        if (certificates := _certificates(getattr(wan, use.value), f"wan.{use.value}", faults))
    }
    for use, certificate in triple.items():
        if certificate.subject_cn != common_name(gateway_id):
            path = str(getattr(wan, use.value))
            faults.append(
                Fault(path, None, f"wan.{use.value}", f"a certificate issued for {common_name(gateway_id)}")
            )
    sub_ca = _certificates(wan.sub_ca, "wan.sub_ca", faults)
    anchors = _certificates(wan.root, "wan.root", faults)
    if faults:
        raise ConfigurationRefused(faults)
    return Identity(gateway_id.lower(), triple, tuple(sub_ca), tuple(anchors))


def _certificates(path: Path, key: str, faults: list[Fault]) -> list[Certificate]:
    """Read all certificates of a PEM file; notes a fault and returns none if there is none."""
    try:
        certificates = load_pem_chain(path.read_bytes())
    except (OSError, CertificateRefused) as error:
        faults.append(Fault(str(path), None, key, f"a certificate in PEM form ({error})"))
        return []
    if not certificates:
        faults.append(Fault(str(path), None, key, "a certificate in PEM form"))
    return certificates
