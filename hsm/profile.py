"""Codings of one kind of module, in one table: a real module's document replaces this and nothing else.

The bodies of TR-03109-2 were not available. Everything here is ISO practice or this project's assumption;
what TR-03110 fixes (PACE, secure messaging) is in `pace` and `messaging`. Shared by both sides of the link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hsm.api import Curve, DataObject, KeySlot


class FileFormat(Enum):
    """How the length of an object is known inside a file of fixed size."""

    PLAIN = "plain"  # the whole file
    PREFIXED = "prefixed"  # two bytes of length, big endian, before the content


@dataclass(frozen=True, slots=True)
class FileEntry:
    """An elementary file: size in bytes, format, and whether it may be read before PACE or ever written."""

    size_bytes: int
    format: FileFormat
    free_read: bool
    writable: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """INS, P1, P2, tags and references of one kind of module."""

    name: str = "project"
    # F0 opens a proprietary application name (ISO/IEC 7816-4); the rest is ASCII "SMGWHSM".
    application: bytes = b"\xf0SMGWHSM"
    master_file: int = 0x3F00
    password_reference: int = 0x03  # PACE-PIN
    pin_min_digits: int = 10  # TR-03116-3, table 28
    pin_tries: int = 3

    ins_select: int = 0xA4
    ins_read_binary: int = 0xB0
    ins_update_binary: int = 0xD6
    ins_get_challenge: int = 0x84
    ins_mse: int = 0x22
    ins_general_authenticate: int = 0x86
    ins_generate_key_pair: int = 0x46
    ins_pso: int = 0x2A
    ins_delete: int = 0xE4
    ins_get_response: int = 0xC0

    p1p2_mse_pace: int = 0xC1A4
    p1p2_mse_sign: int = 0x41B6
    p1p2_mse_agree: int = 0x41A6
    p1p2_sign: int = 0x9E9A
    p1_generate_new: int = 0x82
    p1_generate_replace: int = 0xC2
    p1_read_public: int = 0x81
    key_template: int = 0xB6
    tag_key_reference: int = 0x84
    tag_curve: int = 0x80
    tag_public_key: int = 0x7F49
    tag_public_point: int = 0x86
    tag_agree: int = 0x7C
    tag_peer_point: int = 0x85
    tag_shared_secret: int = 0x86

    challenge_max_bytes: int = 256
    chunk_bytes: int = 0xDF  # the most that fits a short APDU under secure messaging, both ways
    key_references: Mapping[KeySlot, int] = field(
        default_factory=lambda: {slot: int(slot) for slot in KeySlot}
    )
    ephemeral_references: tuple[int, ...] = tuple(range(0x60, 0x68))
    files: Mapping[int, FileEntry] = field(
        default_factory=lambda: {
            DataObject.CARD_ACCESS: FileEntry(256, FileFormat.PLAIN, free_read=True, writable=False),
            DataObject.IDENTIFIERS: FileEntry(4096, FileFormat.PREFIXED, free_read=True, writable=True),
        }
    )
    curve_ids: Mapping[Curve, int] = field(default_factory=lambda: dict(DOMAIN_IDS))


DOMAIN_IDS: Mapping[Curve, int] = {
    Curve.P256: 12,
    Curve.BRAINPOOL_P256: 13,
    Curve.P384: 15,
    Curve.BRAINPOOL_P384: 16,
    Curve.BRAINPOOL_P512: 17,
}
"""Standardised domain parameters (TR-03110-3 v2.2, table 4): these are not assumed."""

PROJECT = Profile()
"""The coding of the emulated module."""
