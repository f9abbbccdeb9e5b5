"""Whether a supplier has signed two different results of one slot: to one member, and in a manifest to all.

An administrator's judgement, apart from the members' own. Does no I/O.
"""

from __future__ import annotations

from contextlib import suppress

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.manifest import Manifest, SlotResult


def said_result(content: bytes) -> SlotResult | None:
    """Return the result that a signed object is or holds, None if it says none."""
    with suppress(MalformedObject):
        return SlotResult.from_bytes(content)
    with suppress(MalformedObject):
        return Manifest.from_bytes(content).result
    return None


def two_results(net: bytes, one: bytes, two: bytes) -> bool:
    """Tell whether two signed contents give one slot of `net`, under one manifest, opposite results."""
    first, second = said_result(one), said_result(two)
    if first is None or second is None or first.net != net:
        return False
    same = (first.net, first.slot, first.manifest_hash) == (second.net, second.slot, second.manifest_hash)
    return same and first.verdict is not second.verdict
