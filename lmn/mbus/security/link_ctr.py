"""Encryption of the extended link layer: AES-128-CTR with a payload CRC. No authentication.

Only meter profiles with `open` reception accept it.
Source: docs/lmn.md 1.6 (public decoders; checked on a published vector).
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from lmn.crc import crc16_en13757
from lmn.errors import ChecksumMismatch, KeyRefused, LengthMismatch, SecurityUnsupported
from lmn.mbus.transport import ExtendedLink

_HOP, _REPEATED = 0x10, 0x02
_NONE, _AES_CTR = 0, 1


def encryption(extended: ExtendedLink) -> int:
    """Top three bits of the session number: 0 none, 1 AES-CTR."""
    return extended.session[3] >> 5 if extended.session else _NONE


def initialisation_vector(address: bytes, extended: ExtendedLink) -> bytes:
    """Counter block of the first 16 bytes; the bits that a repeater may set are left out."""
    control = extended.communication_control & ~(_HOP | _REPEATED) & 0xFF
    return address + bytes((control,)) + (extended.session or bytes(4)) + bytes(3)


def apply(key: bytes, vector: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt, which is the same."""
    return Cipher(AES(key), CTR(vector)).encryptor().update(data)


def has_valid_crc(payload: bytes) -> bool:
    """Whether the two bytes in front are the checksum of the rest, low byte first."""
    return crc16_en13757(payload[2:]) == int.from_bytes(payload[:2], "little")


def decrypt(key: bytes | None, address: bytes, extended: ExtendedLink, sealed: bytes) -> tuple[bytes, bool]:
    """What lies above the extended link layer, and whether it was encrypted.

    Without a key a telegram whose checksum is right as it stands is taken for what it is: clear text.

    Raises:
        LengthMismatch: nothing behind the payload CRC.
        ChecksumMismatch: sent in clear and damaged.
        KeyRefused: no key, or the payload CRC does not match under it.
        SecurityUnsupported: another encryption.
    """
    if len(sealed) < 3:
        raise LengthMismatch("telegram ends inside the extended link layer")
    kind = encryption(extended)
    if kind == _NONE:
        if not has_valid_crc(sealed):
            raise ChecksumMismatch("payload CRC of the extended link layer is wrong")
        return sealed[2:], False
    if kind != _AES_CTR:
        raise SecurityUnsupported(f"extended link layer with encryption {kind}")
    if key is None:
        if has_valid_crc(sealed):
            return sealed[2:], False
        raise KeyRefused("encrypted in the extended link layer, and no key is given")
    plain = apply(key, initialisation_vector(address, extended), sealed)
    if not has_valid_crc(plain):
        raise KeyRefused("payload CRC does not match after decryption: wrong key")
    return plain[2:], True
