"""Security mode 10 (OMS profile D): AES-128-CCM under a key of this message alone.

Spec: BSI TR-03109-1 detail specifications, 10.3; recipe and vectors: docs/lmn.md 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from lmn.errors import LengthMismatch, MacRefused, SecurityUnsupported
from lmn.mbus.security.mode7 import MIN_MAC_BYTES
from lmn.mbus.transport import Transport

_TAG_BYTES: Final = (4, 8, 12, 16)
_ALL: Final = 0xFF


@dataclass(frozen=True, slots=True)
class Sealed:
    """The parts of a mode 10 telegram."""

    counter: bytes
    """As sent, least significant byte first."""
    tag_bytes: int
    header: bytes
    """From CI up to the counter: authenticated, not encrypted."""
    ciphertext: bytes
    clear: bytes
    """Application data behind the ciphertext that are authenticated only."""
    tag: bytes

    @property
    def associated_data(self) -> bytes:
        """What the tag covers besides the ciphertext; the counter is in the nonce instead."""
        return self.header + self.clear


def split(transport: Transport) -> Sealed:
    """Cut a telegram of mode 10.

    Raises:
        LengthMismatch: it ends too early.
        SecurityUnsupported: a key derivation other than the known one.
        MacRefused: the tag is shorter than 8 bytes.
    """
    raw, position = transport.raw, transport.after_header
    extension = int.from_bytes(raw[position : position + 2], "little")
    position += 3 if extension & 0x40 else 2
    if (derivation := extension >> 4 & 0x03) != 1:
        raise SecurityUnsupported(f"mode 10 with key derivation {derivation}")
    tag_bytes = _TAG_BYTES[extension >> 8 & 0x03]
    if tag_bytes < MIN_MAC_BYTES:
        raise MacRefused(f"authentication tag of {tag_bytes} bytes, at least {MIN_MAC_BYTES} are needed")
    header, counter = raw[:position], raw[position : position + 4]
    body = raw[position + 4 : -tag_bytes]
    encrypted = transport.configuration & 0xFF
    if encrypted == _ALL:
        encrypted = len(body)
    if position + 4 + tag_bytes > len(raw) or encrypted > len(body):
        raise LengthMismatch("telegram ends before its authentication tag")
    return Sealed(counter, tag_bytes, header, body[:encrypted], body[encrypted:], raw[-tag_bytes:])


def nonce(address: bytes, counter: bytes) -> bytes:
    """M and A in the link's order, one zero byte, the counter most significant byte first: 13 bytes."""
    return address + b"\x00" + counter[::-1]


def decrypt(encryption_key: bytes, address: bytes, sealed: Sealed) -> bytes:
    """Check the tag, then return the plain application data.

    Raises:
        MacRefused: the tag does not match.
    """
    cipher = AESCCM(encryption_key, tag_length=sealed.tag_bytes)
    try:
        plain = cipher.decrypt(
            nonce(address, sealed.counter), sealed.ciphertext + sealed.tag, sealed.associated_data
        )
    except InvalidTag as error:
        raise MacRefused("authentication tag does not match: wrong key or altered telegram") from error
    return plain + sealed.clear
