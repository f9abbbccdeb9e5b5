"""Takes frames in batches: every header field and every MAC is checked, values go into columns. No I/O.

Headers are compared as one array. Each MAC has a key of its own, so MACs are computed one by one, each from a
context that was made once when the roster came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC
from numpy.typing import NDArray

from firmware.enforcement.dcnet.messages.frames import FRAME_VERSION, HEADER_BYTES, MAC_BYTES, FrameType

HEADER: Final = np.dtype(
    [
        ("version", "u1"),
        ("type", "u1"),
        ("flags", "<u2"),
        ("slot", "<u4"),
        ("net", "V8"),
        ("index", "<u4"),
        ("lanes", "<u2"),
        ("shares", "<u2"),
        ("roster", "<u4"),
        ("epoch", "<u4"),
        ("reference", "V32"),
    ]
)
_SHARE_BYTES: Final = 20
assert HEADER.itemsize == HEADER_BYTES


class Taken(IntEnum):
    """What became of a frame."""

    NEW = 0
    KNOWN = 1
    """The same frame was taken before."""
    CONFLICT = 2
    """Another frame of this member was taken before: two authenticated values, which is evidence."""
    FORM = 3
    """Its header is not what this slot needs, or its length is not what its header says."""
    MAC = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every header of a batch must say."""

    type: FrameType
    slot: int
    net: bytes
    roster: int
    epoch: int
    reference: bytes
    lanes: int


class Intake:
    """One net's places in the columns.

    Args:
        keys: member index (1 .. size, all of them) -> AES-CMAC key.
        values: where lanes are written, shape (lanes, size), a view of the net's columns.
    """

    def __init__(self, keys: Mapping[int, bytes], values: NDArray[np.uint64]) -> None:
        self._macs = [CMAC(AES128(keys[index])).copy for index in range(1, len(keys) + 1)]
        self.begin(values)

    def begin(self, values: NDArray[np.uint64]) -> None:
        """Start another slot, or the openings of one, with other columns and nothing taken yet."""
        self._values = values
        self.digests: dict[int, bytes] = {}
        """Member -> SHA-256 of its frame without MAC, the leaf of the manifest's tree."""

    def take(self, frames: Sequence[bytes], wanted: Wanted) -> NDArray[np.uint8]:
        """Take a batch; return a `Taken` for each frame, in order.

        Args:
            frames: with their MACs, of any members, in any order, of any length.
            wanted: what their headers must say.
        """
        verdicts = np.full(len(frames), Taken.FORM, dtype=np.uint8)
        lengths = np.fromiter(map(len, frames), dtype=np.int64, count=len(frames))
        shortest = HEADER_BYTES + 8 * wanted.lanes + MAC_BYTES
        for length in np.unique(lengths):
            if length >= shortest and (length - shortest) % _SHARE_BYTES == 0:
                places = np.flatnonzero(lengths == length)
                same = frames if len(places) == len(frames) else [frames[place] for place in places.tolist()]
                verdicts[places] = self._same_length(same, int(length), wanted)
        return verdicts

    def _same_length(self, frames: Sequence[bytes], length: int, wanted: Wanted) -> NDArray[np.uint8]:
        count = len(frames)
        octets = np.frombuffer(b"".join(frames), dtype=np.uint8).reshape(count, length)
        heads = np.ascontiguousarray(octets[:, :HEADER_BYTES]).view(HEADER).reshape(count)
        shares = (length - HEADER_BYTES - 8 * wanted.lanes - MAC_BYTES) // _SHARE_BYTES
        fits = heads["version"] == FRAME_VERSION
        for name, value in (
            ("type", int(wanted.type)),
            ("flags", 0),
            ("slot", wanted.slot),
            ("lanes", wanted.lanes),
            ("shares", shares),
            ("roster", wanted.roster),
            ("epoch", wanted.epoch),
        ):
            fits &= heads[name] == value
        for name, data in (("net", wanted.net), ("reference", wanted.reference)):
            fits &= heads[name] == np.void(data)
        index = heads["index"].astype(np.int64)
        fits &= (index >= 1) & (index <= len(self._macs))
        if wanted.type is FrameType.OPEN and shares:
            fits[:] = False
        verdicts = np.full(count, Taken.FORM, dtype=np.uint8)
        chosen = np.flatnonzero(fits)
        if not len(chosen):
            return verdicts
        members = (index[chosen] - 1).tolist()
        macs, end = self._macs, length - MAC_BYTES
        bodies = [frames[place][:end] for place in chosen.tolist()]
        tags = []
        for member, body in zip(members, bodies, strict=True):
            mac = macs[member]()
            mac.update(body)
            tags.append(mac.finalize())
        right = np.frombuffer(b"".join(tags), dtype=np.uint8).reshape(-1, MAC_BYTES)
        genuine = (right == octets[chosen, end:]).all(axis=1)
        verdicts[chosen] = np.where(genuine, Taken.NEW, Taken.MAC)
        new = self._first(members, bodies, genuine.tolist(), verdicts, chosen)
        lanes = np.ascontiguousarray(octets[chosen[new], HEADER_BYTES : HEADER_BYTES + 8 * wanted.lanes])
        self._values[:, np.array(members, dtype=np.intp)[new]] = lanes.view("<u8").T
        return verdicts

    def _first(
        self,
        members: list[int],
        bodies: list[bytes],
        genuine: list[bool],
        verdicts: NDArray[np.uint8],
        chosen: NDArray[np.intp],
    ) -> NDArray[np.intp]:
        """Keep the digest of each first frame; note what came again. Returns which ones are new."""
        new, digests, sha256 = [], self.digests, hashlib.sha256
        for place, (member, body, good) in enumerate(zip(members, bodies, genuine, strict=True)):
            if good:
                found = sha256(body).digest()
                known = digests.setdefault(member + 1, found)
                if known is found:
                    new.append(place)
                else:
                    verdicts[chosen[place]] = Taken.KNOWN if known == found else Taken.CONFLICT
        return np.array(new, dtype=np.intp)
