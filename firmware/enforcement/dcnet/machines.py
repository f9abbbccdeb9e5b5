"""Every state machine of a DC-net, each as one table: what is not listed is an error. Data only.

Spec: docs/dcnet.md, "State machines", which is drawn from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from firmware.enforcement.dcnet.errors import UnexpectedStep

_S = TypeVar("_S", bound=Enum)
_E = TypeVar("_E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Machine(Generic[_S, _E]):
    """A transition table with its name and its first state."""

    name: str
    start: _S
    next: Mapping[tuple[_S, _E], _S]

    def advance(self, state: _S, step: _E) -> _S:
        """Return the state after `step`; a step that the table does not list raises `UnexpectedStep`."""
        try:
            return self.next[state, step]
        except KeyError:
            raise UnexpectedStep(f"a {self.name} in state {state.name} cannot {step.value}") from None


class MemberState(Enum):
    """Where a gateway stands with a net."""

    OFF = "off"
    PROVISIONED = "provisioned"
    JOINING = "joining"
    ROSTERED = "rostered"
    KEYED = "keyed"
    ACTIVE = "active"
    PARKED = "parked"
    """Not expected by the others now; says hello."""
    LEAVING = "leaving"
    QUARANTINE = "quarantine"


class MemberStep(Enum):
    """What can happen to a membership."""

    PROVISION = "take a profile"
    OFFER = "offer a bundle"
    ENROL = "accept a roster"
    CONFIRM = "confirm its edges"
    TAKE_PART = "take part"
    PARK = "miss a manifest"
    LEAVE = "leave"
    FORGET = "forget its keys"
    ACCUSE = "prove a lie"


_PART_OF_NET: Final = (MemberState.KEYED, MemberState.ACTIVE, MemberState.PARKED)

MEMBER: Final = Machine(
    "member",
    MemberState.OFF,
    {
        (MemberState.OFF, MemberStep.PROVISION): MemberState.PROVISIONED,
        (MemberState.PROVISIONED, MemberStep.OFFER): MemberState.JOINING,
        (MemberState.JOINING, MemberStep.ENROL): MemberState.ROSTERED,
        (MemberState.ROSTERED, MemberStep.CONFIRM): MemberState.KEYED,
        **{(state, MemberStep.TAKE_PART): MemberState.ACTIVE for state in _PART_OF_NET},
        **{(state, MemberStep.PARK): MemberState.PARKED for state in _PART_OF_NET},
        (MemberState.PROVISIONED, MemberStep.LEAVE): MemberState.LEAVING,
        (MemberState.JOINING, MemberStep.LEAVE): MemberState.LEAVING,
        (MemberState.ROSTERED, MemberStep.LEAVE): MemberState.LEAVING,
        **{(state, MemberStep.LEAVE): MemberState.LEAVING for state in _PART_OF_NET},
        (MemberState.QUARANTINE, MemberStep.LEAVE): MemberState.LEAVING,
        (MemberState.LEAVING, MemberStep.FORGET): MemberState.OFF,
        **{(state, MemberStep.ACCUSE): MemberState.QUARANTINE for state in MemberState},
    },
)


class SlotState(Enum):
    """Where a gateway is with one slot; the value is what the ledger keeps."""

    IDLE = 0
    MEASURED = 1
    SUBMITTED = 2
    ACCEPTED = 3
    OPENED = 4
    TOTALLED = 5
    LEFT_OUT = 6
    REFUSED = 7
    ABORTED = 8
    OWED = 9
    SETTLED = 10
    """Its energy is in the total of a reconcile slot."""


class Step(Enum):
    """What can happen to a slot."""

    MEASURE = "measure"
    SUBMIT = "submit"
    ACCEPT = "accept"
    OPEN = "open"
    TOTAL = "total"
    LEAVE_OUT = "leave-out"
    REFUSE = "refuse"
    ABORT = "abort"
    OWE = "owe"
    SETTLE = "settle"


SLOT: Final = Machine(
    "slot",
    SlotState.IDLE,
    {
        (SlotState.IDLE, Step.MEASURE): SlotState.MEASURED,
        (SlotState.MEASURED, Step.SUBMIT): SlotState.SUBMITTED,
        (SlotState.MEASURED, Step.LEAVE_OUT): SlotState.LEFT_OUT,
        (SlotState.SUBMITTED, Step.ACCEPT): SlotState.ACCEPTED,
        (SlotState.SUBMITTED, Step.LEAVE_OUT): SlotState.LEFT_OUT,
        (SlotState.SUBMITTED, Step.REFUSE): SlotState.REFUSED,
        (SlotState.ACCEPTED, Step.OPEN): SlotState.OPENED,
        (SlotState.OPENED, Step.TOTAL): SlotState.TOTALLED,
        (SlotState.OPENED, Step.ABORT): SlotState.ABORTED,
        (SlotState.LEFT_OUT, Step.OWE): SlotState.OWED,
        (SlotState.REFUSED, Step.OWE): SlotState.OWED,
        (SlotState.REFUSED, Step.TOTAL): SlotState.TOTALLED,  # others have recovered its mask
        (SlotState.ABORTED, Step.OWE): SlotState.OWED,
        (SlotState.OWED, Step.SETTLE): SlotState.SETTLED,
    },
)

RESUMABLE: Final = frozenset({SlotState.MEASURED, SlotState.SUBMITTED, SlotState.OPENED})
"""States in which a slot can go on after a restart. ACCEPTED is never persisted."""


class SupplierState(Enum):
    """Where the supplier is with one slot."""

    COLLECT = "collect"
    MANIFEST = "manifest"
    COSIGNED = "cosigned"
    OPENING = "opening"
    RECOVERY = "recovery"
    TOTAL = "total"
    ABORT = "abort"
    ARCHIVED = "archived"


class SupplierStep(Enum):
    """What can happen to a supplier's slot."""

    CLOSE = "close"
    COSIGN = "be co-signed"
    PUBLISH = "publish"
    ORDER = "order recovery"
    SUM = "sum"
    GIVE_UP = "give up"
    ARCHIVE = "archive"


SUPPLIER: Final = Machine(
    "supplier's slot",
    SupplierState.COLLECT,
    {
        (SupplierState.COLLECT, SupplierStep.CLOSE): SupplierState.MANIFEST,
        (SupplierState.MANIFEST, SupplierStep.COSIGN): SupplierState.COSIGNED,
        (SupplierState.MANIFEST, SupplierStep.PUBLISH): SupplierState.OPENING,  # a net without a witness
        (SupplierState.MANIFEST, SupplierStep.GIVE_UP): SupplierState.ABORT,
        (SupplierState.COSIGNED, SupplierStep.PUBLISH): SupplierState.OPENING,
        (SupplierState.OPENING, SupplierStep.ORDER): SupplierState.RECOVERY,
        (SupplierState.OPENING, SupplierStep.SUM): SupplierState.TOTAL,
        (SupplierState.OPENING, SupplierStep.GIVE_UP): SupplierState.ABORT,
        (SupplierState.RECOVERY, SupplierStep.SUM): SupplierState.TOTAL,
        (SupplierState.RECOVERY, SupplierStep.GIVE_UP): SupplierState.ABORT,
        (SupplierState.TOTAL, SupplierStep.ARCHIVE): SupplierState.ARCHIVED,
        (SupplierState.ABORT, SupplierStep.ARCHIVE): SupplierState.ARCHIVED,
    },
)


class WitnessState(Enum):
    """What a witness has signed of one slot."""

    NONE = "none"
    MANIFEST_SEEN = "manifest seen"
    ORDER_SEEN = "order seen"


class WitnessStep(Enum):
    """What a witness can be asked to sign."""

    MANIFEST = "co-sign a manifest"
    ORDER = "co-sign an order"


WITNESS: Final = Machine(
    "witness",
    WitnessState.NONE,
    {
        (WitnessState.NONE, WitnessStep.MANIFEST): WitnessState.MANIFEST_SEEN,
        (WitnessState.MANIFEST_SEEN, WitnessStep.ORDER): WitnessState.ORDER_SEEN,
    },
)


class Mode(Enum):
    """How a net runs: A as a matter of course, F while a fault is looked for."""

    A = "A-mode"
    F = "F-mode"


class ModeStep(Enum):
    """What a slot's canary lane, its sums or its commitments say."""

    CLEAN = "count everybody"
    MISCOUNT = "miscount"
    IMPOSSIBLE = "be impossible"
    """Everybody is counted, and a total is out of range or not the one committed to: V-mode."""


MODE: Final = Machine(
    "net",
    Mode.A,
    {
        (Mode.A, ModeStep.CLEAN): Mode.A,
        (Mode.A, ModeStep.MISCOUNT): Mode.F,
        (Mode.A, ModeStep.IMPOSSIBLE): Mode.F,
        (Mode.F, ModeStep.MISCOUNT): Mode.F,
        (Mode.F, ModeStep.IMPOSSIBLE): Mode.F,
        (Mode.F, ModeStep.CLEAN): Mode.A,
    },
)

ALL: Final = (MEMBER, SLOT, SUPPLIER, WITNESS, MODE)
