"""Security mode 7 (OMS profile B): AES-128-CBC and AES-CMAC under keys of this message alone.

Spec: BSI TR-03109-1 detail specifications, 10; EN 13757-7; recipe and vectors: docs/lmn.md 1.6.
"""

from __future__ import annotations

import hmac
from typing import Final

from lmn.errors import LengthMismatch, MacRefused, MalformedFrame, SecurityUnsupported
from lmn.mbus.security.derivation import aes_cmac
from lmn.mbus.security.mode5 import BLOCK, VERIFICATION, block_count, decrypt_cbc
from lmn.mbus.transport import Authentication, Transport

MIN_MAC_BYTES: Final = 8
"""TR-03116-3, 7.3: 128 or 64 bit. Shorter codes can be forged by trying."""

_ZERO_VECTOR: Final = bytes(16)
_HAS_COUNTER: Final = 0x2000


def mac_input(authentication: Authentication, transport: Transport) -> bytes:
    """The authenticated bytes: MCL, key information, counter, length, then all from the TPL's CI on."""
    control = b"" if authentication.message_control is None else bytes((authentication.message_control,))
    return (
        control
        + authentication.key_information
        + (authentication.counter or b"")
        + authentication.message_length
        + transport.raw
    )


def check_mac(key: bytes, authentication: Authentication, transport: Transport) -> None:
    """Compare in constant time.

    Raises:
        MacRefused: the code is missing, shorter than 8 bytes, or wrong.
    """
    mac = authentication.mac
    if len(mac) < MIN_MAC_BYTES:
        raise MacRefused(f"authentication code of {len(mac)} bytes, at least {MIN_MAC_BYTES} are needed")
    expected = aes_cmac(key, mac_input(authentication, transport))
    if not hmac.compare_digest(expected[: len(mac)], mac):
        raise MacRefused("authentication code does not match: wrong key or altered telegram")


def _payload_offset(authentication: Authentication, transport: Transport) -> int:
    """Where the encrypted data begin in `transport.raw`, behind CFE, key version and counter."""
    raw, position = transport.raw, transport.after_header
    if position >= len(raw):
        raise LengthMismatch("telegram ends before the configuration field extension")
    extension = raw[position]
    position += 1
    if (derivation := extension >> 4 & 0x03) != 1:
        raise SecurityUnsupported(f"mode 7 with key derivation {derivation}")
    if extension & 0x40:
        position += 1  # key version: which key is meant is the profile's business
    if transport.configuration & _HAS_COUNTER:
        if raw[position : position + 4] != authentication.counter:
            raise MalformedFrame("two message counters that differ")
        position += 4
    if position > len(raw):
        raise LengthMismatch("telegram ends inside the configuration field extension")
    return position


def clear_text(authentication: Authentication, transport: Transport) -> bytes | None:
    """Application data that someone decrypted and left in place, as published telegrams often are; else None.

    Nothing vouches for them: worth as much as a telegram without protection.

    Raises:
        LengthMismatch, MalformedFrame, SecurityUnsupported: the fields do not fit.
    """
    data = transport.raw[_payload_offset(authentication, transport) :]
    blocks = block_count(transport.configuration)
    return data if data[:2] == VERIFICATION and 0 < blocks * BLOCK <= len(data) else None


def decrypt(encryption_key: bytes, authentication: Authentication, transport: Transport) -> bytes:
    """Plain application data; only after `check_mac`.

    Raises:
        LengthMismatch, MalformedFrame, SecurityUnsupported: the fields do not fit.
        KeyRefused: the verification bytes are wrong although the code was right.
    """
    data = transport.raw[_payload_offset(authentication, transport) :]
    blocks = block_count(transport.configuration)
    return decrypt_cbc(encryption_key, _ZERO_VECTOR, data, blocks)
