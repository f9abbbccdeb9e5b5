"""Whom audits and disputes have named, as a supplier remembers it: who is out, and which edges want new keys.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiohttp import ClientError

from firmware.enforcement.dcnet.messages.canonical import decode, encode
from tools.counterparts.net_journal import Journal, Room
from wan.errors import OrderRefused, WanError

STRIKES: Final = 3
"""So often a gateway may be on probation; then it is left to the administrator's visit."""
_UNTOLD: Final = "untold/"
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

    def __init__(self, kept: Room | None = None) -> None:
        """Go on with what is kept, which outlives this process."""
        self._kept = kept or Journal().room("probation")
        self._strikes = Counter({name: int(times) for name, times in self._kept.items("strikes/")})
        self._edges: dict[int, set[Ends]] = {}
        for version, data in self._kept.items("edges/"):
            record: Any = decode(data)
            self._edges[int(version)] = {_sorted((a, b)) for a, b in record}

    def note(self, version: int, edges: Collection[Ends], silent: Collection[str] = ()) -> frozenset[str]:
        """Count edges (each once in a roster) and silences; return whom that excludes now.

        Args:
            version: of the roster.
            edges: gateway ids of their ends.
            silent: gateway ids.
        """
        known = self._edges.setdefault(version, set())
        struck = {end for edge in edges if _sorted(edge) not in known for end in edge} | set(silent)
        if new := {_sorted(edge) for edge in edges} - known:
            known |= new
            self._kept.put(f"edges/{version}", encode([list(edge) for edge in sorted(known)]))
        self._strikes.update(struck)
        for name in struck:
            self._kept.put(f"strikes/{name}", str(self._strikes[name]).encode())
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


class Untold:
    """What administrators have not been told yet.

    Args:
        kept: outlives this process.
        names: of the administrators; what was kept for others is forgotten.
    """

    def __init__(self, kept: Room | None = None, names: Collection[str] = ()) -> None:
        self._kept = kept or Journal().room("untold")
        found: list[Any] = [decode(data) for _, data in self._kept.items(_UNTOLD)]
        self._waiting: list[tuple[str, bytes]] = [(name, report) for name, report in found if name in names]

    def add(self, names: Collection[str], reports: Sequence[bytes]) -> None:
        """Let each of these be told of each report."""
        self._keep([*self._waiting, *((name, report) for report in reports for name in names)])

    async def tell(
        self, administrators: Mapping[str, TakesFaults], refused: Callable[[str, str], None]
    ) -> None:
        """Try once to tell each; who is away is told later, what is refused (name, reason) is over."""
        tried, left = list(self._waiting), []
        for name, report in tried:
            try:
                await administrators[name].faults(report)
            except OrderRefused as error:
                refused(name, str(error))
            except (WanError, OSError, ClientError):
                left.append((name, report))
        if tried != left:
            self._keep([*left, *self._waiting[len(tried) :]])  # others may have come in the meantime

    def _keep(self, waiting: list[tuple[str, bytes]]) -> None:
        self._waiting = waiting
        self._kept.clear(_UNTOLD)
        for number, (name, report) in enumerate(waiting):
            self._kept.put(f"{_UNTOLD}{number:06d}", encode([name, report]))
