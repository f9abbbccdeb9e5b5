"""How a gateway stands in a net, for people who look: key graph, who took part, anonymity sets. No I/O.

Holds no reading. Owed energy is given only if it is asked for; who may ask is not decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.machines import MemberState, Mode
from firmware.enforcement.dcnet.policy import MEMBER_FLOOR, NetRules
from firmware.enforcement.dcnet.primitives import graph
from firmware.enforcement.dcnet.primitives.cells import Joints, needed_bridges
from firmware.enforcement.dcnet.service.auditing import LastAudit
from firmware.enforcement.dcnet.slot.ledger import Owed, SlotEntry
from firmware.enforcement.dcnet.slot.view import Head

SHOWN_SLOTS: Final = 96
"""So many of the newest slots are told: a day of quarter hours."""


def anonymity_sets(
    adjacent: Mapping[int, frozenset[int]], accepted: Collection[int], joints: Joints | None = None
) -> dict[int, int]:
    """Return for each member among how many its value hides; 0: it took no part.

    That is the connected component of the accepted members it is in: the supplier learns a component's sum.
    Nobody counts through a joint that has lost too many of its bridges.

    Args:
        adjacent: the key graph.
        accepted: members whose submissions were taken.
        joints: of a net of several cells.
    """
    sizes = dict.fromkeys(adjacent, 0)
    left = set(accepted) & adjacent.keys()
    if joints is not None:
        adjacent = joints.without_loose(adjacent, left)
    while left:
        reached = graph.component(next(iter(left)), adjacent, left)
        sizes.update(dict.fromkeys(reached, len(reached)))
        left -= reached
    return sizes


def describe(
    rules: NetRules,
    state: MemberState,
    membership: Membership | None,
    head: Head | None,
    slots: Sequence[SlotEntry],
    owed: Iterable[Owed] | None,
) -> dict[str, Any]:
    """Return what can be shown of one net, as what JSON can say.

    Args:
        rules: of the net.
        state: of this member.
        membership: None until there is a roster.
        head: the end of the chain; None before the first EpochManifest.
        slots: the ledger, oldest first.
        owed: energy that no total contains; None: not for whoever asks.
    """
    said: dict[str, Any] = {
        "net": rules.net.hex(),
        "state": state.value,
        "slot_s": rules.slot_s,
        "n_min": rules.n_min,
        "d_min": rules.d_min,
        "insecure_small_net": rules.insecure_small_nets and rules.n_min < MEMBER_FLOOR,
        "roster": None,
        "last": None,
        "slots": [
            {"slot": one.slot, "state": one.state.name.lower(), "members": one.members, "reason": one.reason}
            for one in slots[-SHOWN_SLOTS:]
        ],
    }
    if membership is not None:
        said["roster"] = _roster(membership, head)
    if head is not None:
        said["last"] = {"epoch": head.epoch, "slot": head.slot, "accepted_known": head.accepted is not None}
    if owed is not None:
        said["owed"] = [
            {
                "first_slot": one.first_slot,
                "last_slot": one.last_slot,
                "import_wh": one.import_wh,
                "export_wh": one.export_wh,
                "reason": one.reason,
            }
            for one in owed
        ]
    return said


def describe_faults(
    rules: NetRules, mode: Mode, audit: LastAudit | None, recovered: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Return how a net deals with faults, as what JSON can say.

    Args:
        rules: of the net.
        mode: A or F, as far as this member can tell.
        audit: the last one that this member answered.
        recovered: (slot, number of shares) in which this member helped, oldest first.
    """
    return {
        "mode": mode.value,
        "recovery": rules.recovery.name.lower(),
        "reconcile_slots": rules.reconcile_slots,
        "last_audit": None if audit is None else {"epoch": audit.epoch, "slot": audit.slot},
        "recovered": [{"slot": slot, "shares": shares} for slot, shares in recovered],
    }


def describe_terms(
    membership: Membership | None,
    withdrawn: tuple[int, frozenset[bytes]],
    begins_utc: datetime | None,
    ends_utc: datetime | None,
) -> dict[str, Any]:
    """Return what the administrator has ordered of a net, as what JSON can say.

    Args:
        membership: None until there is a roster.
        withdrawn: number of the administrator's list, 0 without one, and the certificates in it.
        begins_utc: before this instant the register is not this net's.
        ends_utc: from when on it is not, as when a home changes the supplier or its net.
    """
    serial, certificates = withdrawn
    entries = () if membership is None else membership.roster.entries
    return {
        "withdrawn_list": serial,
        "withdrawn": [entry.index for entry in entries if entry.certificate_hash in certificates],
        "from_utc": None if begins_utc is None else begins_utc.isoformat(),
        "until_utc": None if ends_utc is None else ends_utc.isoformat(),
    }


def _roster(membership: Membership, head: Head | None) -> dict[str, Any]:
    adjacent = membership.adjacent
    everybody = frozenset(adjacent)
    expected = everybody if head is None else head.present
    accepted = expected if head is None or head.accepted is None else head.accepted
    joints = membership.joints
    hidden = anonymity_sets(adjacent, accepted, joints)
    return {
        **({} if joints is None else _cells(joints, adjacent, accepted)),
        "version": membership.roster.version,
        "own": membership.index,
        "members": [
            {
                "index": index,
                "neighbours": len(adjacent[index]),
                "absent": index not in accepted,
                "expected": index in expected,
                "anonymity_set": hidden[index],
                **({} if joints is None else {"cell": joints.cell_of[index] + 1}),
            }
            for index in sorted(adjacent)
        ],
        "edges": [[low, high] for low in sorted(adjacent) for high in sorted(adjacent[low]) if low < high],
    }


def _cells(
    joints: Joints, adjacent: Mapping[int, frozenset[int]], accepted: frozenset[int]
) -> dict[str, Any]:
    """Return the cells of a net and how its joints hold; cells are numbered from 1."""
    alive = joints.alive(adjacent, accepted)
    return {
        "cells": max(joints.cell_of.values()) + 1,
        "joints": [
            {
                "cells": [near + 1, far + 1],
                "bridges": len(drawn),
                "left": alive[near, far],
                "needed": needed_bridges(len(drawn)),
            }
            for (near, far), drawn in joints.bridges.items()
        ],
    }
