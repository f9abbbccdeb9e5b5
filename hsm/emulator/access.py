"""Who may do what in which life-cycle state: one table (project profile, after TR-03109-2's phases)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from hsm.api import LifeCycle


class Action(Enum):
    """What access is decided about."""

    SELECT = "select"
    READ_FREE = "read a file that is free to read"
    AUTHENTICATE = "run PACE"
    READ = "read a file"
    UPDATE_OWN = "update the gateway's own data"
    UPDATE = "update a guarded file"
    UPDATE_ONCE = "update a file that is fixed in operation"
    MANAGE_FILES = "create, delete or terminate a file"
    RANDOM = "random number"
    EPHEMERAL = "generate or delete an ephemeral key pair"
    USE_KEY = "sign, verify, agree, read a public key"
    GENERATE = "generate a key pair of the gateway in its current slot"
    GENERATE_PENDING = "generate a pending key pair of the gateway"
    MANAGE_KEYS = "activate a pending key pair of the gateway, delete or replace one"
    SUSPEND = "deactivate a key pair or the PIN, activate it again"
    STORE_KEY = "generate the store's key pair while there is none"
    NET_KEY = "generate, activate or delete a DC-net's key pair"
    SERVICE_KEY = "generate, export or delete a service key pair"
    IMPORT = "import a public key, change the root"
    ADMINISTRATOR = "authenticate the administrator"
    CHANGE_PIN = "change the PIN by means of the old one"
    SET_PIN = "set a new PIN, reset its counter"
    COUNT = "increase the monotonic counter"
    ADVANCE = "enter the next state of the life cycle"
    TERMINATE = "terminate"


class Right(Enum):
    """What an action needs."""

    ALWAYS = "always"
    PACE = "secure messaging after PACE"
    GWA = "secure messaging, and the administrator authenticated in it"
    NEVER = "never"


STATES: Final = (
    LifeCycle.INITIALISED,
    LifeCycle.PRE_PERSONALISED,
    LifeCycle.PERSONALISED,
    LifeCycle.OPERATIONAL,
)
_A, _P, _G, _N = Right.ALWAYS, Right.PACE, Right.GWA, Right.NEVER
TABLE: Final[dict[Action, tuple[Right, Right, Right, Right]]] = {
    # initialised, pre-personalised, personalised, operational; terminated is NEVER throughout
    Action.SELECT: (_A, _A, _A, _A),
    Action.READ_FREE: (_A, _A, _A, _A),
    Action.AUTHENTICATE: (_A, _A, _A, _A),
    Action.READ: (_P, _P, _P, _P),
    Action.UPDATE_OWN: (_P, _P, _P, _P),
    Action.UPDATE: (_P, _P, _P, _G),
    Action.UPDATE_ONCE: (_P, _P, _P, _N),
    Action.MANAGE_FILES: (_P, _P, _G, _G),
    Action.RANDOM: (_P, _P, _P, _P),
    Action.EPHEMERAL: (_N, _P, _P, _P),
    Action.USE_KEY: (_N, _P, _P, _P),
    Action.GENERATE: (_N, _P, _G, _N),
    Action.GENERATE_PENDING: (_N, _P, _G, _G),
    Action.MANAGE_KEYS: (_N, _P, _G, _G),
    Action.SUSPEND: (_N, _N, _G, _G),
    Action.STORE_KEY: (_N, _P, _P, _P),
    Action.NET_KEY: (_N, _P, _P, _P),
    Action.SERVICE_KEY: (_N, _P, _P, _P),
    Action.IMPORT: (_N, _P, _G, _G),
    Action.ADMINISTRATOR: (_N, _P, _P, _P),
    Action.CHANGE_PIN: (_P, _P, _G, _G),
    Action.SET_PIN: (_N, _N, _G, _G),
    Action.COUNT: (_N, _P, _P, _P),
    Action.ADVANCE: (_P, _P, _G, _N),
    Action.TERMINATE: (_N, _N, _N, _G),
}


def right(state: LifeCycle, action: Action) -> Right:
    """What `action` needs in `state`."""
    return Right.NEVER if state is LifeCycle.TERMINATED else TABLE[action][STATES.index(state)]
