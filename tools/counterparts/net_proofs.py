"""Whether a member of a net has signed commitments that prove nothing, judged by its administrator alone.

All that the proof is bound to stands in what the member has signed, in a roster that we have countersigned
ourselves, and in the policy. So no supplier can make the proof of an honest member fail. Does no I/O.
"""

from __future__ import annotations

from firmware.enforcement.dcnet.errors import ProofRefused
from firmware.enforcement.dcnet.messages.commit import CommitV
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from wan.errors import OrderRefused


def failing_check(said: CommitV, roster: Roster, rules: NetRules) -> str:
    """Return the name of the check that a member's commitments fail.

    Args:
        said: signed by the member whose index it says.
        roster: of the version it says.
        rules: of the net.

    Raises:
        OrderRefused: `policy` (the roster was made under another one), `holds` (the proof is right), `vmode`
            (it cannot be checked here: PyNaCl is not installed).
    """
    if roster.policy_hash != rules.policy_hash():
        raise OrderRefused("policy", "the roster was made under another policy")
    try:
        from firmware.enforcement.dcnet.primitives import verifiable  # loads libsodium, in V-mode only
    except ImportError as error:
        raise OrderRefused("vmode", "the proof cannot be checked here: install the extra `vmode`") from error
    limits = (rules.max_wh * TENTHS,) * CANARY_LANE
    place = (said.net, document_hash(roster), said.epoch, said.slot, said.index, said.reference)
    try:
        verifiable.check(
            verifiable.Binding(*place, said.submission, limits), said.points, said.masked, said.proof
        )
    except ProofRefused as wrong:
        return wrong.check
    raise OrderRefused("holds", "the proof is right: its member has signed nothing wrong")
