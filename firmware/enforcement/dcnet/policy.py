"""The rules of one net as every party counts with them: integers only, one canonical form, one hash.

Spec: docs/dcnet.md, NetPolicy. Floors that a gateway insists on are checked here and nowhere else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, Self

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.messages.canonical import encode
from firmware.enforcement.dcnet.primitives.kdf import NET_BYTES, SCHEME
from firmware.profile import net_cells, net_sizes
from firmware.profile.model import NetPolicy
from firmware.profile.net_terms import contradictions

LANES: Final = ("import", "export", "canary")
CANARY_LANE: Final = 2
TENTHS: Final = 10
"""Energies on a lane are in 0.1 Wh."""
MEMBER_FLOOR: Final = 16
"""No net counts as safe below this many members; less needs both insecure flags."""
CHURN_FLOOR: Final = 4
"""Fewer members than that never change between two rosters of a net that counts as safe."""
_EPOCH_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TENTH_WH: Final = "0.1 Wh"
_COUNT: Final = "1"
_DAY_S: Final = 86400
_MILLION: Final = 1_000_000
_SLOTS: Final = 1 << 32


class Recovery(IntEnum):
    """What becomes of a slot in which an accepted member does not open."""

    NONE = 0
    """It is aborted."""
    WITNESS = 1
    """Its self-mask is recovered from shares, under one order that a witness has co-signed."""


@dataclass(frozen=True, slots=True)
class NetRules:
    """NetPolicy of the profile, in whole milliseconds and parts per million."""

    net: bytes
    slot_s: int
    t0_utc: datetime
    n_min: int
    d_min: int
    delta_ppm: int
    """Largest part of the present members that a manifest may leave out."""
    submit_ms: int
    """D1, after the end of the slot: no submission is taken later."""
    manifest_ms: int
    """D2: a manifest seen later is not opened."""
    open_ms: int
    """D3: no opening is taken later."""
    poll_ms: int
    max_wh: int
    n_max: int
    insecure_small_nets: bool
    recovery: Recovery = Recovery.NONE
    degree: int = 16
    """k of the key graph of more than 64 members."""
    holders: int = 8
    """m, how many neighbours hold a share of a seed."""
    threshold: int = 5
    """t, how many of them give the seed."""
    f_max: int = 2
    """Most lost neighbours that a member may have in one recovery."""
    recover_ms: int = 480_000
    """D4, only with recovery: no share is given or taken later."""
    reconcile_slots: int = 2976
    """Regular slots in one period of the reconcile net; 0: nothing is reconciled."""
    reconciles: bytes = b""
    """Of a reconcile net the id of the net whose energy it carries."""
    n_start: int = 0
    """Fewest members of a first roster; at least n_min, whatever stands here."""
    churn_min: int = 4
    """Between two rosters nobody changes, or at least so many do."""
    epoch_s: int = _DAY_S
    """Length of an epoch; another one than a day is for trying things out."""
    roster_pause_s: int = _DAY_S
    """Least time between two roster versions."""
    bridges: int = 0
    """Edges at each joint of two cells; none with one cell."""
    calendar: bool = False
    """Whether the supplier's signed calendars are asked for and obeyed."""
    cells: int = 1
    """Into how many nets, joined by bridges into this one, the members are drawn."""
    v_slots: int = 0
    """For so many slots at once the supplier may order commitments (V-mode); 0: never."""

    @classmethod
    def from_profile(cls, policy: NetPolicy) -> Self:
        """Take over a profile's policy.

        Raises:
            NetRefused: lanes, recovery or deadlines that this gateway cannot serve, or fields that can never
                work together; it says what is needed.
        """
        if tuple(policy.lanes) != LANES:
            raise NetRefused("only the lanes import, export, canary are built")
        rules = cls(
            net=bytes.fromhex(policy.net_id),
            slot_s=policy.slot_s,
            t0_utc=policy.t0_utc.astimezone(UTC),
            n_min=policy.n_min,
            d_min=policy.d_min,
            delta_ppm=round(policy.delta * _MILLION),
            submit_ms=round(policy.submit_s * 1000),
            manifest_ms=round(policy.manifest_s * 1000),
            open_ms=round(policy.open_s * 1000),
            poll_ms=round(policy.poll_s * 1000),
            max_wh=policy.max_wh,
            n_max=policy.n_max,
            insecure_small_nets=policy.insecure_small_nets,
            recovery=Recovery.WITNESS if policy.recovery == "witness" else Recovery.NONE,
            recover_ms=round(policy.recover_s * 1000),
            reconcile_slots=policy.reconcile_slots,
            n_start=policy.n_start,
            churn_min=policy.churn_min,
            epoch_s=policy.epoch_s,
            roster_pause_s=policy.roster_pause_s,
            bridges=policy.bridges,
            calendar=policy.calendar == "signed",
            degree=policy.k,
            cells=policy.cells,
            v_slots=policy.v_slots,
            holders=policy.m,
            threshold=policy.t,
            f_max=policy.f_max,
        )
        rules.check()
        for name, needed in contradictions(policy):
            raise NetRefused(f"{name}: {needed}")
        return rules

    def check(self) -> None:
        """Refuse rules that contradict themselves.

        Raises:
            NetRefused: with the rule that is broken.
        """
        if not 0 < self.submit_ms < self.manifest_ms <= self.open_ms <= self.slot_s * 1000:
            raise NetRefused("deadlines must rise: 0 < D1 < D2 <= D3 <= slot")
        if self.poll_ms <= 0:
            raise NetRefused("the polling interval must be positive")
        if not 1 <= self.d_min < self.n_min <= self.n_max:
            raise NetRefused("1 <= d_min < n_min <= n_max is required")
        if self.degree < 2 or self.degree % 2:
            raise NetRefused("k is even and at least 2")
        witnessed, small = self.recovery is Recovery.WITNESS, self.insecure_small_nets
        for field, expected in net_cells.problems(
            self.cells, self.bridges, self.n_min, witnessed=witnessed, insecure=small
        ):
            raise NetRefused(f"cells = {self.cells}, bridges = {self.bridges}: {field} must be {expected}")
        bounds = (self.n_min, self.n_max, self.d_min, self.degree, self.cells)
        if ways_out := net_sizes.unservable(*bounds):
            raise NetRefused(f"no number of members from n_min to n_max has a key graph; needed: {ways_out}")
        if why := net_sizes.cannot_begin(self.n_start, *bounds):
            raise NetRefused(f"n_start: {why}")
        if self.recovery is Recovery.WITNESS:
            if not 2 <= self.threshold <= self.holders <= 255 or self.d_min < self.threshold:
                raise NetRefused("2 <= t <= m <= 255 and t <= d_min are required for recovery")
            if self.f_max < 1:
                raise NetRefused("f_max must be at least 1 for recovery")
            if not self.open_ms < self.recover_ms <= self.slot_s * 1000:
                raise NetRefused("D3 < D4 <= slot is required for recovery")
        if self.n_start > self.n_max:
            raise NetRefused("n_start must not exceed n_max")
        if self.epoch_s < self.slot_s:
            raise NetRefused("an epoch must hold a slot")
        hurried = (self.epoch_s, self.roster_pause_s) != (_DAY_S, _DAY_S) or self.churn_min < CHURN_FLOOR
        if hurried and not self.insecure_small_nets:
            raise NetRefused(
                "epoch_s and roster_pause_s other than a day, and churn_min below "
                f"{CHURN_FLOOR}, need insecure_small_nets"
            )
        if not 0 <= self.delta_ppm < _MILLION // 2:
            raise NetRefused("delta must lie in [0, 0.5)")
        if self.reconcile_slots < 0:
            raise NetRefused("a period has at least 0 slots")
        if not 0 <= self.v_slots < _SLOTS:
            raise NetRefused("v_slots is a number of slots")
        largest_wh = self.max_wh * max(1, self.reconcile_slots)
        if self.max_wh < 1 or self.n_max * largest_wh * TENTHS >= 1 << 63:
            raise NetRefused("n_max * max_wh could wrap a lane")

    def reconciled(self) -> NetRules:
        """Return the rules of the reconcile net: another id, slots of a whole period, values as large.

        Raises:
            NetRefused: the policy has no reconcile slots, or this is a reconcile net.
        """
        if not self.reconcile_slots or self.reconciles:
            raise NetRefused("nothing is reconciled in this net")
        return replace(
            self,
            net=reconcile_net(self.net),
            slot_s=self.slot_s * self.reconcile_slots,
            max_wh=self.max_wh * self.reconcile_slots,
            reconcile_slots=0,
            reconciles=self.net,
            calendar=False,
            v_slots=0,
        )

    def ruling_epoch(self, period: int) -> int:
        """Return the epoch whose roster plays a slot of the reconcile net: that before the period begins.

        So whoever leaves in a period, or with its beginning, is still in the slot at its end. Before the
        net's first roster there is none: then the first one plays it.
        """
        return self.epoch_of(max(0, period * self.reconcile_slots - 1))

    def admit(self, *, insecure_small_nets_allowed: bool) -> bool:
        """Apply the floor; return whether this net runs as an insecure small one.

        Raises:
            NetRefused: N_min is below the floor and not both flags (policy and gateway) allow that.
        """
        if self.n_min >= MEMBER_FLOOR:
            return False
        if not (self.insecure_small_nets and insecure_small_nets_allowed):
            raise NetRefused(
                f"N_min {self.n_min} is below {MEMBER_FLOOR} and insecure_small_nets "
                "is not set both in gateway.toml and in the signed policy"
            )
        return True

    def required_degree(self) -> int:
        """Return the degree every member of a roster needs: room for two absent neighbours."""
        return self.d_min + net_sizes.ROOM

    def least_patience_s(self) -> float:
        """Return the least time a supplier must wait for members before it calls them silent.

        A member that is busy with a slot looks for rosters when it is over, and one that joins at every poll,
        of which a slot has at least two: who is given less cannot be heard, and rosters would lack some.
        """
        return float(self.slot_s)

    def slot_at(self, instant: datetime) -> int:
        """Return the slot that `instant` lies in; negative before the grid begins."""
        return (instant - self.t0_utc) // timedelta(seconds=self.slot_s)

    def slot_end(self, slot: int) -> datetime:
        """Return the end of a slot; its deadlines count from here."""
        return self.t0_utc + timedelta(seconds=self.slot_s * (slot + 1))

    def measure_until(self, slot: int) -> datetime:
        """Return when a gateway stops waiting for its own value, early enough to say hello instead."""
        return self.slot_end(slot) + timedelta(milliseconds=self.submit_ms * 3 // 4)

    def submit_until(self, slot: int) -> datetime:
        """Return D1 of a slot."""
        return self.slot_end(slot) + timedelta(milliseconds=self.submit_ms)

    def manifest_until(self, slot: int) -> datetime:
        """Return D2 of a slot."""
        return self.slot_end(slot) + timedelta(milliseconds=self.manifest_ms)

    def open_until(self, slot: int) -> datetime:
        """Return D3 of a slot."""
        return self.slot_end(slot) + timedelta(milliseconds=self.open_ms)

    def final_until(self, slot: int) -> datetime:
        """Return when a slot's total is certain: D3, with recovery D4."""
        last_ms = self.recover_ms if self.recovery is Recovery.WITNESS else self.open_ms
        return self.slot_end(slot) + timedelta(milliseconds=last_ms)

    def epoch_of(self, slot: int) -> int:
        """Return the epoch in which a slot begins: with epochs of a day the UTC day number since 1970-01-01.

        A slot of a reconcile net belongs to the epoch it ends in: its beginning may lie before the roster.
        Any number that fits a frame has one, even where the calendar of the host ends.
        """
        slot_ms = 1000 * self.slot_s
        at_ms = (self.t0_utc - _EPOCH_ZERO) // timedelta(milliseconds=1) + slot_ms * slot
        if self.reconciles:
            at_ms += slot_ms - 1
        return at_ms // (1000 * self.epoch_s)

    def first_slot_of(self, epoch: int) -> int:
        """Return the first slot of the grid that begins in `epoch` or later."""
        begin = _EPOCH_ZERO + timedelta(seconds=self.epoch_s * epoch)
        return max(0, -((self.t0_utc - begin) // timedelta(seconds=self.slot_s)))

    def starts_with(self) -> int:
        """Return how many members a first roster needs: fewer would seldom find a key graph."""
        least = max(self.n_start, self.n_min)
        return net_sizes.smallest_net(least, self.n_max, self.d_min, self.degree, self.cells) or least

    def largest_net(self, most: int) -> int:
        """Return the largest permitted number of members up to `most` with a key graph, 0: there is none."""
        found = net_sizes.largest_net(min(most, self.n_max), self.d_min, self.degree, self.cells)
        return found if found >= self.n_min else 0

    def enough_of(self, accepted: int, present: int) -> bool:
        """Tell whether |A| >= (1 - delta) |P|, in exact arithmetic."""
        return accepted * _MILLION >= (_MILLION - self.delta_ppm) * present

    def has_slot(self, slot: int) -> bool:
        """Tell whether a slot number fits the frames."""
        return 0 <= slot < _SLOTS

    def schema_hash(self) -> bytes:
        """Return the hash of what the lanes mean: names, units and ranges."""
        schema = [[name, _TENTH_WH, self.max_wh * TENTHS] for name in LANES[:CANARY_LANE]] + [
            [LANES[CANARY_LANE], 0, 1]
        ]
        return hashlib.sha256(encode(schema)).digest()

    def policy_hash(self) -> bytes:
        """Return the hash by which roster, administrator and gateway know they mean the same rules."""
        fields: list[object] = [
            self.net,
            self.slot_s,
            (self.t0_utc - _EPOCH_ZERO) // timedelta(milliseconds=1),
            self.n_min,
            self.d_min,
            self.delta_ppm,
            self.submit_ms,
            self.manifest_ms,
            self.open_ms,
            self.max_wh,
            self.n_max,
            self.insecure_small_nets,
            self.schema_hash(),
            int(self.recovery),
            self.degree,
            self.holders,
            self.threshold,
            self.f_max,
            self.recover_ms,
            self.reconcile_slots,
            self.n_start,
            self.churn_min,
            self.epoch_s,
            self.roster_pause_s,
            self.bridges,
            self.calendar,
            self.v_slots,
        ]
        if self.cells > 1:
            fields.append(["cells", self.cells])  # nets of one cell have the hash that they always had
        return hashlib.sha256(encode(fields)).digest()


def reconcile_net(net: bytes) -> bytes:
    """Return the id of the reconcile net that belongs to a net."""
    return hashlib.sha256(SCHEME + b" reconcile" + net).digest()[:NET_BYTES]
