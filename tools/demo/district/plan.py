"""Who is in a district's run, and what happens to whom and when: data, and times that follow from it. No I/O.

Home n belongs to an administrator and is customer of a supplier; the nets are lists of homes. Slots are
counted from 0, the one that begins when plain deliveries have ended; plain ones come before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tools.homes.household import Household

MIN_GATEWAYS: Final = 16
"""From so many homes on there is a district; fewer do not fill three nets whose rules survive the run."""
LEAST_SLOTS: Final = 3
FULL_GATEWAYS: Final = 24
"""From so many on everything happens that can: recovery needs members with seven neighbours, before and after
a supplier change."""
READINGS, GROUP_TOTAL = "readings", "group-total"
MOVED, NEW_TENANT = "group-total-moved", "group-total-tenant"
"""Profiles from a boundary on: of who changes the supplier, and of who moves in."""
OBIS: Final = "1-0:1.8.0*255"
_TELEGRAMS_IN_SLOT: Final = 10
_WINDOW: Final = 0.22
"""Part of a slot to both sides of an instant: more than the pause between two telegrams."""
_TELEGRAMS_IN_LONG_SLOT: Final = 14
_WINDOW_OF_LONG_SLOT: Final = 0.15
"""What is left until submissions end is the gateways', for an audit's finding too."""
_REGULAR_PERIOD_S: Final = 900
SHORTEST_SLOT_S: Final = 3
SHORTEST_FULL_S: Final = 10
"""Where rosters follow one another: founding one takes seconds of a core, and the slots go on meanwhile."""
PLAIN_SLOTS: Final = 2
"""Plain slots before anybody hears of nets."""
FULL_SLOTS: Final = 13
EPOCH_SLOTS: Final = 8
"""Rosters change with an epoch; a real one is a day."""
PERIOD_SLOTS: Final = 6
"""What is owed is summed up once a period; a real one is a month."""
_SLOT_PER_BOOT: Final = 2.5
_REGULAR_GATEWAYS: Final = 5
_LEAD_PER_BOOT: Final = 6
_FOUNDING_PER_BOOT: Final = 8
_SHORTEST_LEAD_S: Final = 3.0
_SHORTEST_FOUNDING_S: Final = 24.0
_POLLS_IN_SLOT: Final = 30
_NOT_YET: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Administrator:
    """One administrator with a branch of the PKI of its own."""

    name: str
    """As rosters call it, and its folder."""
    homes: frozenset[int]
    refuses: frozenset[int] = frozenset()
    """Homes, of others, that no gateway of its own shares a key with."""

    @property
    def server_name(self) -> str:
        """In its TLS certificate."""
        return f"gwa.{self.name}.sm-pki.test"


@dataclass(frozen=True, slots=True)
class Supplier:
    """One supplier."""

    name: str
    branch: str
    """Administrator in whose branch of the PKI it has its certificates."""

    @property
    def server_name(self) -> str:
        """In its TLS certificate."""
        return f"{self.name}.sm-pki.test"


@dataclass(frozen=True, slots=True)
class Net:
    """One net of one supplier at its beginning."""

    name: str
    net_id: str
    supplier: str
    homes: tuple[int, ...]
    n_min: int
    d_min: int
    recovery: str = "none"


@dataclass(frozen=True, slots=True)
class DropOut:
    """A gateway that is switched off before the manifest of a slot, and on again before the next one's."""

    home: int
    slot: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Of these homes, the one whose submission of a slot comes first loses its power before it opens."""

    net: str
    homes: tuple[int, ...]
    slot: int


@dataclass(frozen=True, slots=True)
class Liar:
    """A gateway with a wrong word on the canary lane, from a slot on until its roster ends."""

    home: int
    slot: int


@dataclass(frozen=True, slots=True)
class Move:
    """Homes that change their supplier at the boundary of an epoch."""

    homes: tuple[int, ...]
    origin: str
    """Name of the net they leave."""
    target: str
    slot: int
    """The first one in the new net."""
    ordered_slot: int
    """In which slot the administrators order it."""


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A home in which somebody else lives from a slot on; the slot before it is nobody's."""

    home: int
    slot: int

    @property
    def consumer(self) -> str:
        """Who moves in."""
        return f"consumer-{self.home}-b"


@dataclass(frozen=True, slots=True)
class Revocation:
    """A home that an administrator withdraws from its gateways in the middle of a slot."""

    administrator: str
    home: int
    slot: int


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody, and what happens."""

    administrators: tuple[Administrator, ...]
    suppliers: tuple[Supplier, ...]
    nets: tuple[Net, ...]
    drop_outs: tuple[DropOut, ...] = ()
    losses: tuple[Loss, ...] = ()
    liars: tuple[Liar, ...] = ()
    moves: tuple[Move, ...] = ()
    tenants: tuple[NewTenant, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    slots: int = LEAST_SLOTS
    """Fewest in which all of this can happen."""

    @property
    def homes(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(sorted(home for net in self.nets for home in net.homes))

    def administrator_of(self, home: int) -> Administrator:
        """Whose gateway it is."""
        return next(one for one in self.administrators if home in one.homes)

    def net_of(self, home: int) -> Net:
        """Where the home is at the beginning."""
        return next(net for net in self.nets if home in net.homes)

    def supplier(self, name: str) -> Supplier:
        """Look a supplier up."""
        return next(one for one in self.suppliers if one.name == name)

    def net(self, name: str) -> Net:
        """Look a net up."""
        return next(one for one in self.nets if one.name == name)

    def members(self, net: Net, slot: int) -> tuple[int, ...]:
        """Who is a net's in a slot, in the order of their indices: those who came later, last."""
        gone = {
            home
            for move in self.moves
            if move.origin == net.name and move.slot <= slot
            for home in move.homes
        }
        come = [
            home
            for move in self.moves
            if move.target == net.name and move.slot <= slot
            for home in move.homes
        ]
        return (*(home for home in net.homes if home not in gone), *come)


def cast(gateways: int) -> Cast:
    """Give every home its part: half are in one net, the other half in two more; every third is south's.

    Raises:
        ValueError: fewer than `MIN_GATEWAYS`.
    """
    if gateways < MIN_GATEWAYS:
        raise ValueError(f"a district has at least {MIN_GATEWAYS} gateways")
    full = gateways >= FULL_GATEWAYS
    third, second = max(4, gateways // 4), max(5, gateways // 4 - full)
    first = gateways - second - third
    homes = range(1, gateways + 1)
    south = frozenset(home for home in homes if home % 3 == 0)
    north = frozenset(homes) - south
    one, two, three = tuple(homes[:first]), tuple(homes[first : first + second]), tuple(homes[-third:])
    moving = one[-(first // 3) :]
    staying = first - len(moving) - 1  # without the liar, whom no later roster takes
    theirs = three if full else one
    refused = next(home for home in theirs if home in north)
    # What the refused home keeps: north's homes of its net.
    kept = sum(home in north for home in theirs) - 1
    return Cast(
        administrators=(
            Administrator("north", north),
            Administrator("south", south, refuses=frozenset({refused})),
        ),
        suppliers=(Supplier("altstrom", "north"), Supplier("neustrom", "south")),
        nets=(
            _net("altstrom-1", 0xA1, "altstrom", one, _spare(staying if full else kept + 1), full),
            _net("altstrom-2", 0xA2, "altstrom", two, _spare(second)),
            _net("neustrom-1", 0xB1, "neustrom", three, _spare(kept + 1 if full else third)),
        ),
        drop_outs=(DropOut(one[1], 1),),
        **_happenings(one, moving) if full else {},
    )


def _happenings(one: tuple[int, ...], moving: tuple[int, ...]) -> dict[str, Any]:
    """What happens in the first net of a full district, beside the drop-out of its second home in slot 1."""
    return {
        "losses": (Loss("altstrom-1", one[4:8], 2),),
        "liars": (Liar(one[2], 3),),
        "moves": (Move(moving, "altstrom-1", "neustrom-1", EPOCH_SLOTS, 4),),
        "tenants": (NewTenant(one[3], EPOCH_SLOTS + 1),),
        "revocations": (Revocation("north", one[7], EPOCH_SLOTS + 2),),
        "slots": FULL_SLOTS,
    }


def _spare(members: int) -> int:
    """Return the d_min of a net in which everybody, two absent ones apart, shares keys with so many."""
    return max(1, members - 1 - 2)


def _net(
    name: str,
    number: int,
    supplier: str,
    homes: tuple[int, ...],
    d_min: int,
    recovers: bool = False,
) -> Net:
    n_min = max(3, d_min + 1, len(homes) // 2)
    return Net(name, f"{number:016x}", supplier, homes, n_min, d_min, "witness" if recovers else "none")


@dataclass(frozen=True, slots=True)
class DistrictPlan:
    """How large, how long, and when."""

    folder: Path
    gateways: int
    slots: int
    """Of the nets."""
    slot_s: int = 0
    """Length of a slot; 0 until `starting` chooses one that this machine can keep up with."""
    plain_slots: int = PLAIN_SLOTS
    """So many slots are delivered in plain before the first net."""
    t0_utc: datetime = _NOT_YET
    """Begin of the nets' first slot, and end of the last plain one."""
    chosen: Cast | None = None
    """Who takes part; None: what `cast` gives so many gateways."""

    @property
    def cast(self) -> Cast:
        """Everybody."""
        return self.chosen or cast(self.gateways)

    @property
    def households(self) -> tuple[Household, ...]:
        """All homes."""
        return tuple(Household(number) for number in range(1, self.gateways + 1))

    @property
    def meter_interval_s(self) -> float:
        """Pause between two telegrams of a meter."""
        return self.slot_s / (_TELEGRAMS_IN_LONG_SLOT if self.cast.moves else _TELEGRAMS_IN_SLOT)

    @property
    def window_s(self) -> float:
        """How far from its instant a value may lie."""
        part = _WINDOW_OF_LONG_SLOT if self.cast.moves else _WINDOW
        return round(part * self.slot_s, 3) if self.slot_s < _REGULAR_PERIOD_S else 0.0

    @property
    def gwa_poll_s(self) -> float:
        """Pause between two questions of a gateway to its administrator."""
        return 0.05 * self.gateways

    def starting(self, now_utc: datetime, *, boot_s: float) -> DistrictPlan:
        """Set the slots' length and the instant at which the nets take over.

        Args:
            now_utc: aware.
            boot_s: how long it took to set up and boot a gateway: how fast machine and modules are.
        """
        share = max(1.0, self.gateways / _REGULAR_GATEWAYS)  # all of them work at once, on one machine
        slots = max(self.slots, self.cast.slots)
        shortest_s = SHORTEST_FULL_S if self.cast.moves else SHORTEST_SLOT_S
        slot_s = self.slot_s or max(shortest_s, math.ceil(_SLOT_PER_BOOT * boot_s * share))
        # From the first orders to the first plain slot; then from the nets' orders to their first slot, in
        # which each agrees on a key with each of its net.
        ready_s = max(_SHORTEST_LEAD_S, _LEAD_PER_BOOT * boot_s * share)
        pairs = sum(len(net.homes) ** 2 for net in self.cast.nets) / _REGULAR_GATEWAYS**2
        founding_s = self.gwa_poll_s + max(_SHORTEST_FOUNDING_S, _FOUNDING_PER_BOOT * boot_s * pairs)
        plain_slots = self.plain_slots + math.ceil(founding_s / slot_s)
        # Epochs are counted from 1970 on, so the nets begin at a multiple of one.
        grid_s = slot_s * (EPOCH_SLOTS if self.cast.moves else 1)
        begin = math.ceil((now_utc.timestamp() + ready_s + plain_slots * slot_s) / grid_s) * grid_s
        t0_utc = datetime.fromtimestamp(begin, UTC)
        plain_slots = int((begin - now_utc.timestamp() - ready_s) // slot_s)
        return replace(self, slots=slots, slot_s=slot_s, plain_slots=plain_slots, t0_utc=t0_utc)

    def slot_start(self, slot: int) -> datetime:
        """Begin of a slot, counted from the nets' first; plain ones have negative numbers."""
        return self.t0_utc + timedelta(seconds=slot * self.slot_s)

    @property
    def plain_from_utc(self) -> datetime:
        """Begin of the first plain slot."""
        return self.slot_start(-self.plain_slots)

    @property
    def flash_utc(self) -> datetime:
        """When the administrators order the nets: after the first plain slots."""
        return self.slot_start(PLAIN_SLOTS - self.plain_slots)

    @property
    def all_slots(self) -> range:
        """Every slot from the first plain one to the last of the nets."""
        return range(-self.plain_slots, self.slots)

    def net_policy(self, net: Net) -> dict[str, Any]:
        """The net as its administrators order it: a small one, and it says so."""
        deadlines = (0.46, 0.66, 0.79, 0.97) if net.recovery == "witness" else (0.6, 0.8, 0.97, None)
        submit_s, manifest_s, open_s, recover_s = (
            None if part is None else round(part * self.slot_s, 2) for part in deadlines
        )
        policy: dict[str, Any] = {
            "net_id": net.net_id,
            "slot_s": self.slot_s,
            "t0_utc": self.t0_utc.isoformat(),
            "n_min": net.n_min,
            "d_min": net.d_min,
            "delta": 0.34,
            "insecure_small_nets": True,
            "submit_s": submit_s,
            "manifest_s": manifest_s,
            "open_s": open_s,
            "poll_s": round(max(0.05, self.slot_s / _POLLS_IN_SLOT), 3),
            "max_wh": 100_000,
            "n_max": 64,
            "n_start": max(len(net.homes), net.n_min),
            "recovery": net.recovery,
            "reconcile_slots": PERIOD_SLOTS if self.cast.moves else 0,
        }
        if recover_s is not None:
            policy["recover_s"] = recover_s
        if self.cast.moves:
            epoch_s = EPOCH_SLOTS * self.slot_s
            policy |= {"epoch_s": epoch_s, "roster_pause_s": epoch_s // 2, "churn_min": 4}
        return policy

    def plain_profiles(self, household: Household, peer: dict[str, Any]) -> dict[str, Any]:
        """The order of a running street: every slot in plain to the supplier."""
        return self._set(
            household, [self._readings(household, peer["name"])], [_communication(READINGS, peer)]
        )

    def net_profiles(self, household: Household, peer: dict[str, Any]) -> dict[str, Any]:
        """The order that takes a home into its net: plain values end where concealed ones begin."""
        net = self.cast.net_of(household.number)
        readings = self._readings(household, peer["name"]) | {"valid_until": self.t0_utc.isoformat()}
        return self._set(
            household,
            [readings, self._concealed(household, GROUP_TOTAL, peer["name"], 0)],
            [_communication(READINGS, peer), self._into(GROUP_TOTAL, net, peer)],
        )

    def moving_profiles(
        self, household: Household, move: Move, old: dict[str, Any], new: dict[str, Any]
    ) -> dict[str, Any]:
        """The order that takes a home from one supplier's net into another's at a boundary."""
        until = {"valid_until": self.slot_start(move.slot).isoformat()}
        return self._set(
            household,
            [
                self._concealed(household, GROUP_TOTAL, old["name"], 0) | until,
                self._concealed(household, MOVED, new["name"], move.slot),
            ],
            [
                self._into(GROUP_TOTAL, self.cast.net(move.origin), old),
                self._into(MOVED, self.cast.net(move.target), new),
            ],
        )

    def tenant_profiles(
        self, household: Household, tenant: NewTenant, peer: dict[str, Any]
    ) -> dict[str, Any]:
        """The order by which a home's values are somebody else's: the same net, nothing else of before."""
        net = self.cast.net_of(household.number)
        concealed = self._concealed(household, NEW_TENANT, peer["name"], tenant.slot)
        body = self._set(
            household,
            [concealed | {"consumer": tenant.consumer}],
            [self._into(NEW_TENANT, net, peer)],
        )
        body["meters"][0]["consumer"] = tenant.consumer
        return body

    def _concealed(self, household: Household, name: str, recipient: str, slot: int) -> dict[str, Any]:
        begin = self.slot_start(slot).isoformat()
        return self._readings(household, recipient) | {"id": name, "valid_from": begin}

    def _into(self, name: str, net: Net, peer: dict[str, Any]) -> dict[str, Any]:
        return _communication(name, peer) | {"concealment": "dc-net", "net": self.net_policy(net)}

    def _readings(self, household: Household, recipient: str) -> dict[str, Any]:
        return {
            "id": READINGS,
            "taf": 7,
            "meter": str(household.meter),
            "obis": OBIS,
            "consumer": household.consumer,
            "registration_period_s": self.slot_s,
            "billing_period_s": self.slot_s,
            "window_s": self.window_s,
            "recipients": [recipient],
            "valid_from": self.plain_from_utc.isoformat(),
        }

    @staticmethod
    def _set(
        household: Household, processing: list[dict[str, Any]], communication: list[dict[str, Any]]
    ) -> dict[str, Any]:
        meter = {
            "id": "electricity",
            "meter": str(household.meter),
            "key_hex": household.meter_key.hex(),
            "mode": "strict",
            "consumer": household.consumer,
        }
        return {"meters": [meter], "processing": processing, "communication": communication}

    def neighbourhoods(self) -> Iterator[tuple[Net, tuple[Household, ...]]]:
        """Each net with its homes."""
        for net in self.cast.nets:
            yield net, tuple(Household(number) for number in net.homes)


def _communication(processing: str, peer: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": processing,
        "processing": processing,
        "recipient": peer["name"],
        "purpose": "billing" if processing == READINGS else GROUP_TOTAL,
        "peer": peer,
    }
