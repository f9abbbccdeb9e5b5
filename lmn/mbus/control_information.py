"""What each CI code announces, for those that this decoder refuses by name. A table, no code.

Source: EN 13757-7, table of CI codes, as public decoders and their test notes have it (secondary); which of
them are read instead is said in `lmn.mbus.transport`. The same table with what is done: docs/lmn.md 1.4.
"""

from __future__ import annotations

from typing import Final

REFUSED: Final = {
    0x50: "application reset or select",
    0x51: "command",
    0x52: "selection of a station",
    0x53: "application reset or select, long header",
    0x54: "request of the selected application",
    0x55: "request of the selected application, long header",
    0x5A: "command, short header",
    0x5B: "command, long header",
    0x5C: "synchronise action",
    0x5F: "security management (TLS)",
    0x60: "DLMS to the meter, long header",
    0x61: "DLMS to the meter, short header",
    0x64: "SML to the meter, long header",
    0x65: "SML to the meter, short header",
    0x66: "selected application",
    0x67: "selected application, short header",
    0x68: "selected application, long header",
    0x6C: "clock synchronisation, absolute",
    0x6D: "clock synchronisation, relative",
    0x6E: "application error, short header",
    0x6F: "application error, long header",
    0x70: "application error",
    0x71: "alarm",
    0x74: "alarm, short header",
    0x75: "alarm, long header",
    0x76: "records with the most significant byte first",
    0x77: "fixed data with the most significant byte first",
    0x7C: "DLMS, long header",
    0x7D: "DLMS, short header",
    0x7E: "SML, long header",
    0x7F: "SML, short header",
    0x80: "transport layer to the meter",
    0x81: "network layer",
    0x82: "network management",
    0x83: "network management",
    0x84: "compact frame of the transport layer to the meter",
    0x85: "format frame of the transport layer to the meter",
    0x86: "variable extended link layer, whose layout could not be read",
    0x87: "transport layer, long header, reserved",
    0x88: "transport layer, short header, reserved",
    0x89: "network management",
    0x90: "authentication layer inside an authentication layer",
    0x9E: "security management",
    0x9F: "security management",
    **dict.fromkeys(range(0x8C, 0x90), "extended link layer in a place where none may be"),
    **dict.fromkeys(range(0xA0, 0xB8), "a maker's own protocol"),
    **dict.fromkeys(range(0xB8, 0xC0), "change of the wired line's rate"),
    **dict.fromkeys(range(0xC0, 0xC3), "transfer of an image"),
    **dict.fromkeys(range(0xC3, 0xC6), "transfer of security information"),
}
"""CI code -> what it announces."""


def described(ci: int) -> str:
    """The code and, where it has one, its meaning."""
    return f"{ci:02X} ({REFUSED.get(ci, 'reserved')})"
