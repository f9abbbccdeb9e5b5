"""Wired M-Bus long frames (68 L L 68 C A ... checksum 16), as bench equipment and examples have them.

Spec: EN 13757-2 (FT 1.2 frames). Pure functions.
"""

from __future__ import annotations

from lmn.errors import ChecksumMismatch, LengthMismatch, MalformedFrame
from lmn.mbus.transport import Layers, parse_upper

_START, _STOP = 0x68, 0x16


def is_long_frame(data: bytes) -> bool:
    """Whether bytes can be nothing but a wired long frame: both starts, both lengths, the stop.

    A radio telegram would need a C field as high as its own length less six, which no meter sends.
    """
    return (
        len(data) >= 9
        and data[0] == data[3] == _START
        and data[1] == data[2] == len(data) - 6
        and data[-1] == _STOP
    )


def application_of(frame: bytes) -> bytes:
    """Check a long frame and return what lies above its link layer, from CI on.

    Raises:
        MalformedFrame: start or stop bytes are missing.
        LengthMismatch: the two length bytes differ or do not match.
        ChecksumMismatch: the sum is wrong.
    """
    if len(frame) < 9 or frame[0] != _START or frame[3] != _START or frame[-1] != _STOP:
        raise MalformedFrame("no wired long frame")
    if frame[1] != frame[2] or len(frame) != frame[1] + 6:
        raise LengthMismatch("wired frame: length bytes do not match")
    if sum(frame[4:-2]) & 0xFF != frame[-2]:
        raise ChecksumMismatch("wired frame: wrong checksum")
    return frame[6:-2]


def layers_of(frame: bytes) -> Layers:
    """Take a long frame apart; its meter is that of the long header, for the link knows a number only.

    Raises:
        MalformedFrame, LengthMismatch, ChecksumMismatch: as `application_of`; or no long header.
        SecurityUnsupported: a layer or application that is not built.
    """
    authentication, transport = parse_upper(application_of(frame))
    if transport.address is None:
        raise MalformedFrame("wired frame without a meter's address")
    return Layers(frame[4], transport.address, None, None, authentication, transport)
