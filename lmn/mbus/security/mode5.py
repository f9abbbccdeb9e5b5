"""Security mode 5 (OMS profile A): AES-128-CBC under the meter's own key. Has no integrity.

A wrong key passes its check with a probability of 2**-16, and a telegram can be replayed or altered:
only meter profiles with `open` reception accept it.
Spec: EN 13757-7; recipe and vectors: docs/lmn.md 1.6.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from lmn.errors import KeyRefused, LengthMismatch

BLOCK: Final = 16
VERIFICATION: Final = b"\x2f\x2f"
"""First two plaintext bytes; any other value means that the key is another one."""


def block_count(configuration: int) -> int:
    """Encrypted blocks of 16 bytes, from CF."""
    return configuration >> 4 & 0x0F


def initialisation_vector(address: bytes, access_no: int) -> bytes:
    """M and A in the link's order, then eight times the access number."""
    return address + bytes((access_no,)) * 8


def decrypt_cbc(key: bytes, vector: bytes, data: bytes, blocks: int) -> bytes:
    """Decrypt the leading blocks and append the clear tail.

    Raises:
        LengthMismatch: there are fewer blocks than announced.
        KeyRefused: the verification bytes are wrong, or nothing is encrypted.
    """
    size = blocks * BLOCK
    if size > len(data):
        raise LengthMismatch(f"{blocks} encrypted blocks announced, {len(data)} bytes left")
    decryptor = Cipher(AES(key), CBC(vector)).decryptor()
    plain = decryptor.update(data[:size])
    if plain[:2] != VERIFICATION:
        raise KeyRefused("decryption check 2F2F failed: wrong key")
    return plain + data[size:]
