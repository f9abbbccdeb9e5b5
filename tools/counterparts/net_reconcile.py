"""The supplier's side of a reconcile net: the same members, slots of a whole period, sums marked as such."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmware.enforcement.dcnet.messages.frames import RECONCILE
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import kdf
from tools.counterparts.net_tally import Terms

if TYPE_CHECKING:
    from collections.abc import Mapping

BELOW: Final = "/reconcile"
"""Its resources lie below those of its net."""


def terms_of(terms: Terms, rules: NetRules, secrets: Mapping[int, bytes], roster_hash: bytes) -> Terms:
    """Return what frames of the reconcile net must agree with.

    Args:
        terms: of the regular net.
        rules: of the reconcile net.
        secrets: member -> Z of its DCNET key and the supplier's ENC key.
        roster_hash: of the roster of both nets.
    """
    keys = {index: kdf.mac_key(z, roster_hash, rules.net, terms.version) for index, z in secrets.items()}
    return replace(terms, net=rules.net, mac_keys=keys, flags=RECONCILE)
