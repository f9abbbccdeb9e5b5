"""The gateway's operating states: one table of causes, from which everything else follows. No I/O, no clock.

A cause that is there puts the gateway into its state; several at once add up, and the gravest names the
state. The logs, `smgw status`, what runs, and docs/states.svg are all derived from `CAUSES` and `FORBIDDEN`.
Source: operating states of a certified gateway (docs/references.md), widened by what an emulator meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final


class State(IntEnum):
    """What the gateway does now; the higher the graver."""

    NORMAL = 0
    MEASUREMENT = 1
    """Secure state: the time cannot be trusted; values are marked."""
    CONNECTIVITY = 2
    """Secure state: the networks are not separated, or the module is away; the rest runs."""
    APPLICATION = 3
    """Secure state: administration only."""
    BOOT = 4
    """Secure state: nothing runs but the control socket."""
    DECOMMISSIONED = 5
    """Keys and data are destroyed; there is no way back."""


class Function(Enum):
    """What may or may not run in a state."""

    MEASURE = "measure"
    """Intake, registration, tariffs."""
    DELIVER = "deliver"
    """To market participants, DC-nets included."""
    ADMINISTER = "administer"
    """The administrator's channel."""
    HOME = "home"
    """HAN and CLS."""


class End(Enum):
    """What ends a cause."""

    ITSELF = "itself"
    """It goes away as soon as what caused it is mended; nobody has to do anything."""
    ORDER = "order"
    """The administrator's order, because only a human can judge it. It outlasts a restart."""
    START = "start"
    """A start whose self-test finds nothing wrong."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a cause does."""

    state: State
    end: End
    text: str
    """For people: what is wrong."""
    remedy: str
    """For people: what ends it."""
    spares: frozenset[Function] = frozenset()
    """What goes on although the state forbids it, because only that mends the cause."""


class Cause(Enum):
    """Why the gateway is not in its normal state."""

    TIME_INVALID = "time-invalid"
    CLOCK_DEVIATION = "clock-deviation"
    MODULE_LOST = "module-lost"
    NETWORKS_JOINED = "networks-joined"
    CALIBRATION_LOG_FULL = "calibration-log-full"
    MEMORY_CRITICAL = "memory-critical"
    STORE_UNAVAILABLE = "store-unavailable"
    STORE_CORRUPT = "store-corrupt"
    TAMPERED = "tampered"
    SELF_TEST_FAILED = "self-test-failed"
    CODE_CHANGED = "code-changed"
    DECOMMISSIONED = "decommissioned"


CAUSES: Final[dict[Cause, Rule]] = {
    Cause.TIME_INVALID: Rule(
        State.MEASUREMENT, End.ITSELF, "the time is unknown or invalid", "an authentic time"
    ),
    Cause.CLOCK_DEVIATION: Rule(
        State.APPLICATION, End.ITSELF, "the clock was wrong by more than 3 % of a period", "an authentic time"
    ),
    Cause.MODULE_LOST: Rule(
        State.CONNECTIVITY, End.ITSELF, "the security module does not answer", "the module answers again"
    ),
    Cause.NETWORKS_JOINED: Rule(
        State.CONNECTIVITY, End.ITSELF, "WAN and HAN are not separated", "a self-test finds them separated"
    ),
    Cause.CALIBRATION_LOG_FULL: Rule(
        State.APPLICATION,
        End.START,
        "the calibration log takes no more entries",
        "a larger limit, then a start",
    ),
    Cause.MEMORY_CRITICAL: Rule(
        State.APPLICATION,
        End.ITSELF,
        "less memory is free than the limit",
        "free memory: what waits for its recipient still leaves, and is deleted",
        frozenset({Function.DELIVER}),
    ),
    Cause.STORE_UNAVAILABLE: Rule(
        State.APPLICATION, End.ITSELF, "a store cannot be written", "a store that can be written"
    ),
    Cause.STORE_CORRUPT: Rule(
        State.APPLICATION, End.START, "a store or log is damaged", "a backup put back, then a start"
    ),
    Cause.TAMPERED: Rule(
        State.APPLICATION, End.ORDER, "the enclosure was opened", "the administrator acknowledges it"
    ),
    Cause.SELF_TEST_FAILED: Rule(
        State.BOOT, End.START, "an algorithm or the module gives wrong answers", "a start that passes"
    ),
    Cause.CODE_CHANGED: Rule(
        State.BOOT,
        End.START,
        "the program's files were changed",
        'a start; where [gateway] program is "pinned", one with the known files, or with "follow"',
    ),
    Cause.DECOMMISSIONED: Rule(State.DECOMMISSIONED, End.NEVER, "keys and data are destroyed", "nothing"),
}
"""The table."""

FORBIDDEN: Final[dict[State, frozenset[Function]]] = {
    State.NORMAL: frozenset(),
    State.MEASUREMENT: frozenset(),
    State.CONNECTIVITY: frozenset({Function.HOME}),
    State.APPLICATION: frozenset({Function.MEASURE, Function.DELIVER, Function.HOME}),
    State.BOOT: frozenset(Function),
    State.DECOMMISSIONED: frozenset(Function),
}
"""State -> what must not run in it; a deeper state forbids all that a lighter one does."""


@dataclass(frozen=True, slots=True)
class Change:
    """A cause came or went."""

    cause: Cause
    there: bool
    before: State
    after: State


def forbidden_by(cause: Cause) -> frozenset[Function]:
    """Return what must not run while a cause is there."""
    return FORBIDDEN[CAUSES[cause].state] - CAUSES[cause].spares


class OperatingState:
    """Which causes are there now, and what follows."""

    def __init__(self) -> None:
        self._causes: dict[Cause, str] = {}

    @property
    def state(self) -> State:
        """Return the gravest state that a cause asks for."""
        return max((CAUSES[cause].state for cause in self._causes), default=State.NORMAL)

    @property
    def causes(self) -> dict[Cause, str]:
        """Return the causes that are there, with what is known of each."""
        return dict(self._causes)

    def allows(self, function: Function) -> bool:
        """Tell whether something may run now: no cause forbids it."""
        return all(function not in forbidden_by(cause) for cause in self._causes)

    def enter(self, cause: Cause, detail: str = "") -> Change | None:
        """A cause is there; None if it was before."""
        if cause in self._causes:
            return None
        before = self.state
        self._causes[cause] = detail
        return Change(cause, True, before, self.state)

    def leave(self, cause: Cause, by: End = End.ITSELF) -> Change | None:
        """What caused it is mended, or an order says so; None if it was not there, or `by` does not end it.

        A start ends all that it ends by not entering it again.
        """
        if cause not in self._causes or CAUSES[cause].end is not by:
            return None
        before = self.state
        del self._causes[cause]
        return Change(cause, False, before, self.state)
