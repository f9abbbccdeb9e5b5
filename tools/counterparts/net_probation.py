"""Whom audits and disputes have named, as a supplier remembers it: who is out, and which edges want new keys.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import ClientError

from wan.errors import OrderRefused, WanError

STRIKES: Final = 3
"""So often a gateway may be on probation; then it is left to the administrator's visit."""
Ends = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Accused:
    """Whom an audit has named, by gateway ids."""

    out: frozenset[str] = frozenset()
    """Their own statements, or what they have sent, are against them."""
    silent: frozenset[str] = frozenset()
    edges: frozenset[Ends] = frozenset()
    """The two ends state different pads."""


class Probation:
    """Of one net, over all its rosters."""

    def __init__(self) -> None:
        """Begin with a clean sheet."""
        self._strikes: Counter[str] = Counter()
        self._edges: dict[int, set[Ends]] = {}

    def note(self, version: int, edges: Collection[Ends], silent: Collection[str] = ()) -> frozenset[str]:
        """Count edges (each once in a roster) and silences; return whom that excludes now.

        Args:
            version: of the roster.
            edges: gateway ids of their ends.
            silent: gateway ids.
        """
        known = self._edges.setdefault(version, set())
        struck = {end for edge in edges if _sorted(edge) not in known for end in edge} | set(silent)
        known |= {_sorted(edge) for edge in edges}
        self._strikes.update(struck)
        return frozenset(name for name in struck if self._strikes[name] >= STRIKES)

    def edges(self, version: int) -> frozenset[Ends]:
        """Return the edges of a roster that want new keys: those of the next one."""
        return frozenset(self._edges.get(version, ()))


def _sorted(edge: Ends) -> Ends:
    one, other = sorted(edge)
    return one, other


class TakesFaults(Protocol):
    """One administrator as a supplier tells it; raises `WanError`, `OSError` or `ClientError`."""

    async def faults(self, report: bytes) -> bytes:
        """Take a report; nothing comes back."""


@dataclass
class Untold:
    """What administrators have not been told yet."""

    waiting: list[tuple[str, bytes]] = field(default_factory=list)
    """(name, report)."""

    async def tell(
        self, administrators: Mapping[str, TakesFaults], refused: Callable[[str, str], None]
    ) -> None:
        """Try once to tell each; who is away is told later, what is refused (name, reason) is over."""
        waiting, self.waiting = self.waiting, []
        for name, report in waiting:
            try:
                await administrators[name].faults(report)
            except OrderRefused as error:
                refused(name, str(error))
            except (WanError, OSError, ClientError):
                self.waiting.append((name, report))
