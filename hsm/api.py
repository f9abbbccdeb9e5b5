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


PENDING = 0x80
"""Set in the reference of the slot in which the successor of a key waits to be activated."""


class KeySlot(IntEnum):
    """Named key pairs of the gateway; the value is the key reference of the default profile.

    A slot `*_NEXT` holds the pending successor: it can sign its own certificate request and is read like
    any other; `SecurityModule.activate` puts it in the place of the current one.
    """

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
    WAN_TLS_NEXT = 0x81
    WAN_SIG_NEXT = 0x82
    WAN_ENC_NEXT = 0x83
    HAN_TLS_NEXT = 0x84
    LMN_TLS_NEXT = 0x85
    DCNET_1_NEXT = 0x90
    DCNET_2_NEXT = 0x91
    DCNET_3_NEXT = 0x92
    DCNET_4_NEXT = 0x93

    @property
    def pending(self) -> KeySlot:
        """The slot of the successor; ValueError if this one has none."""
        return KeySlot(self | PENDING)


class PublicSlot(IntEnum):
    """Public keys that the module checks signatures with; the value is the default profile's reference."""

    ROOT = 0x31
    ROOT_NEXT = 0xB1
    ADMINISTRATOR = 0x32
    PEER_1 = 0x38
    PEER_2 = 0x39
    PEER_3 = 0x3A
    PEER_4 = 0x3B
    VERIFIED = 0x3F
    """The key of the certificate verified last in this session: the next link of a chain."""


class LifeCycle(Enum):
    """Life-cycle state of the module (ISO/IEC 7816-4, 7.4.10; phases of TR-03109-2), in their order."""

    INITIALISED = "initialised"
    PRE_PERSONALISED = "pre-personalised"
    PERSONALISED = "personalised"
    OPERATIONAL = "operational"
    TERMINATED = "terminated"


class CertificateUse(Enum):
    """The triple of a participant of the SM-PKI."""

    TLS = "tls"
    SIG = "sig"
    ENC = "enc"


class DataObject(IntEnum):
    """Elementary files of the module; the value is the file identifier of the default profile."""

    CARD_ACCESS = 0x011C
    IDENTIFIERS = 0x0101
    CRYPTO_INFO = 0x0102
    CERTIFICATES = 0x0103
    OWN_DATA = 0x0104
    COUNTER = 0x0105
    STATUS = 0x0106


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


@dataclass(frozen=True, slots=True)
class ModuleStatus:
    """What a module tells about itself; nothing secret. References are those of its profile."""

    serial: bytes
    life_cycle: LifeCycle
    tries_left: int
    tries: int
    keys: frozenset[int]
    public_keys: frozenset[int]
    deactivated: frozenset[int]


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A key pair made for another device; `reference` means something to the module alone."""

    reference: int
    public: PublicKey


@dataclass(frozen=True, slots=True, repr=False)
class WrappedKey:
    """A private key on its way to its owner: AES key wrap (RFC 3394) under a key agreed by ECKA-EG.

    The key-encryption key is X9.63-KDF with SHA-256 over Z and the service key's public point, 32 bytes.
    """

    ephemeral_point: bytes
    wrapped: bytes


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

    async def verify(self, key: PublicKey, digest: bytes, signature: bytes) -> bool:
        """Check r | s over a digest; False if it does not hold, `CommandRefused` for what is no key."""

    async def counter(self) -> int:
        """Return the monotonic counter, the anchor of the stores against roll-back."""

    async def increase_counter(self) -> int:
        """Add one to the monotonic counter, durably; return it. Not repeated after a loss: read it then."""

    async def activate(self, slot: KeySlot) -> None:
        """Put the pending key of `slot` in the place of its current one, which is erased."""

    async def delete_key(self, slot: KeySlot) -> None:
        """Erase a key pair; one that is not there is no error."""

    async def generate_service_key(self, curve: Curve, receiver: PublicKey) -> ServiceKey:
        """Make a key pair for the device that owns `receiver`; `CommandRefused` (6A84) if none is free."""

    async def sign_service(self, key: ServiceKey, digest: bytes) -> bytes:
        """Sign with a service key that has not left yet, e.g. its certificate request."""

    async def export_service_key(self, key: ServiceKey) -> WrappedKey:
        """Let a service key leave, once, wrapped for its receiver; it is erased before the answer comes."""

    async def discard_service_keys(self) -> None:
        """Erase every service key that has not left: what an interrupted caller left behind."""
