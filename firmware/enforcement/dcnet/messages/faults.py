"""Documents about faults: the order to recover lost members, and those of a canary audit. Codec only.

Spec: docs/dcnet.md, messages; members lost after the manifest; canary audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.primitives.arithmetic import MODULUS


@dataclass(frozen=True, slots=True)
class RecoveryOrder:
    """Whose self-masks are to be recovered: signed by the EMP, co-signed by the witness, one a slot."""

    KIND: ClassVar[int] = 6

    net: bytes
    version: int
    slot: int
    manifest_hash: bytes
    lost: bytes
    """Bitmap F."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.slot, self.manifest_hash, self.lost])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.octets(),
        )


@dataclass(frozen=True, slots=True)
class CanaryStatement:
    """One member's masks on the canary lane of one slot, signed by it; says nothing of other lanes."""

    KIND: ClassVar[int] = 7

    net: bytes
    version: int
    slot: int
    index: int
    manifest_hash: bytes
    mask: int
    """The canary word of b."""
    pads: tuple[tuple[int, int], ...]
    """(neighbour, canary word of the pad) of every expected neighbour, rising; without direction."""

    def to_bytes(self) -> bytes:
        """Encode."""
        pads = [list(pad) for pad in self.pads]
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.slot,
                self.index,
                self.manifest_hash,
                self.mask,
                pads,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 8, cls.KIND)
        statement = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.number(MODULUS),
            tuple(_pad(item) for item in fields.array()),
        )
        neighbours = [neighbour for neighbour, _ in statement.pads]
        if neighbours != sorted(set(neighbours)):
            raise MalformedObject("the neighbours of an audit do not rise")
        return statement


def _pad(item: object) -> tuple[int, int]:
    fields = Fields(item, 2)
    return fields.number(U32), fields.number(MODULUS)


@dataclass(frozen=True, slots=True)
class AuditOrder:
    """The EMP asks every accepted member of one slot for its `CanaryStatement`; signed by the EMP."""

    KIND: ClassVar[int] = 21

    net: bytes
    version: int
    slot: int
    manifest_hash: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.slot, self.manifest_hash])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 5, cls.KIND)
        return cls(
            fields.octets(NET_BYTES), fields.number(U32), fields.number(U32), fields.octets(HASH_BYTES)
        )


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit brought, for the administrators: enough to judge it again. Signed by the EMP."""

    KIND: ClassVar[int] = 22

    net: bytes
    version: int
    slot: int
    manifest_hash: bytes
    present: bytes
    """Bitmap P."""
    words: tuple[tuple[int, int, int], ...]
    """(member, canary word submitted, canary word opened) of the accepted members, rising."""
    statements: tuple[bytes, ...]
    """Each signed by its member."""
    excused: bytes
    """Bitmap of accepted members that had to say nothing: they were audited before."""

    def to_bytes(self) -> bytes:
        """Encode."""
        words = [list(word) for word in self.words]
        head = [self.KIND, self.net, self.version, self.slot, self.manifest_hash, self.present]
        return encode([*head, words, list(self.statements), self.excused])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 9, cls.KIND)
        report = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.octets(),
            tuple(_word(item) for item in fields.array()),
            tuple(octets(item) for item in fields.array()),
            fields.octets(),
        )
        members = [member for member, _, _ in report.words]
        if members != sorted(set(members)):
            raise MalformedObject("the members of an audit do not rise")
        return report


def _word(item: object) -> tuple[int, int, int]:
    fields = Fields(item, 3)
    return fields.number(U32), fields.number(MODULUS), fields.number(MODULUS)
