"""How members and supplier treat each other: calendar, receipts, refusals, a day's digest. Codec.

One encoding each, see `messages.roster`. Receipts and refusals carry the MAC of the member's frames behind
the encoding; a frame begins with its version 1, a document with an array, so neither stands for the other.
Spec: docs/dcnet.md, messages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import ClassVar, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC

from firmware.enforcement.dcnet.errors import MalformedObject, Refusal
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES

MAX_RANGES: Final = 1024
MAX_DAY_SLOTS: Final = 1 << 17
_DAY_ITEMS: Final = 5 * MAX_DAY_SLOTS
"""A day has 86 400 slots of one second."""
MAX_NOTE_BYTES: Final = 1 << 10
_U63: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which slots of a net are not used, signed by the EMP. It cannot change the grid, only name it."""

    KIND: ClassVar[int] = 40

    net: bytes
    slot_s: int
    t0_ms: int
    """Since 1970-01-01 UTC; with `slot_s` the grid, which must be the policy's."""
    first_slot: int
    slots: int
    """It rules the slots first_slot .. first_slot + slots - 1, once and for all."""
    blocked: tuple[tuple[int, int], ...]
    """(first, last) of each run of slots without a sum; they rise."""
    jitter_ms: int
    """A submission leaves at an instant, drawn by its member, of so many ms after the slot's end."""

    @property
    def last_slot(self) -> int:
        """Return the last slot it rules."""
        return self.first_slot + self.slots - 1

    def to_bytes(self) -> bytes:
        """Encode."""
        blocked = [list(one) for one in self.blocked]
        return encode(
            [
                self.KIND,
                self.net,
                self.slot_s,
                self.t0_ms,
                self.first_slot,
                self.slots,
                blocked,
                self.jitter_ms,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 8, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(_U63),
            fields.number(U32),
            fields.number(U32),
            tuple(_range(item) for item in _at_most(fields.array(), MAX_RANGES)),
            fields.number(U32),
        )
        ends = [slot for one in found.blocked for slot in one]
        pairs = pairwise(ends)
        # Within a run the ends may be equal, between two runs they must rise.
        if any(b < a or (number % 2 and b == a) for number, (a, b) in enumerate(pairs)):
            raise MalformedObject("the blocked slots of a calendar do not rise")
        return found


@dataclass(frozen=True, slots=True)
class CalendarPublication:
    """The signed calendars in force and to come."""

    signed: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(list(self.signed))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form, or more than 8, raises `MalformedObject`."""
        item = decode(data)
        if not isinstance(item, list):
            raise MalformedObject("a list of calendars was expected")
        return cls(tuple(octets(one) for one in _at_most(item, 8)))


class Taken(IntEnum):
    """What the EMP did with a submission."""

    ACCEPTED = 1
    LATE = 2
    DUPLICATE = 3
    """It had these very bytes before, so they are accepted."""
    CONFLICT = 4
    """It had others before: the member has signed two values for one slot."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The EMP's answer to one Submit, with the MAC of the member's key."""

    KIND: ClassVar[int] = 41

    net: bytes
    version: int
    slot: int
    index: int
    digest: bytes
    """Of the submission."""
    taken: Taken

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [self.KIND, self.net, self.version, self.slot, self.index, self.digest, int(self.taken)]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 7, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.member(Taken),
        )


@dataclass(frozen=True, slots=True)
class ReceiptDay:
    """All receipts of one member and epoch, signed by the EMP: what a MAC cannot prove to others."""

    KIND: ClassVar[int] = 42

    net: bytes
    version: int
    epoch: int
    index: int
    receipts: tuple[tuple[int, bytes, Taken], ...]
    """(slot, digest, what was done with it), slots rise."""

    def to_bytes(self) -> bytes:
        """Encode."""
        receipts = [[slot, name, int(taken)] for slot, name, taken in self.receipts]
        return encode([self.KIND, self.net, self.version, self.epoch, self.index, receipts])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data, _DAY_ITEMS), 6, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            tuple(_received(item) for item in _at_most(fields.array(), MAX_DAY_SLOTS)),
        )
        _rise([slot for slot, _, _ in found.receipts])
        return found


REFUSAL_CODES: Final = {
    Refusal.SIGNATURE: 1,
    Refusal.FORM: 2,
    Refusal.PREVIOUS: 3,
    Refusal.LEAF: 4,
    Refusal.NOT_PRESENT: 5,
    Refusal.EXCLUDED: 6,
    Refusal.COMPONENT: 7,
    Refusal.DEGREE: 8,
    Refusal.LATE: 9,
}
_REFUSALS: Final = {code: refusal for refusal, code in REFUSAL_CODES.items()}


@dataclass(frozen=True, slots=True)
class RefusalNotice:
    """Why one member does not open one slot, with the MAC of its key."""

    KIND: ClassVar[int] = 43

    net: bytes
    version: int
    slot: int
    index: int
    refusal: Refusal
    manifest_hash: bytes
    """Zeros if there was no manifest with the right past."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.slot,
                self.index,
                REFUSAL_CODES[self.refusal],
                self.manifest_hash,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 7, cls.KIND)
        net, version = fields.octets(NET_BYTES), fields.number(U32)
        slot, index, code = fields.number(U32), fields.number(U32), fields.number(256)
        if code not in _REFUSALS:
            raise MalformedObject(f"{code} is no code of a refusal")
        return cls(net, version, slot, index, _REFUSALS[code], fields.octets(HASH_BYTES))


@dataclass(frozen=True, slots=True)
class SentFrames:
    """What one member sent in one slot: digests of its frames without their MACs."""

    slot: int
    submitted: bytes
    opened: bytes = b""
    """Empty: not opened."""


@dataclass(frozen=True, slots=True)
class SlotDigest:
    """Everything a member sent in one epoch, signed by it once: `chained` links it to the epoch before."""

    KIND: ClassVar[int] = 46

    net: bytes
    version: int
    index: int
    epoch: int
    before: bytes
    """`chained` of the digest before; zeros in the first."""
    frames: tuple[SentFrames, ...]
    """Slots rise."""

    @property
    def chained(self) -> bytes:
        """Return the end of the hash chain over `before` and every slot."""
        name = self.before
        for one in self.frames:
            name = hashlib.sha256(encode([name, one.slot, one.submitted, one.opened])).digest()
        return name

    def to_bytes(self) -> bytes:
        """Encode."""
        frames = [[one.slot, one.submitted, one.opened] for one in self.frames]
        return encode(
            [self.KIND, self.net, self.version, self.index, self.epoch, self.before, frames, self.chained]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form, or a broken chain, raises `MalformedObject`."""
        fields = Fields(decode(data, _DAY_ITEMS), 8, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            tuple(_sent(item) for item in _at_most(fields.array(), MAX_DAY_SLOTS)),
        )
        _rise([one.slot for one in found.frames])
        if fields.octets(HASH_BYTES) != found.chained:
            raise MalformedObject("the chain of a digest does not lead where it says")
        return found


def seal_note(body: bytes, key: bytes) -> bytes:
    """Append the AES-CMAC (16 bytes) of a receipt or refusal."""
    mac = CMAC(AES128(key))
    mac.update(body)
    return body + mac.finalize()


def unseal_note(sealed: bytes, key: bytes) -> bytes:
    """Check and remove the MAC of a receipt or refusal; `MalformedObject` if it does not match."""
    if not MAC_BYTES < len(sealed) <= MAX_NOTE_BYTES:
        raise MalformedObject(f"a note of {len(sealed)} bytes")
    mac = CMAC(AES128(key))
    mac.update(sealed[:-MAC_BYTES])
    try:
        mac.verify(sealed[-MAC_BYTES:])
    except InvalidSignature as error:
        raise MalformedObject("the MAC of a note does not match") from error
    return sealed[:-MAC_BYTES]


def _at_most(items: list[object], limit: int) -> list[object]:
    if len(items) > limit:
        raise MalformedObject(f"{len(items)} entries, more than {limit}")
    return items


def _rise(numbers: list[int]) -> None:
    if any(b <= a for a, b in pairwise(numbers)):
        raise MalformedObject("the slots of a day do not rise")


def _range(item: object) -> tuple[int, int]:
    fields = Fields(item, 2)
    return fields.number(U32), fields.number(U32)


def _received(item: object) -> tuple[int, bytes, Taken]:
    fields = Fields(item, 3)
    return fields.number(U32), fields.octets(HASH_BYTES), fields.member(Taken)


def _sent(item: object) -> SentFrames:
    fields = Fields(item, 3)
    return SentFrames(fields.number(U32), fields.octets(HASH_BYTES), fields.octets(0, HASH_BYTES))
