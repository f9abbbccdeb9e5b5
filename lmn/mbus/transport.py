"""Headers between the radio link and the records: DLL, ELL, AFL, TPL. Bytes in, `Layers` out.

Nothing is decrypted or trusted here; `lmn.mbus.security` does that on the same value.
Spec: EN 13757-4 (DLL, ELL), EN 13757-7 (AFL, TPL); layout: docs/lmn.md 1.3 and 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from lmn.errors import LengthMismatch, MalformedFrame, SecurityUnsupported
from lmn.mbus.address import from_long_header, to_meter_id
from lmn.mbus.control_information import described
from lmn.model import MeterId

_FROM_METER: Final = frozenset((0x44, 0x46, 0x47, 0x48, 0x08, 0x18, 0x28, 0x38))
"""C fields by which a meter sends data: SND-NR, SND-IR, ACC-NR, ACC-DMD, RSP-UD."""

_LINK_HEADER: Final = 10
_AFL_CI: Final = 0x90


class Application(Enum):
    """What follows the transport layer's header."""

    FULL = "full"
    """Records with their headers."""
    COMPACT = "compact"
    """Values alone; the headers are known from an earlier full frame or a format frame."""
    FORMAT = "format"
    """The headers alone."""
    NONE = "none"
    """Nothing: the telegram is only a sign of life."""


class Header(IntEnum):
    """How much the transport layer's header says; the value is its length in bytes."""

    NONE = 0
    SHORT = 4
    LONG = 12


_TPL: Final = {
    0x72: (Header.LONG, Application.FULL),
    0x7A: (Header.SHORT, Application.FULL),
    0x78: (Header.NONE, Application.FULL),
    0x73: (Header.LONG, Application.COMPACT),
    0x7B: (Header.SHORT, Application.COMPACT),
    0x79: (Header.NONE, Application.COMPACT),
    0x6B: (Header.LONG, Application.FORMAT),
    0x6A: (Header.SHORT, Application.FORMAT),
    0x69: (Header.NONE, Application.FORMAT),
    0x8B: (Header.LONG, Application.NONE),
    0x8A: (Header.SHORT, Application.NONE),
}


@dataclass(frozen=True, slots=True)
class ExtendedLink:
    """Extended link layer (CI 8C to 8F)."""

    communication_control: int
    access_no: int
    receiver: bytes | None
    """Address of whom the telegram is for, in the link's order; None where the layer has none."""
    session: bytes | None
    """Session number as sent, 4 bytes; None where the layer cannot encrypt."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """Authentication and fragmentation layer (CI 90), one unfragmented message."""

    message_control: int | None
    """MCL; its low four bits name the authentication code."""
    key_information: bytes
    counter: bytes | None
    """Message counter as sent, least significant byte first."""
    mac: bytes
    message_length: bytes


@dataclass(frozen=True, slots=True)
class Transport:
    """Transport layer: header and what it protects."""

    control_information: int
    after_header: int
    """Offset in `raw` of the first byte behind CI, address, access number, status and CF."""
    application: Application
    address: bytes | None
    """The meter's address in the link's order, from a long header."""
    access_no: int | None
    status: int | None
    configuration: int
    """CF as a number; bits 12 to 8 are the security mode. 0 where there is no header."""
    raw: bytes
    """From CI to the last byte: what an authentication code covers."""

    @property
    def mode(self) -> int:
        """Security mode, 0 to 31."""
        return self.configuration >> 8 & 0x1F


@dataclass(frozen=True, slots=True)
class Layers:
    """One telegram, taken apart as far as that goes without a key."""

    control: int
    link_address: bytes
    """M and A of the link layer, 8 bytes."""
    extended: ExtendedLink | None
    sealed: bytes | None
    """What follows a session number, payload CRC first; then there is no `transport` yet."""
    authentication: Authentication | None
    transport: Transport | None

    @property
    def address(self) -> bytes:
        """The meter's address, in the link's order: the long header's if there is one, else the link's."""
        if self.transport is not None and self.transport.address is not None:
            return self.transport.address
        return self.link_address

    @property
    def meter(self) -> MeterId:
        """Which meter says that it sent this; a link address may be that of a radio adapter only."""
        return to_meter_id(self.address)


def parse(telegram: bytes) -> Layers:
    """Take a bare telegram (`lmn.wmbus.frame`) apart.

    Raises:
        LengthMismatch: the L field or an inner length field does not match the bytes.
        MalformedFrame: the headers contradict themselves or no meter sends such a thing.
        SecurityUnsupported: a layer, application or fragment that is not built.
    """
    if len(telegram) < 1 or telegram[0] != len(telegram) - 1:
        says = telegram[0] if telegram else 0
        raise LengthMismatch(f"L field says {says} bytes, {max(len(telegram) - 1, 0)} follow")
    if len(telegram) <= _LINK_HEADER:
        raise LengthMismatch(f"{len(telegram)} bytes have no room for a link header and a layer above it")
    if telegram[1] not in _FROM_METER:
        raise MalformedFrame(f"C field {telegram[1]:02X} is none by which a meter sends data")
    link_address = telegram[2:_LINK_HEADER]
    extended, body = _extended(telegram[_LINK_HEADER:])
    if extended is not None and extended.session is not None:
        return Layers(telegram[1], link_address, extended, body, None, None)
    authentication, transport = parse_upper(body)
    return Layers(telegram[1], link_address, extended, None, authentication, transport)


def parse_upper(data: bytes) -> tuple[Authentication | None, Transport]:
    """Take apart what lies above the (extended) link layer.

    Raises:
        As `parse`.
    """
    authentication = None
    if data[:1] == b"\x90":
        authentication, data = _authentication(data)
    return authentication, _transport(data)


_EXTENDED: Final = {0x8C: (False, False), 0x8D: (False, True), 0x8E: (True, False), 0x8F: (True, True)}
"""CI -> (has a receiver's address, has a session number)."""


def _extended(data: bytes) -> tuple[ExtendedLink | None, bytes]:
    kind = _EXTENDED.get(data[0])
    if kind is None:
        return None, data
    has_receiver, has_session = kind
    end = 3 + 8 * has_receiver + 4 * has_session
    if len(data) <= end:
        raise LengthMismatch("telegram ends inside the extended link layer")
    receiver = data[3:11] if has_receiver else None
    session = data[end - 4 : end] if has_session else None
    return ExtendedLink(data[1], data[2], receiver, session), data[end:]


_MORE_FRAGMENTS, _HAS_MCL, _HAS_ML, _HAS_MCR, _HAS_MAC, _HAS_KI = (
    0x4000,
    0x2000,
    0x1000,
    0x0800,
    0x0400,
    0x0200,
)
_RESERVED: Final = 0x8100
_MAC_SIZES: Final = {0: 0, 3: 2, 4: 4, 5: 8, 6: 12, 7: 16}
"""Authentication type (low bits of MCL) -> bytes of the CMAC; 8 is a GMAC, which no profile in use has."""


def _authentication(data: bytes) -> tuple[Authentication, bytes]:
    if len(data) < 4 or len(data) < 2 + data[1]:
        raise LengthMismatch("telegram ends inside the authentication layer")
    fields = data[2 : 2 + data[1]]
    if len(fields) < 2:
        raise MalformedFrame("authentication layer without a control field")
    control = fields[0] | fields[1] << 8
    if control & _RESERVED:
        raise MalformedFrame("authentication layer: reserved bits are set")
    if control & _MORE_FRAGMENTS or control & 0xFF:
        raise SecurityUnsupported("message in fragments")
    message_control = None
    after_control = 2
    if control & _HAS_MCL:
        if len(fields) < 3:
            raise LengthMismatch("authentication layer ends before its message control")
        message_control, after_control = fields[2], 3
    mac_size = _MAC_SIZES.get((message_control or 0) & 0x0F)
    if mac_size is None:
        raise SecurityUnsupported(f"authentication type {(message_control or 0) & 0x0F}")
    after_key = after_control + (2 if control & _HAS_KI else 0)
    after_counter = after_key + (4 if control & _HAS_MCR else 0)
    after_mac = after_counter + (mac_size if control & _HAS_MAC else 0)
    end = after_mac + (2 if control & _HAS_ML else 0)
    if end != len(fields):
        raise LengthMismatch(f"authentication layer says {len(fields)} bytes, its fields take {end}")
    if message_control is not None and message_control & 0x70 != _promise(control):
        raise MalformedFrame("authentication layer: message control and fragment control differ")
    message_length, rest = fields[after_mac:], data[2 + data[1] :]
    if message_length and message_length[0] | message_length[1] << 8 != len(rest):
        raise LengthMismatch("authentication layer: message length does not match")
    return Authentication(
        message_control,
        fields[after_control:after_key],
        fields[after_key:after_counter] or None,
        fields[after_counter:after_mac],
        message_length,
    ), rest


def _promise(control: int) -> int:
    """What MCL must say of length, counter and key information if the fragment has them."""
    return (
        (0x40 if control & _HAS_ML else 0)
        | (0x20 if control & _HAS_MCR else 0)
        | (0x10 if control & _HAS_KI else 0)
    )


def _transport(data: bytes) -> Transport:
    if not data:
        raise LengthMismatch("telegram ends before the transport layer")
    ci = data[0]
    known = _TPL.get(ci)
    if known is None:
        raise SecurityUnsupported(f"control information {described(ci)} is not read")
    header, application = known
    end = 1 + header
    if len(data) < end:
        raise LengthMismatch("telegram ends inside the transport layer's header")
    if header is Header.NONE:
        return Transport(ci, end, application, None, None, None, 0, data)
    address = from_long_header(data[1:9]) if header is Header.LONG else None
    access_no, status = data[end - 4], data[end - 3]
    configuration = data[end - 2] | data[end - 1] << 8
    return Transport(ci, end, application, address, access_no, status, configuration, data)
