"""Keys of a DC-net: from the agreed secret of an edge to the key of one epoch. Never holds state.

Spec: docs/dcnet.md, "Exact constructions" (scheme smgw-dc/1).
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

SCHEME: Final = b"smgw-dc/1"
KEY_BYTES: Final = 16
NET_BYTES: Final = 8
TAG_BYTES: Final = 8


def kdf(key: bytes, label: str, *context: bytes, length: int) -> bytes:
    """Derive `length` bytes by HKDF-Expand (SHA-256); scheme, label and context are length-prefixed.

    Args:
        key: the secret, any length.
        label: what the result is for, ASCII.
        context: what it is bound to, each at most 65535 bytes.
        length: 1 .. 8160.
    """
    parts = (SCHEME, label.encode("ascii"), *context)
    info = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive(key)


def edge_root(secret: bytes, roster_hash: bytes, lower: bytes, higher: bytes) -> bytes:
    """Return K_uv (16 bytes) of an edge.

    Args:
        secret: Z, the secret agreed by the two DCNET keys.
        roster_hash: binds the key to one roster.
        lower: pseudonym of the member with the smaller index.
        higher: pseudonym of the member with the larger index.
    """
    return _hkdf(secret, roster_hash, SCHEME + b" edge" + lower + higher)


def confirm_tag(root: bytes, roster_hash: bytes, *, upward: bool) -> bytes:
    """Return the tag (8 bytes) by which one end of an edge shows the other that it holds K_uv.

    Args:
        root: K_uv.
        roster_hash: of the roster that the edge belongs to.
        upward: from the smaller index to the larger, which is direction 0; else 1.
    """
    return kdf(root, "confirm", roster_hash, bytes((not upward,)), length=TAG_BYTES)


def chain_start(root: bytes, net: bytes) -> bytes:
    """Return CK0, the chain key of the roster's first epoch."""
    return kdf(root, "chain0", net, length=KEY_BYTES)


def chain_next(chain: bytes, net: bytes) -> bytes:
    """Return the chain key of the following epoch; whoever erases the old one cannot come back."""
    return kdf(chain, "chain", net, length=KEY_BYTES)


def epoch_key(chain: bytes, net: bytes, epoch: int) -> bytes:
    """Return EK, the key of an edge in `epoch` (u32), from that epoch's chain key."""
    return kdf(chain, "epoch", net, epoch.to_bytes(4, "big"), length=KEY_BYTES)


def mac_key(secret: bytes, roster_hash: bytes, net: bytes, version: int) -> bytes:
    """Return the AES-CMAC key of a member's frames.

    Args:
        secret: Z, agreed by the member's DCNET key and the EMP's ENC key.
        roster_hash: binds the key to one roster.
        net: the net's identifier, 8 bytes.
        version: the roster's version, u32.
    """
    root = _hkdf(secret, roster_hash, SCHEME + b" emp")
    return kdf(root, "mac", net, version.to_bytes(4, "big"), length=KEY_BYTES)


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)
