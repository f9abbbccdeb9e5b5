"""Who may do what in which life-cycle state: one table (project profile, after TR-03109-2's phases)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from hsm.emulator.state import LifeCycle


class Action(Enum):
    """What access is decided about."""

    SELECT = "select"
    READ_FREE = "read a file that is free to read"
    READ = "read a file"
    UPDATE = "update a file"
    AUTHENTICATE = "run PACE"
    RANDOM = "random number"
    GENERATE = "generate a static key pair"
    DELETE = "delete a static key pair"
    EPHEMERAL = "generate or delete an ephemeral key pair"
    USE_KEY = "sign, agree, read a public key"


class Right(Enum):
    """What an action needs."""

    ALWAYS = "always"
    PACE = "secure messaging after PACE"
    NEVER = "never"


_BEFORE: Final = {
    Action.SELECT: Right.ALWAYS,
    Action.READ_FREE: Right.ALWAYS,
    Action.READ: Right.PACE,
    Action.UPDATE: Right.PACE,
    Action.AUTHENTICATE: Right.ALWAYS,
    Action.RANDOM: Right.PACE,
    Action.GENERATE: Right.PACE,
    Action.DELETE: Right.PACE,
    Action.EPHEMERAL: Right.PACE,
    Action.USE_KEY: Right.PACE,
}
_NOTHING: Final = dict.fromkeys(Action, Right.NEVER)

RULES: Final = {
    LifeCycle.CREATION: _NOTHING,
    LifeCycle.INITIALISATION: _NOTHING,
    LifeCycle.PRE_PERSONALISED: _BEFORE,
    # The administrator's authentication towards the module is not part of the command set yet, so that
    # operation asks no more than pre-personalisation does.
    LifeCycle.OPERATIONAL: _BEFORE,
    LifeCycle.TERMINATED: _NOTHING,
}


def right(state: LifeCycle, action: Action) -> Right:
    """What `action` needs in `state`."""
    return RULES[state][action]
