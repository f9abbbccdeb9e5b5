"""The SM-PKI's roles and what the certificates of each look like, as data.

Names, key usages, curves and lifetimes follow certificates of the productive PKI as surveyed in
docs/references.md (BSI TR-03109-4, TR-03116-3 chapter 4); what is only assumed is a field, not a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from hsm.api import CertificateUse, Curve

ORGANISATION: Final = "SM-PKI-DE"
COUNTRY: Final = "DE"
POLICY: Final = "0.4.0.127.0.7.3.4.1.1.1"
ROOT_NAME: Final = "SM-Test-Root.CA"
SUB_CA_NAME: Final = "SM-Test-Sub.CA"
_YEAR: Final = 365


class Role(Enum):
    """A participant of the PKI; the value is the suffix of its common name."""

    GATEWAY = "SMGW"
    GWA = "GWA"
    EMP = "EMT"
    CA = "CA"


class KeyUsage(Enum):
    """The key usage bits in use."""

    DIGITAL_SIGNATURE = "digitalSignature"
    KEY_AGREEMENT = "keyAgreement"
    CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"


@dataclass(frozen=True, slots=True)
class CertificateProfile:
    """Everything about a certificate that does not depend on whose it is."""

    curve: Curve
    key_usages: frozenset[KeyUsage]
    lifetime_days: int
    path_length: int | None = None
    """Of a CA; None for an end entity."""
    policy: str | None = POLICY

    @property
    def is_ca(self) -> bool:
        """Whether it may issue others."""
        return KeyUsage.CERT_SIGN in self.key_usages


_ISSUING: Final = frozenset({KeyUsage.CERT_SIGN, KeyUsage.CRL_SIGN})

ROOT: Final = CertificateProfile(Curve.BRAINPOOL_P384, _ISSUING, 6 * _YEAR, path_length=1, policy=None)
SUB_CA: Final = CertificateProfile(Curve.BRAINPOOL_P384, _ISSUING, 5 * _YEAR, path_length=0)
END_ENTITY: Final = {
    CertificateUse.TLS: CertificateProfile(
        Curve.BRAINPOOL_P256, frozenset({KeyUsage.DIGITAL_SIGNATURE}), 2 * _YEAR
    ),
    CertificateUse.SIG: CertificateProfile(
        Curve.BRAINPOOL_P256, frozenset({KeyUsage.DIGITAL_SIGNATURE}), 2 * _YEAR
    ),
    CertificateUse.ENC: CertificateProfile(
        Curve.BRAINPOOL_P256, frozenset({KeyUsage.KEY_AGREEMENT}), 2 * _YEAR
    ),
}


def common_name(role: Role, name: str) -> str:
    """Common name of a participant, e.g. "ESGW0100000001.SMGW"; gateway ids are upper case there."""
    return f"{name.upper() if role is Role.GATEWAY else name}.{role.value}"


def gateway_of(name: str) -> str | None:
    """Gateway id (lower case) of a common name, None if it is not a gateway's."""
    identity, dot, suffix = name.rpartition(".")
    return identity.lower() if dot and suffix == Role.GATEWAY.value and identity else None
