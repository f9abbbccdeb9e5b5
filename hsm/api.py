"""What the gateway may ask of its security module. Declarations only.

Points are uncompressed (04 | x | y), signatures are plain (r | s, each half as long as the curve's
order), shared secrets are the x-coordinate at full field length (BSI TR-03111 v2.1, 5.1.2, 5.2, 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol


class Curve(Enum):
    """The five curves of BSI TR-03116-3; the value is libcrypto's short name."""

    P256 = "prime256v1"
    P384 = "secp384r1"
    BRAINPOOL_P256 = "brainpoolP256r1"
    BRAINPOOL_P384 = "brainpoolP384r1"
    BRAINPOOL_P512 = "brainpoolP512r1"

    @property
    def field_bytes(self) -> int:
        """Length of one coordinate, and here also of the group order, in bytes."""
        return _FIELD_BYTES[self]

    @property
    def hash_name(self) -> str:
        """The hash that goes with the curve, as hashlib names it."""
        return {32: "sha256", 48: "sha384", 64: "sha512"}[self.field_bytes]


_FIELD_BYTES = {
    Curve.P256: 32,
    Curve.P384: 48,
    Curve.BRAINPOOL_P256: 32,
    Curve.BRAINPOOL_P384: 48,
    Curve.BRAINPOOL_P512: 64,
}


class KeySlot(IntEnum):
    """Named key pairs of the gateway; the value is the key reference of the default profile."""

    WAN_TLS = 0x01
    WAN_SIG = 0x02
    WAN_ENC = 0x03
    HAN_TLS = 0x04
    LMN_TLS = 0x05
    STORE = 0x08
    DCNET_1 = 0x10
    DCNET_2 = 0x11
    DCNET_3 = 0x12
    DCNET_4 = 0x13


class CertificateUse(Enum):
    """The triple of a participant of the SM-PKI."""

    TLS = "tls"
    SIG = "sig"
    ENC = "enc"


class DataObject(IntEnum):
    """Elementary files of the module; the value is the file identifier of the default profile."""

    CARD_ACCESS = 0x011C
    IDENTIFIERS = 0x0101


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point on a curve, not yet known to be a good one."""

    curve: Curve
    point: bytes


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """A key pair for one agreement; `reference` means something to the module alone."""

    reference: int
    public: PublicKey


class SecurityModule(Protocol):
    """The operations of a TR-03109-2 module that the gateway uses.

    Every call may raise an `HsmError`; a call that was not acknowledged has no effect that
    repeating it would double, except that ephemeral keys are used up.
    """

    async def random(self, count: int) -> bytes:
        """Return `count` random bytes (1..256) of the module's generator."""

    async def generate_key_pair(self, slot: KeySlot, curve: Curve) -> PublicKey:
        """Make a new key pair in `slot`, replacing what was there."""

    async def public_key(self, slot: KeySlot) -> PublicKey:
        """Return the public half of `slot`; `CommandRefused` (6A88) if it is empty."""

    async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
        """Sign a digest whose length is that of the curve's hash; returns r | s."""

    async def agree(self, slot: KeySlot, peer_point: bytes) -> bytes:
        """ECKA of the static key in `slot` with a peer's point; returns Z."""

    async def generate_ephemeral(self, curve: Curve) -> EphemeralKey:
        """Make a key pair for one agreement, in one of the module's few ephemeral slots."""

    async def agree_ephemeral(self, key: EphemeralKey, peer_point: bytes) -> bytes:
        """ECKA of an ephemeral key; returns Z. The key is erased, whatever the outcome."""

    async def discard_ephemeral(self, key: EphemeralKey) -> None:
        """Erase an ephemeral key that will not be used; erasing twice is no error."""

    async def read_object(self, name: DataObject) -> bytes:
        """Return the whole content of an elementary file."""

    async def write_object(self, name: DataObject, data: bytes) -> None:
        """Replace the content of an elementary file."""
