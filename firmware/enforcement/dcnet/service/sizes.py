"""How long an answer of a net's EMP may be, by what is asked for and by the policy. Pure.

What is longer is not looked at. Each bound is above the longest that is legitimate: per member, administrator
and neighbour what a document says of one, and for each signature a whole SignedData with its certificate.
How long decoding takes follows from the number of items (`messages.shape`), not from these.
Spec: docs/dcnet.md, "Exact constructions", sizes.
"""

from __future__ import annotations

from typing import Final

from firmware.enforcement.dcnet.messages.canonical import MAX_DOCUMENT_BYTES
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives.graph import COMPLETE_UP_TO

_SIGNED: Final = 1 << 12
"""A SignedData without its content, and the certificate beside it; measured 1.6 kB with keys of 256 bits."""
_BUNDLE: Final = 256
_ENTRY: Final = 192
"""What a roster or an authorisation says of one member."""
_STATED: Final = 16
"""What a member states of one neighbour: number and tag or pad word."""
_LOST: Final = 1 << 13
"""A lost member's Submit frame with the most lanes and shares, and its Merkle path."""
_FEW: Final = 1 << 17
"""Eight signed calendars with 1024 ranges each are the longest of the rest."""
_RECEIPT: Final = 64
_FOUNDING: Final = frozenset({"bundle", "roster", "reveal", "graph", "confirm"})
_KEPT: Final = MAX_DOCUMENT_BYTES // 4
"""Of what is kept as it came: two manifests are the proof of a lie, in a document that must be read again."""


def most_bytes(rules: NetRules, resource: str) -> int:
    """Return the longest answer to a request about a net's resource.

    Args:
        rules: the policy; n_max bounds members and administrators.
        resource: below that of the net, such as "manifest/17/3".
    """
    what, _, rest = resource.partition("/")
    return min(MAX_DOCUMENT_BYTES if what in _FOUNDING else _KEPT, _longest(rules, what, rest))


def _longest(rules: NetRules, what: str, rest: str) -> int:
    members = rules.n_max
    by_administrator = _SIGNED + _ENTRY * members
    """A document about every member, with one more signature."""
    neighbours = min(members, max(COMPLETE_UP_TO, rules.degree) + 2 * rules.bridges)
    match what:
        case "roster":
            return members * (_SIGNED + _BUNDLE) + (members + 1) * by_administrator
        case "graph" | "manifest" | "outage":
            return _FEW + (members + 1) * by_administrator
        case "order":
            return _FEW + (members + 1) * by_administrator + neighbours * _LOST
        case "confirm" | "audit":
            return _FEW + neighbours * (_SIGNED + _STATED * neighbours)
        case "receipt" if rest.startswith("day/"):
            return _SIGNED + _RECEIPT * (rules.epoch_s // rules.slot_s + 1)
    return _FEW
