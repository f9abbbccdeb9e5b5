"""Header lists of compact frames that need no earlier full frame. A table, no code.

A list counts only under its own signature, the CRC-16/EN-13757 over it: the signature that such meters send
is the proof of the list, and the second checksum in each compact frame that of its values. A test computes
every signature again.
Provenance: own knowledge of what water meters of one maker (Kamstrup) send in clear full frames, checked by
the signature only; no maker's document was at hand. A host program of others (wmbusmeters 2.0.0) has the same
six, and the seventh is known from it. FF codes are the maker's own and stay raw.
"""

from __future__ import annotations

from typing import Final


def _headers(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(part) for part in text.split())


KNOWN_FORMATS: Final = {
    0xA8ED: _headers("02FF20 0413 4413 615B 6167"),
    0xC412: _headers("02FF20 0413 92013B A1015B 8101E7FF0F"),
    0x61EB: _headers("02FF20 0413 4413 A1015B 8101E7FF0F"),
    0xD2F7: _headers("02FF20 0413 4413 615B 5167"),
    0xDD34: _headers("02FF20 0413 4413"),
    0x7C0E: _headers("02FF20 0413 523B"),
    0x0905: _headers("04FF23 4413 523B 06FF1B 426C 6167 5167 023B 0413 8101E7FF0F"),
}
"""Signature -> headers in the order in which the values come."""
