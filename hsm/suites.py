"""The cipher suites of PACE and secure messaging, and the algorithms both ends of the link compute.

TR-03110-3 v2.2: A.2.3 (key derivation), F (secure messaging). The vectors of ICAO 9303-11 and BSI judge it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsm import tlv

BLOCK = 16
MAC_BYTES = 8
_PACE_ECDH_GM = bytes.fromhex("04007f000702020402")


@dataclass(frozen=True, slots=True)
class Suite:
    """One id-PACE-ECDH-GM-AES-CBC-CMAC-*: OID (value octets), hash of the KDF, key length."""

    oid: bytes
    hash_name: str
    key_bytes: int


SUITES: tuple[Suite, ...] = (
    Suite(_PACE_ECDH_GM + b"\x02", "sha1", 16),
    Suite(_PACE_ECDH_GM + b"\x03", "sha256", 24),
    Suite(_PACE_ECDH_GM + b"\x04", "sha256", 32),
)
AES128, AES192, AES256 = SUITES
BY_OID = {suite.oid: suite for suite in SUITES}


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """What PACE leaves behind; its repr shows nothing."""

    suite: Suite
    encryption: bytes
    mac: bytes


def derive(suite: Suite, secret: bytes, counter: int) -> bytes:
    """KDF(K, c): counter 1 encryption, 2 MAC, 3 password."""
    # SHA-1 is what the specification prescribes for AES-128 keys.
    digest = hashlib.new(suite.hash_name, secret + counter.to_bytes(4, "big"), usedforsecurity=True)
    return digest.digest()[: suite.key_bytes]


def session_keys(suite: Suite, shared_x: bytes) -> SessionKeys:
    """Both session keys from the x-coordinate at full field length."""
    return SessionKeys(suite, derive(suite, shared_x, 1), derive(suite, shared_x, 2))


def cbc(key: bytes, iv: bytes) -> Cipher[modes.CBC]:
    """AES-CBC without padding."""
    return Cipher(AES(key), modes.CBC(iv))


def crypt_nonce(suite: Suite, password: bytes, nonce: bytes, *, encrypt: bool) -> bytes:
    """Encrypt or decrypt the PACE nonce under the key derived from the password (IV 0, no padding)."""
    cipher = cbc(derive(suite, password, 3), bytes(BLOCK))
    context = cipher.encryptor() if encrypt else cipher.decryptor()
    return context.update(nonce) + context.finalize()


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC, 16 bytes (NIST SP 800-38B)."""
    context = CMAC(AES(key))
    context.update(message)
    return context.finalize()


def token(keys: SessionKeys, received_point: bytes) -> bytes:
    """Authentication token over the ephemeral point one has received (TR-03110-3, A.2.4, D.3)."""
    key_object = tlv.encode(0x7F49, tlv.encode(0x06, keys.suite.oid) + tlv.encode(0x86, received_point))
    return cmac(keys.mac, key_object)[:MAC_BYTES]


def pad(data: bytes) -> bytes:
    """Append 80 00.. up to a whole block, always at least one byte (ISO/IEC 9797-1, method 2)."""
    return data + b"\x80" + bytes(-(len(data) + 1) % BLOCK)
