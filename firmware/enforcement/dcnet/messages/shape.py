"""How much a document may hold, found out before anything is built of it: its items are counted, not decoded.

What a document costs to decode follows from its items, not from its bytes: 4 MiB of empty arrays take
seconds, as much of certificates some milliseconds. Pure.
Spec: docs/dcnet.md, "Exact constructions"; RFC 8949.
"""

from __future__ import annotations

from typing import Final

from firmware.enforcement.dcnet.errors import MalformedObject

MAX_ITEMS: Final = 36_000
"""A roster has eight of each member. It travels with their bundles in a document of 4 MiB, which holds 2400
of them; there is room for the 4096 of a policy that says nothing else."""
MAX_DEPTH: Final = 8
_UNSIGNED, _BYTES, _TEXT, _ARRAY = 0, 2, 3, 4
_NULL: Final = 0xF6
_SHORT: Final = 24
"""Up to here a head holds its number itself; the next four have 1, 2, 4 or 8 bytes of it behind them."""


def check(data: bytes, most_items: int = MAX_ITEMS) -> None:
    """Make sure that there is one item, with nothing behind it and not too much in it, of permitted types.

    Raises:
        MalformedObject: it is not so, or an array has no number of items in front.
    """
    at, end, items = 0, len(data), 0
    left = [1]
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        items += 1
        if items > most_items:
            raise MalformedObject(f"a document of more than {most_items} items")
        if at >= end:
            raise MalformedObject("not a document: it is cut off")
        head = data[at]
        major, number = head >> 5, head & 0x1F
        at += 1
        if head == _NULL:
            continue
        if major not in (_UNSIGNED, _BYTES, _TEXT, _ARRAY):
            raise MalformedObject(f"a document holds something of major type {major}")
        if number >= _SHORT:
            if number > _SHORT + 3:
                raise MalformedObject("a document is not in its canonical form")
            size = 1 << number - _SHORT
            number, at = int.from_bytes(data[at : at + size], "big"), at + size
        if major == _ARRAY:
            if len(left) > MAX_DEPTH:
                raise MalformedObject("a document is nested too deeply")
            left.append(number)
        elif major != _UNSIGNED:
            at += number
    if at != end:
        raise MalformedObject("not a document: it is cut off, or something stands behind it")
