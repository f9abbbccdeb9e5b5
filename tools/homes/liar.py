"""A gateway that lies on the canary lane, for tests and the demo: no part of the product.

It uses a wrong word for one of its pads, so that no sum it is in counts everybody. Either it stands by that
word when it is audited, and the edge is found; or it tells the truth then, and contradicts what it has sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from firmware.enforcement.dcnet.primitives.arithmetic import blocks

_BLOCK: Final = 16
_PAD_BYTES: Final = 2 * _BLOCK  # three lanes; the canary word is the first of the second block
_OFF_BY: Final = 4711


class Lie(Enum):
    """What a liar does."""

    CONTRADICTION = "contradiction"
    """It sends a wrong word and states the right one: the audit names the member."""
    EDGE = "edge"
    """It sends and states a wrong word for one pad: the audit names the edge, that is, both ends."""


class LyingEdge:
    """The PRF of one edge, as the liar uses it; stands in for `Prf`."""

    def __init__(self, honest: Any, lie: Lie) -> None:
        self._honest, self._lie = honest, lie
        self._sent: set[bytes] = set()

    def encrypt(self, data: bytes) -> bytes:
        """Return the blocks of `data`, with another canary word if they are a pad that is sent."""
        right: bytes = self._honest.encrypt(data)
        if len(data) != _PAD_BYTES or (self._lie is Lie.CONTRADICTION and data in self._sent):
            return right
        self._sent.add(data)
        word = int.from_bytes(right[_BLOCK : _BLOCK + 8], "little") + _OFF_BY
        return right[:_BLOCK] + (word % (1 << 64)).to_bytes(8, "little") + right[_BLOCK + 8 :]

    def output(self, context: bytes, slot: int, purpose: int, length: int) -> bytes:
        """Return the first `length` bytes of the output, as `Prf` does."""
        edges: list[Any] = [self]
        return blocks(edges, context, slot, purpose, -(-length // _BLOCK))[0][:length]


def corrupt(member: Any, lie: Lie, *, peer: int | None = None) -> int:
    """Make a gateway's member of a net lie from its next submission on.

    Args:
        member: a `NetMember` that has joined.
        lie: what it does.
        peer: index of the neighbour whose pad is wrong; the one with the smallest index if None.

    Returns:
        The neighbour's index.
    """
    membership = member.membership
    honest: Callable[[int], Any] = membership.view
    chosen = min(membership.adjacent[membership.index]) if peer is None else peer
    views: dict[int, Any] = {}

    def view(epoch: int) -> Any:
        if epoch not in views:
            true = honest(epoch)
            views[epoch] = replace(true, edges={**true.edges, chosen: LyingEdge(true.edges[chosen], lie)})
        return views[epoch]

    membership.view = view
    return chosen
