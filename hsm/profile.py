"""Codings of one kind of module, in one table: a real module's document replaces this and nothing else.

The bodies of TR-03109-2 were not available. Everything here is ISO practice or this project's assumption;
what TR-03110 fixes (PACE, secure messaging) is in `pace` and `messaging`. Shared by both sides of the link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hsm.api import PENDING, Curve, DataObject, KeySlot, LifeCycle, PublicSlot


class FileFormat(Enum):
    """How the length of an object is known inside a file of fixed size."""

    PLAIN = "plain"  # the whole file
    PREFIXED = "prefixed"  # two bytes of length, big endian, before the content


class Update(Enum):
    """Who writes a file."""

    NEVER = "nobody: the card computes it"
    OWN = "the gateway, at any time"
    GUARDED = "the gateway before operation, then with the administrator"
    ONCE = "the gateway before operation, then nobody"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """An elementary file: size in bytes, format, who writes it, and whether it may be read before PACE."""

    size_bytes: int
    format: FileFormat
    free_read: bool
    update: Update

    @property
    def writable(self) -> bool:
        """False for a file that is never written from outside."""
        return self.update is not Update.NEVER


class KeyKind(Enum):
    """What a key pair is for, and so what may be done with it."""

    GATEWAY = "the gateway's own: current and pending"
    STORE = "wraps the keys of the stores"
    NET = "pairwise agreement in one DC-net: current and pending"
    SERVICE = "made for another device, leaves once"
    EPHEMERAL = "one agreement, never stored"


DOMAIN_IDS: Mapping[Curve, int] = {
    Curve.P256: 12,
    Curve.BRAINPOOL_P256: 13,
    Curve.P384: 15,
    Curve.BRAINPOOL_P384: 16,
    Curve.BRAINPOOL_P512: 17,
}
"""Standardised domain parameters (TR-03110-3 v2.2, table 4): these are not assumed."""

_PLAIN, _PREFIXED = FileFormat.PLAIN, FileFormat.PREFIXED
_NETS = range(KeySlot.DCNET_1, KeySlot.DCNET_4 + 1)


def _kinds() -> Mapping[int, KeyKind]:
    own = range(KeySlot.WAN_TLS, KeySlot.LMN_TLS + 1)
    kinds = {reference | bit: KeyKind.GATEWAY for reference in own for bit in (0, PENDING)}
    kinds |= {reference | bit: KeyKind.NET for reference in _NETS for bit in (0, PENDING)}
    kinds |= dict.fromkeys(range(0x50, 0x54), KeyKind.SERVICE)
    kinds |= dict.fromkeys(range(0x60, 0x68), KeyKind.EPHEMERAL)
    return {**kinds, int(KeySlot.STORE): KeyKind.STORE}


@dataclass(frozen=True, slots=True)
class Profile:
    """INS, P1, P2, tags and references of one kind of module."""

    name: str = "project"
    # F0 opens a proprietary application name (ISO/IEC 7816-4); the rest is ASCII "SMGWHSM".
    application: bytes = b"\xf0SMGWHSM"
    master_file: int = 0x3F00
    password_reference: int = 0x03  # PACE-PIN
    pin_min_digits: int = 10  # TR-03116-3, table 28
    pin_max_digits: int = 32
    pin_tries: int = 3

    ins_select: int = 0xA4
    ins_read_binary: int = 0xB0
    ins_read_binary_odd: int = 0xB1
    ins_update_binary: int = 0xD6
    ins_get_challenge: int = 0x84
    ins_mse: int = 0x22
    ins_general_authenticate: int = 0x86
    ins_generate_key_pair: int = 0x46
    ins_pso: int = 0x2A
    ins_internal_authenticate: int = 0x88
    ins_external_authenticate: int = 0x82
    ins_change_reference_data: int = 0x24
    ins_reset_retry_counter: int = 0x2C
    ins_activate: int = 0x44
    ins_deactivate: int = 0x04
    ins_create: int = 0xE0
    ins_delete: int = 0xE4
    ins_terminate_application: int = 0xE6
    ins_terminate_file: int = 0xE8
    ins_terminate_card: int = 0xFE
    ins_increase: int = 0x32
    ins_envelope: int = 0xC2
    ins_get_response: int = 0xC0

    p1p2_mse_pace: int = 0xC1A4
    p1p2_mse_internal: int = 0x41A4
    p1p2_mse_external: int = 0x81A4
    p1p2_mse_sign: int = 0x41B6
    p1p2_mse_verify: int = 0x81B6
    p1p2_mse_agree: int = 0x41A6
    p1p2_mse_export: int = 0x41B8
    p1p2_sign: int = 0x9E9A
    p1p2_verify_signature: int = 0x00A8
    p1p2_verify_certificate: int = 0x00BE
    p1p2_export: int = 0x8680
    p1_generate_new: int = 0x82
    p1_generate_replace: int = 0xC2
    p1_read_public: int = 0x81
    p1_change_with_old: int = 0x00
    p1_change_new: int = 0x01
    p1_reset_with_new: int = 0x02
    p1_reset_only: int = 0x03
    p1_life_cycle: int = 0x00  # ACTIVATE: P2 is the state to reach
    p1_pin: int = 0x10
    p1_pending: int = 0x20  # ACTIVATE: P2 is a current slot, its pending key takes its place
    p1_key: int = 0x21  # ACTIVATE, DEACTIVATE: a key that is there
    p2_counter: int = 0x01

    key_template: int = 0xB6
    tag_key_reference: int = 0x84
    tag_public_reference: int = 0x83
    tag_curve: int = 0x80
    tag_public_key: int = 0x7F49
    tag_public_point: int = 0x86
    tag_wrapped: int = 0x87
    tag_agree: int = 0x7C
    tag_peer_point: int = 0x85
    tag_shared_secret: int = 0x86
    tag_digest: int = 0x9A
    tag_signature: int = 0x9E
    tag_certificate_body: int = 0x7F4E  # here: a TBSCertificate of X.509
    tag_certificate_signature: int = 0x5F37
    tag_certificate_holder: int = 0x5F20
    tag_file: int = 0x83
    tag_file_size: int = 0x80
    tag_file_control: int = 0x62
    tag_offset: int = 0x54
    tag_data: int = 0x53
    tag_life_cycle: int = 0x8A
    tag_tries: int = 0x93
    tag_deactivated: int = 0x95
    tag_serial: int = 0x5A

    challenge_max_bytes: int = 256
    authentication_challenge_bytes: int = 8
    chunk_bytes: int = 0xDF  # the most that fits a short APDU under secure messaging, both ways
    created_max_bytes: int = 1 << 15
    key_references: Mapping[KeySlot, int] = field(
        default_factory=lambda: {slot: int(slot) for slot in KeySlot}
    )
    key_kinds: Mapping[int, KeyKind] = field(default_factory=_kinds)
    public_references: Mapping[PublicSlot, int] = field(
        default_factory=lambda: {slot: int(slot) for slot in PublicSlot}
    )
    ephemeral_references: tuple[int, ...] = tuple(range(0x60, 0x68))
    service_references: tuple[int, ...] = tuple(range(0x50, 0x54))
    files: Mapping[int, FileEntry] = field(
        default_factory=lambda: {
            DataObject.CARD_ACCESS: FileEntry(256, _PLAIN, free_read=True, update=Update.NEVER),
            DataObject.IDENTIFIERS: FileEntry(4096, _PREFIXED, free_read=True, update=Update.ONCE),
            DataObject.CRYPTO_INFO: FileEntry(256, _PLAIN, free_read=False, update=Update.NEVER),
            DataObject.CERTIFICATES: FileEntry(16384, _PREFIXED, free_read=False, update=Update.GUARDED),
            DataObject.OWN_DATA: FileEntry(1024, _PREFIXED, free_read=False, update=Update.OWN),
            DataObject.COUNTER: FileEntry(8, _PLAIN, free_read=False, update=Update.NEVER),
            DataObject.STATUS: FileEntry(256, _PLAIN, free_read=False, update=Update.NEVER),
        }
    )
    curve_ids: Mapping[Curve, int] = field(default_factory=lambda: dict(DOMAIN_IDS))
    life_cycles: Mapping[LifeCycle, int] = field(
        default_factory=lambda: {
            LifeCycle.INITIALISED: 0x03,
            LifeCycle.PRE_PERSONALISED: 0x13,
            LifeCycle.PERSONALISED: 0x15,
            LifeCycle.OPERATIONAL: 0x05,
            LifeCycle.TERMINATED: 0x0C,
        }
    )


PROJECT = Profile()
"""The coding of the emulated module."""
