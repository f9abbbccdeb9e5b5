"""The tree over one slot's submissions: a root everybody sees, and a path for each member.

leaf = SHA-256(00 | digest), node = SHA-256(01 | left | right), an odd node is promoted unchanged.
Spec: docs/dcnet.md, "Exact constructions".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = bytes(HASH_BYTES)
"""Root of a slot in which nobody submitted."""


def root(digests: Sequence[bytes]) -> bytes:
    """Return the root over submission digests, in the order of the member indices."""
    return _levels(digests)[-1][0] if digests else EMPTY_ROOT


def path(digests: Sequence[bytes], position: int) -> tuple[bytes, ...]:
    """Return the siblings from the leaf at `position` up to the root; promoted levels have none.

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= position < len(digests):
        raise IndexError(position)
    return _siblings(_levels(digests), position)


def paths(digests: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Return the path of every leaf, as `path` does, from one tree."""
    levels = _levels(digests)
    return [_siblings(levels, position) for position in range(len(digests))]


def _siblings(levels: Sequence[Sequence[bytes]], position: int) -> tuple[bytes, ...]:
    siblings = []
    for level in levels[:-1]:
        if (sibling := position ^ 1) < len(level):
            siblings.append(level[sibling])
        position //= 2
    return tuple(siblings)


def contains(root_hash: bytes, digest: bytes, position: int, count: int, siblings: Sequence[bytes]) -> bool:
    """Tell whether `digest` is leaf `position` of the `count` leaves under `root_hash`."""
    if not 0 <= position < count:
        return False
    node, rest = _leaf(digest), list(siblings)
    while count > 1:
        if position ^ 1 < count:
            if not rest:
                return False
            sibling = rest.pop(0)
            node = _node(sibling, node) if position & 1 else _node(node, sibling)
        position, count = position // 2, (count + 1) // 2
    return not rest and node == root_hash


def _levels(digests: Sequence[bytes]) -> list[list[bytes]]:
    levels = [[_leaf(digest) for digest in digests]]
    while len(below := levels[-1]) > 1:
        pairs = [_node(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(pairs + below[len(pairs) * 2 :])
    return levels


def _leaf(digest: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + digest).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
