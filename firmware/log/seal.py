"""A seal: the module's signature over where a log's chain stands. Values and their signed form. No I/O.

Seals stand beside the entries, form a chain of their own, and each says which entry it covers: whoever holds
a seal notices any change of the entries up to it, whatever was done to the file. The form is this project's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from firmware.errors import StoreCorrupt
from hsm.api import PublicKey

_SEAL_DOMAIN: Final = b"smgw log seal 1\x00"
_EXPORT_DOMAIN: Final = b"smgw log export 1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """One signature over the head of a chain."""

    gateway: str
    log: str
    number: int
    """From 1, without gaps."""
    previous: str
    """SHA-256 of the stored bytes of the seal before, hexadecimal; of the log's name for the first."""
    first: int
    """The oldest entry that the log still held."""
    last: int
    """The entry that is sealed, and with it all before."""
    digest: str
    """SHA-256 of the stored bytes of entry `last`, hexadecimal."""
    at_utc: datetime
    signature: str = ""
    """r | s, hexadecimal, by the gateway's SIG key."""

    def signed(self) -> bytes:
        """Return the bytes that the signature is over."""
        return _SEAL_DOMAIN + _ENCODER.encode(replace(self, signature=""))

    def to_bytes(self) -> bytes:
        """Return the bytes that are stored and hashed."""
        return _ENCODER.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Seal:
        """Read what `to_bytes` wrote; any other bytes are StoreCorrupt."""
        try:
            return _DECODER.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise StoreCorrupt("a seal has another form than this firmware writes") from error


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Seal)


def first_previous(log: str) -> str:
    """Return what the first seal of a log follows."""
    return hashlib.sha256(b"smgw seals 1 " + log.encode()).hexdigest()


def seal_digest(data: bytes) -> str:
    """Return what the next seal names as `previous`."""
    return hashlib.sha256(data).hexdigest()


def to_sign(content: bytes, key: PublicKey) -> bytes:
    """Return the digest that a key signs: by the hash that goes with its curve."""
    return hashlib.new(key.curve.hash_name, content).digest()


def export_content(header: bytes, digests: list[str]) -> bytes:
    """Return what the closing signature of an export is over: its header and the digest of each entry."""
    return _EXPORT_DOMAIN + hashlib.sha256(header).digest() + "\n".join(digests).encode()
