"""What may be negotiated on a link, as BSI TR-03116-3 lists it; nothing else is offered. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from hsm.api import Curve
from hsm.tls.provider import tls_group

SESSION_LIMIT_S: Final = 48 * 3600
"""The longest a TLS session may last (BSI TR-03116-3)."""
_BRAINPOOL_IN_TLS13: Final = (3, 2, 0)
_SCHEMES13: Final = {
    Curve.P256: "ECDSA+SHA256",
    Curve.P384: "ECDSA+SHA384",
    Curve.BRAINPOOL_P256: "ecdsa_brainpoolP256r1_sha256",
    Curve.BRAINPOOL_P384: "ecdsa_brainpoolP384r1_sha384",
    Curve.BRAINPOOL_P512: "ecdsa_brainpoolP512r1_sha512",
}


class TlsVersion(IntEnum):
    """Protocol versions; the value is the wire's."""

    TLS12 = 0x303
    TLS13 = 0x304


class Suite12(Enum):
    """Cipher suites of TLS 1.2; the value is OpenSSL's name."""

    AES256_GCM = "ECDHE-ECDSA-AES256-GCM-SHA384"
    AES128_GCM = "ECDHE-ECDSA-AES128-GCM-SHA256"
    AES256_CBC = "ECDHE-ECDSA-AES256-SHA384"
    AES128_CBC = "ECDHE-ECDSA-AES128-SHA256"


class Suite13(Enum):
    """Cipher suites of TLS 1.3; the value is OpenSSL's name."""

    AES256_GCM = "TLS_AES_256_GCM_SHA384"
    AES128_GCM = "TLS_AES_128_GCM_SHA256"
    AES128_CCM = "TLS_AES_128_CCM_SHA256"


@dataclass(frozen=True, slots=True)
class TlsProfile:
    """The rules of one kind of link; order is preference.

    Never negotiable whatever the profile says: renegotiation, compression, resumption, early data,
    versions before 1.2, key exchange without ephemeral keys, groups or hashes that are not listed.
    """

    name: str
    curves: tuple[Curve, ...]
    suites12: tuple[Suite12, ...] = tuple(Suite12)
    suites13: tuple[Suite13, ...] = tuple(Suite13)
    minimum: TlsVersion = TlsVersion.TLS12
    maximum: TlsVersion = TlsVersion.TLS13
    alpn: tuple[str, ...] = ()
    """Application protocols; empty: the extension is not used."""
    max_fragment_bytes: int | None = None
    """RFC 6066: 512, 1024, 2048 or 4096, asked for by clients; None: records up to 16 KiB."""
    handshake_limit_s: float = 30.0
    session_limit_s: float = SESSION_LIMIT_S

    def highest_version(self, library: tuple[int, int, int]) -> TlsVersion:
        """The newest version this profile can speak with an OpenSSL library.

        Before 3.2 a Brainpool curve can neither be a group nor sign in TLS 1.3, and a client that offers
        both is refused by newer servers: such a profile then stays at 1.2.
        """
        brainpool = any(curve.value.startswith("brainpool") for curve in self.curves)
        if brainpool and library < _BRAINPOOL_IN_TLS13:
            return min(self.maximum, TlsVersion.TLS12)
        return self.maximum

    def groups(self, library: tuple[int, int, int]) -> str:
        """The group list for libssl; in TLS 1.3 a Brainpool curve has a second code point."""
        names = []
        for curve in self.curves:
            name = tls_group(curve)
            if curve.value.startswith("brainpool") and self.highest_version(library) >= TlsVersion.TLS13:
                names.append(f"{name}tls13")
            if self.minimum is TlsVersion.TLS12 or not curve.value.startswith("brainpool"):
                names.append(name)
        return ":".join(names)

    def signature_schemes(self, library: tuple[int, int, int], key: Curve | None = None) -> str:
        """The signature algorithms for libssl: those taken from the peer, or those a key of ours makes.

        The module signs digests of its key's own length and no other, hence the list for `key`.
        """
        curves = self.curves if key is None else (key,)
        schemes = [] if key is None else [f"ECDSA+{key.hash_name.upper()}"]
        if key is None:
            schemes = ["ECDSA+SHA256", "ECDSA+SHA384", "ECDSA+SHA512"]
        if self.highest_version(library) >= TlsVersion.TLS13:
            schemes = [*(_SCHEMES13[curve] for curve in curves), *schemes]
        return ":".join(dict.fromkeys(schemes))


WAN: Final = TlsProfile(
    name="WAN",
    curves=(Curve.BRAINPOOL_P256, Curve.BRAINPOOL_P384, Curve.P256),
)
HAN: Final = TlsProfile(
    name="HAN",
    curves=(Curve.BRAINPOOL_P256, Curve.BRAINPOOL_P384, Curve.BRAINPOOL_P512, Curve.P256, Curve.P384),
)
LMN: Final = TlsProfile(
    name="LMN",
    curves=(Curve.BRAINPOOL_P256, Curve.BRAINPOOL_P384, Curve.P256),
    max_fragment_bytes=2048,
    session_limit_s=31 * 24 * 3600,
)
