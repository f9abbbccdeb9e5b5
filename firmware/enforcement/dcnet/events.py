"""What a gateway's logs are told about its nets. Values only; no reading is ever in here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class NetEventKind(Enum):
    """What the logs are told."""

    JOINED = "joined"
    TOTALLED = "totalled"
    OWED = "owed"
    QUARANTINE = "quarantine"
    REFUSED = "refused"
    LEFT_OUT = "left-out"
    """Again not in a manifest, though the supplier had confirmed the submission."""
    RECOVERED = "recovered"
    """Shares were given for members lost after the manifest; `members` counts the shares."""
    AUDITED = "audited"
    """Canary words of one slot were stated."""
    RECONCILED = "reconciled"
    """What was owed is in the total of a reconcile slot; `slot` is that of the reconcile net."""
    DISPUTED = "disputed"
    """A neighbour's tag is not that of our common key."""
    SWITCHED = "switched"
    """Another roster is in force."""
    REDRAWN = "redrawn"
    """A roster on its way was given up for a later one: the supplier could have wished for another graph."""
    REVOKED = "revoked"
    """The administrator withdrew peers."""
    LEFT = "left"
    V_MODE = "v-mode"
    """The supplier ordered commitments to the readings; `slot` is the first in which they are given."""


RECONCILE: Final = "reconcile: "
"""Begin of a reason: the event's slot is one of the reconcile net, which has numbers of its own."""


@dataclass(frozen=True, slots=True)
class NetEvent:
    """One thing worth a log entry; holds no reading."""

    net: str
    kind: NetEventKind
    slot: int | None
    members: int
    """Size of the anonymity set (of the roster, when joining)."""
    reason: str
    insecure_small_net: bool


Report = Callable[[NetEvent], Awaitable[None]]
