"""Object identifiers and algorithm suites of the content data security (BSI TR-03116-3, chapter 8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class ContentType(StrEnum):
    """CMS content types by the names that callers use; `oid` is what goes on the wire."""

    DATA = "data"
    SIGNED = "signed_data"
    AUTH_ENVELOPED = "authenticated_enveloped_data"
    COMPRESSED = "compressed_data"

    @property
    def oid(self) -> str:
        """Dotted object identifier (RFC 5652 4, RFC 5083 2.1, RFC 3274 1.1)."""
        return _CONTENT_OIDS[self]


_CONTENT_OIDS: Final = {
    ContentType.DATA: "1.2.840.113549.1.7.1",
    ContentType.SIGNED: "1.2.840.113549.1.7.2",
    ContentType.AUTH_ENVELOPED: "1.2.840.113549.1.9.16.1.23",
    ContentType.COMPRESSED: "1.2.840.113549.1.9.16.1.9",
}
CONTENT_TYPES: Final = {oid: name for name, oid in _CONTENT_OIDS.items()}

ATTRIBUTE_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
ATTRIBUTE_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
ZLIB: Final = "1.2.840.113549.1.9.16.3.8"

DIGEST_OIDS: Final = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
DIGESTS: Final = {oid: name for name, oid in DIGEST_OIDS.items()}
ECDSA_OIDS: Final = {  # ecdsa-with-SHAx, RFC 5758 3.2
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
WRAP_OIDS: Final = {  # key bytes -> id-aesN-wrap, RFC 3565 2.3.2
    16: "2.16.840.1.101.3.4.1.5",
    24: "2.16.840.1.101.3.4.1.25",
    32: "2.16.840.1.101.3.4.1.45",
}
WRAPS: Final = {oid: size for size, oid in WRAP_OIDS.items()}


class AgreementScheme(Enum):
    """How a key agreement names itself. The mathematics is the same; the identifiers are not."""

    ECKA_EG = "ecka-eg"
    """ecka-eg-X963KDF-SHAx, BSI TR-03111 and TR-03109-1: the default."""
    RFC5753 = "rfc5753"
    """dhSinglePass-stdDH-shaXkdf-scheme: what other CMS programs understand."""

    def oid(self, digest: str) -> str:
        """Identifier of this scheme with X9.63 over `digest`."""
        return _SCHEME_OIDS[self][digest]


_SCHEME_OIDS: Final = {
    AgreementScheme.ECKA_EG: {
        "sha256": "0.4.0.127.0.7.1.1.5.1.1.3",
        "sha384": "0.4.0.127.0.7.1.1.5.1.1.4",
        "sha512": "0.4.0.127.0.7.1.1.5.1.1.5",
    },
    AgreementScheme.RFC5753: {
        "sha256": "1.3.132.1.11.1",
        "sha384": "1.3.132.1.11.2",
        "sha512": "1.3.132.1.11.3",
    },
}
SCHEMES: Final = {
    oid: (scheme, digest) for scheme, by_digest in _SCHEME_OIDS.items() for digest, oid in by_digest.items()
}


class SharedInfo(Enum):
    """What follows the counter in the X9.63 key derivation. TR-03111 leaves it open, so it is a switch."""

    RFC5753 = "rfc5753"
    """DER of ECC-CMS-SharedInfo, RFC 5753 7.2."""
    EMPTY = "empty"


class CipherKind(Enum):
    """How content is encrypted and authenticated."""

    GCM = "gcm"
    """RFC 5084: 96-bit nonce, 128-bit tag."""
    CBC_CMAC = "cbc-cmac"
    """BSI TR-03116-3 8.1.1: IV 0, PKCS#7 padding, CMAC over ciphertext and attributes."""


@dataclass(frozen=True, slots=True)
class _Suite:
    oid: str
    kind: CipherKind
    block_key_bytes: int


class ContentCipher(Enum):
    """A content encryption suite."""

    AES_128_GCM = _Suite("2.16.840.1.101.3.4.1.6", CipherKind.GCM, 16)
    AES_192_GCM = _Suite("2.16.840.1.101.3.4.1.26", CipherKind.GCM, 24)
    AES_256_GCM = _Suite("2.16.840.1.101.3.4.1.46", CipherKind.GCM, 32)
    AES_128_CBC_CMAC = _Suite("0.4.0.127.0.7.1.3.1.1.2", CipherKind.CBC_CMAC, 16)
    AES_192_CBC_CMAC = _Suite("0.4.0.127.0.7.1.3.1.1.3", CipherKind.CBC_CMAC, 24)
    AES_256_CBC_CMAC = _Suite("0.4.0.127.0.7.1.3.1.1.4", CipherKind.CBC_CMAC, 32)

    @property
    def oid(self) -> str:
        """Dotted object identifier."""
        return self.value.oid

    @property
    def kind(self) -> CipherKind:
        """Mode of operation."""
        return self.value.kind

    @property
    def block_key_bytes(self) -> int:
        """Length of one AES key, which is also that of the key encryption key."""
        return self.value.block_key_bytes

    @property
    def key_bytes(self) -> int:
        """Length of the content key: K, or K_enc | K_mac for CBC-CMAC."""
        return self.block_key_bytes * (2 if self.kind is CipherKind.CBC_CMAC else 1)


CIPHERS: Final = {cipher.oid: cipher for cipher in ContentCipher}
