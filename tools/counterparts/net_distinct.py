"""What no two parties of a roster may share; its members would refuse it by keeping silent. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from firmware.enforcement.dcnet.messages.roster import KeyBundle

MAX_BUNDLE_BYTES: Final = 4096
"""Of a signed bundle, some 1.8 kB: a few bloated ones would not fit into one document with the others."""


def shared_part(bundle: KeyBundle, others: Iterable[KeyBundle]) -> str:
    """Name what a new bundle has in common with one that is here already; empty if it is all its own.

    Args:
        bundle: the new one.
        others: those of other members.
    """
    for other in others:
        if bundle.point == other.point:
            return "key"
        if bundle.pseudonym == other.pseudonym:
            return "pseudonym"
        if bundle.commitment == other.commitment:
            return "commitment"
    return ""


def who_copied(bundles: Mapping[str, KeyBundle], commitments: Collection[bytes]) -> frozenset[str]:
    """Return who commits to the nonce of the supplier or of an administrator.

    Administrators tell their commitments before a roster is drafted, to whoever asks.

    Args:
        bundles: gateway id -> its bundle.
        commitments: of supplier and administrators.
    """
    return frozenset(name for name, bundle in bundles.items() if bundle.commitment in commitments)
