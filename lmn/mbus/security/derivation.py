"""Keys for one message, from the meter's master key and its message counter.

Two look-alike rules, on purpose in two functions: the wired pairing sends its counter most significant
byte first and uses the ten-byte server id; radio telegrams send it least significant byte first and use
the four-byte identification.
Spec: BSI TR-03116-3, 7.2; BSI TR-03109-1 detail specifications, 8.3 and 10; EN 13757-7; RFC 4493.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC

KEY_BYTES: Final = 16
_CACHED_KEYS: Final = 256
"""Meters of a large house; a key set up again costs microseconds."""

_WIRELESS_PAD: Final = bytes((7,)) * 7
_WIRED_PAD: Final = b"\x01"


def aes_cmac(key: bytes, message: bytes) -> bytes:
    """AES-128-CMAC, 16 bytes. Spec: RFC 4493."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


@lru_cache(maxsize=_CACHED_KEYS)
def _block_cipher(key: bytes) -> tuple[CipherContext, int]:
    """The raw block cipher under a master key and RFC 4493's subkey K1 as a number.

    For the event loop's thread only: the context is shared by all calls.
    """
    cipher = Cipher(AES(key), ECB()).encryptor()  # noqa: S305  # single blocks inside CMAC, not a mode
    doubled = int.from_bytes(cipher.update(bytes(16)), "big") << 1
    if doubled >> 128:
        doubled = doubled & (1 << 128) - 1 ^ 0x87
    return cipher, doubled


def wireless_keys(master: bytes, counter: bytes, identification: bytes) -> tuple[bytes, bytes]:
    """Kenc and Kmac of a radio telegram from the meter.

    Args:
        master: the meter's master key, 16 bytes.
        counter: 4 bytes as on the air, least significant first.
        identification: 4 bytes as on the air.
    """
    cipher, subkey = _block_cipher(master)
    # The input is exactly one block, so CMAC is one encryption of (input xor K1); both keys in one call.
    tail = counter + identification + _WIRELESS_PAD
    encryption = (int.from_bytes(b"\x00" + tail, "big") ^ subkey).to_bytes(16, "big")
    authentication = (int.from_bytes(b"\x01" + tail, "big") ^ subkey).to_bytes(16, "big")
    keys = cipher.update(encryption + authentication)
    return keys[:16], keys[16:]


@dataclass(frozen=True, slots=True, repr=False)
class WiredKeys:
    """The four keys of one counter value on the wire."""

    encryption: bytes
    """Kenc, meter to gateway."""
    authentication: bytes
    """Kmac, meter to gateway."""
    gateway_encryption: bytes
    """Lenc, gateway to meter."""
    gateway_authentication: bytes
    """Lmac, gateway to meter."""


def wired_keys(master: bytes, counter: int, server_id: bytes) -> WiredKeys:
    """Keys of a symmetric pairing message.

    Args:
        master: the meter's master key, 16 bytes.
        counter: 0 <= counter < 2**32.
        server_id: 10 bytes, leading 0A included.

    Raises:
        ValueError: the server id has another length.
    """
    if len(server_id) != 10:
        raise ValueError(f"a server id has 10 bytes, not {len(server_id)}")
    tail = counter.to_bytes(4, "big") + server_id + _WIRED_PAD
    return WiredKeys(*(aes_cmac(master, bytes((use,)) + tail) for use in (0x00, 0x01, 0x10, 0x11)))
