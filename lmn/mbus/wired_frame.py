"""Wired M-Bus long frames (68 L L 68 C A ... checksum 16), as bench equipment and examples have them.

Spec: EN 13757-2 (FT 1.2 frames). Pure functions.
"""

from __future__ import annotations

from lmn.errors import ChecksumMismatch, LengthMismatch, MalformedFrame


def application_of(frame: bytes) -> bytes:
    """Check a long frame and return what lies above its link layer, from CI on.

    Raises:
        MalformedFrame: start or stop bytes are missing.
        LengthMismatch: the two length bytes differ or do not match.
        ChecksumMismatch: the sum is wrong.
    """
    if len(frame) < 9 or frame[0] != 0x68 or frame[3] != 0x68 or frame[-1] != 0x16:
        raise MalformedFrame("no wired long frame")
    if frame[1] != frame[2] or len(frame) != frame[1] + 6:
        raise LengthMismatch("wired frame: length bytes do not match")
    if sum(frame[4:-2]) & 0xFF != frame[-2]:
        raise ChecksumMismatch("wired frame: wrong checksum")
    return frame[6:-2]
