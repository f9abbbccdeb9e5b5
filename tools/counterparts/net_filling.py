"""How many of those who wait a supplier takes into its next roster: enough, not too many, with a key graph.

Shares the codecs of the product and none of its checks. No I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firmware.enforcement.dcnet.policy import NetRules

MOST_CARRIED: Final = 1500
"""More bundles do not fit into a document of 4 MiB: each has some 1.8 kB, and the roster, 0.1 kB a member, is
in it once for the supplier and once for each administrator, of which this leaves room for eight."""


@dataclass(frozen=True, slots=True)
class Filling:
    """Chooses newcomers by the order of the contracts.

    Args:
        rules: of the net.
        batch: fewest newcomers for whom a roster is drafted; less than churn_min means churn_min.
    """

    rules: NetRules
    batch: int = 0

    def first(self, here: Sequence[str]) -> list[str]:
        """Return who of those with bundles makes the first roster; nobody if they are too few."""
        most = self.rules.largest_net(min(len(here), MOST_CARRIED))
        return list(here[:most]) if most >= self.rules.starts_with() else []

    def later(self, stay: Collection[str], come: Sequence[str]) -> list[str]:
        """Return which newcomers fit beside those who stay.

        Nobody who is in is put out for the key graph's sake: if no number of newcomers gives one, as many
        come as may, since more members find one sooner.
        """
        room = min(self._limit - len(stay), len(come))
        if room <= 0:
            return []
        most = self.rules.largest_net(len(stay) + room)
        return list(come[: room if most < len(stay) else most - len(stay)])

    @property
    def _limit(self) -> int:
        return min(self.rules.n_max, MOST_CARRIED)

    def worth(self, gone: int, come: int, *, waited: bool = False) -> bool:
        """Tell whether so many changes are worth a roster: enough of them, and newcomers a whole batch.

        Who goes brings a roster by itself, and so do newcomers who have waited for the others of their batch
        long enough.
        """
        return gone + come >= self.rules.churn_min and (gone > 0 or come >= self.batch or waited)

    def waiting(self, waiting: int, taken: int) -> Mapping[str, Any]:
        """Return what the operator is told of those who wait while `taken` are in: why, what would help."""
        rules = self.rules
        if taken >= self._limit:
            why, help_ = "full", "order a further net for them"
        elif taken:
            why, help_ = "no-graph", f"{taken + waiting} members seldom find a key graph"
        else:
            why, help_ = "too-few", f"a first roster needs {rules.starts_with()} members"
        return {"waiting": waiting, "members": taken, "why": why, "hint": help_}
