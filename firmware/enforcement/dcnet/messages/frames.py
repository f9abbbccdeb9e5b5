"""The data plane: frames of fixed layout, little endian, a 64-byte header in front and a MAC behind.

A batch of frames is one array view for whoever sums them. Codec only; nothing is judged here.
Spec: docs/dcnet.md, messages Submit, Open, Hello and RecoveryShare.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.primitives.arithmetic import LANE_BYTES, Lanes, from_lanes, to_lanes

FRAME_VERSION: Final = 1
MAC_BYTES: Final = 16
MAX_LANES: Final = 64
# version, type, flags, slot, net, index, lanes, shares, roster version, epoch, hash
_HEADER: Final = Struct("<BBHI8sIHHII32s")
HEADER_BYTES: Final = _HEADER.size


class FrameType(IntEnum):
    """What a frame is for."""

    SUBMIT = 1
    OPEN = 2
    HELLO = 3
    SHARE = 4
    """A share for a lost member, from one of those who hold one."""


RECONCILE: Final = 0x0001
"""Flag of Submit and Open: the frame belongs to a reconcile slot."""
_FLAGS: Final = frozenset({0, RECONCILE})
SHARE_BYTES: Final = 16
MAX_SHARES: Final = 255
_SHARE: Final = Struct("<I16s")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame without its MAC.

    `reference` is the hash of the manifest before the slot in Submit and Hello, and the hash of the
    slot's own manifest in Open and Share. Hello and Share have no lanes. A Submit may carry shares, each
    (index of the holder, 16 sealed bytes); a Share has one, (index of the lost member, 16 bytes in clear).
    """

    type: FrameType
    slot: int
    net: bytes
    index: int
    version: int
    """Of the roster."""
    epoch: int
    reference: bytes
    lanes: Lanes = ()
    shares: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
    flags: int = 0

    def to_bytes(self) -> bytes:
        """Encode what the MAC and the submission digest cover."""
        header = _HEADER.pack(
            FRAME_VERSION,
            self.type,
            self.flags,
            self.slot,
            self.net,
            self.index,
            len(self.lanes),
            len(self.shares),
            self.version,
            self.epoch,
            self.reference,
        )
        shares = b"".join(_SHARE.pack(member, share) for member, share in self.shares)
        return header + from_lanes(self.lanes) + shares

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Decode a frame without its MAC.

        Raises:
            MalformedObject: not a frame of this version, or its length is not what its header says.
        """
        if len(body) < HEADER_BYTES:
            raise MalformedObject(f"frame of {len(body)} bytes is shorter than its header")
        made, kind, flags, slot, net, index, lanes, shares, version, epoch, reference = _HEADER.unpack(
            body[:HEADER_BYTES]
        )
        if made != FRAME_VERSION or flags not in _FLAGS:
            raise MalformedObject(f"frame version {made}, flags {flags:04x}: not supported")
        try:
            frame_type = FrameType(kind)
        except ValueError as error:
            raise MalformedObject(f"frame type {kind}") from error
        if lanes > MAX_LANES or (lanes == 0) == (frame_type in _VALUES):
            raise MalformedObject(f"{frame_type.name} with {lanes} lanes")
        if shares not in _SHARES[frame_type]:
            raise MalformedObject(f"{frame_type.name} with {shares} shares")
        if flags and frame_type not in _VALUES:
            raise MalformedObject(f"{frame_type.name} with flags {flags:04x}")
        end = HEADER_BYTES + LANE_BYTES * lanes
        if len(body) != end + _SHARE.size * shares:
            raise MalformedObject(f"frame of {len(body)} bytes with {lanes} lanes and {shares} shares")
        values, held = to_lanes(body[HEADER_BYTES:end]), tuple(_SHARE.iter_unpack(body[end:]))
        members = [member for member, _ in held]
        if members != sorted(set(members)):
            raise MalformedObject("the holders of shares do not rise")
        return cls(frame_type, slot, net, index, version, epoch, reference, values, held, flags)


_VALUES: Final = frozenset({FrameType.SUBMIT, FrameType.OPEN})
_SHARES: Final = {
    FrameType.SUBMIT: range(MAX_SHARES + 1),
    FrameType.OPEN: range(1),
    FrameType.HELLO: range(1),
    FrameType.SHARE: range(1, 2),
}


def digest(body: bytes) -> bytes:
    """Return the submission digest: SHA-256 of a frame without its MAC."""
    return hashlib.sha256(body).digest()


def seal(body: bytes, key: bytes) -> bytes:
    """Append the AES-CMAC (16 bytes) of a frame."""
    mac = CMAC(AES128(key))
    mac.update(body)
    return body + mac.finalize()


def unseal(sealed: bytes, key: bytes) -> bytes:
    """Check and remove the MAC of a frame.

    Raises:
        MalformedObject: too short, or the MAC does not match.
    """
    if len(sealed) < HEADER_BYTES + MAC_BYTES:
        raise MalformedObject(f"frame of {len(sealed)} bytes is shorter than header and MAC")
    body = sealed[:-MAC_BYTES]
    mac = CMAC(AES128(key))
    mac.update(body)
    try:
        mac.verify(sealed[-MAC_BYTES:])
    except InvalidSignature as error:
        raise MalformedObject("the MAC of a frame does not match") from error
    return body
