"""When more members may be missing than delta says: what every administrator of a roster has signed. No I/O.

Only the count of those left out is lifted; N_min and d_min never are. Spec: docs/dcnet.md, outages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from firmware.enforcement.dcnet.errors import OutageRefused
from firmware.enforcement.dcnet.messages.documents import from_bitmap
from firmware.enforcement.dcnet.messages.reports import MILLION, OutageNotice
from firmware.enforcement.dcnet.policy import NetRules

_DAY_S: Final = 86400


@dataclass(frozen=True, slots=True)
class Lifted:
    """What is forgiven in one slot."""

    lost: frozenset[int]
    """Members that may be missing."""
    share_ppm: int
    """Part of the others that may be missing."""


def lifted(
    rules: NetRules,
    version: int,
    roster_hash: bytes,
    size: int,
    slot: int,
    notices: Iterable[OutageNotice],
) -> Lifted:
    """Return what all notices, one of each administrator, forgive together: what the strictest says.

    Raises:
        OutageRefused: `roster`, `slot` or `length`; or `none`.
        MalformedObject: a bitmap of another size.
    """
    found: Lifted | None = None
    for notice in notices:
        if (notice.net, notice.version, notice.roster_hash) != (rules.net, version, roster_hash):
            raise OutageRefused("roster", "an outage notice for another net or roster")
        if not notice.first_slot <= slot <= notice.last_slot:
            raise OutageRefused("slot", f"an outage notice for {notice.first_slot} .. {notice.last_slot}")
        if notice.last_slot - notice.first_slot >= max(1, _DAY_S // rules.slot_s):
            raise OutageRefused("length", "an outage notice for more than a day")
        lost = from_bitmap(notice.lost, size)
        if found is None:
            found = Lifted(lost, notice.share_ppm)
        else:
            found = Lifted(found.lost & lost, min(found.share_ppm, notice.share_ppm))
    if found is None:
        raise OutageRefused("none", "no administrator has signed an outage notice")
    return found


def enough_of(
    rules: NetRules, accepted: Collection[int], present: Collection[int], allowed: Lifted | None
) -> bool:
    """Tell whether so many of the expected members were accepted, in exact arithmetic."""
    if allowed is None:
        return rules.enough_of(len(accepted), len(present))
    counted = set(present) - (allowed.lost - set(accepted))
    missing_ppm = max(rules.delta_ppm, allowed.share_ppm)
    return len(accepted) * MILLION >= (MILLION - missing_ppm) * len(counted)
