"""Who may do what: role x resource x operation, one table, asked at every door. Default deny. No I/O.

Doors are the one reader of logs (`firmware.log.reading`), the control socket (`firmware.life.control`) and
the desk of the administrator's orders (`firmware.orders.desk`). Whether a *value* may leave is not decided
here: a supplier's right is what its profiles say, and `firmware.enforcement.gate` asks them.

Rule: protection profile PP-0073, FDP_ACC.2, FDP_ACF.1, FAU_SAR.1 /SYS /CON /CAL, FMT_MOF.1, FMT_SMR.1. The
administrator configures and never sees what a consumer used; a technician reads the state of the device;
a consumer reads what is his own, and nothing of anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from firmware.errors import AccessRefused
from firmware.log.entry import LogKind


class Role(Enum):
    """As whom somebody comes."""

    GWA = "gwa"
    SERVICE_TECH = "service-tech"
    CONSUMER = "consumer"
    EMP = "emp"
    CLS_DEVICE = "cls-device"


class Act(Enum):
    """What somebody does with a resource."""

    READ = "read"
    WRITE = "write"
    ORDER = "order"
    """Have the gateway do something now."""
    DELETE = "delete"


class Resource(Enum):
    """With what."""

    SYSTEM_LOG = "system log"
    CONSUMER_LOG = "consumer log"
    CALIBRATION_LOG = "calibration log"
    VALUES = "measured values"
    PROFILES = "profiles"
    TARIFF = "tariff events and requests"
    SELF_TEST = "self-test"
    INFORMATION = "gateway and firmware information"
    TAMPER = "tampered state"
    MEMORY = "memory limit"
    GATEWAY = "keys and data of the gateway"


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody whose identity was established by the link that he came over."""

    role: Role
    name: str = ""
    """Of a consumer: which one."""

    def __str__(self) -> str:
        return f"{self.role.value}/{self.name}" if self.name else self.role.value


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that can be asked for at a door."""

    resource: Resource
    act: Act


_READ, _WRITE, _ORDER, _DELETE = Act.READ, Act.WRITE, Act.ORDER, Act.DELETE
TABLE: Final[dict[Resource, dict[Role, frozenset[Act]]]] = {
    Resource.SYSTEM_LOG: {Role.GWA: frozenset({_READ}), Role.SERVICE_TECH: frozenset({_READ})},
    Resource.CONSUMER_LOG: {Role.CONSUMER: frozenset({_READ}), Role.GWA: frozenset({_DELETE})},
    Resource.CALIBRATION_LOG: {Role.GWA: frozenset({_READ})},
    Resource.VALUES: {Role.CONSUMER: frozenset({_READ}), Role.GWA: frozenset({_DELETE})},
    Resource.PROFILES: {Role.GWA: frozenset({_READ, _WRITE, _DELETE}), Role.CONSUMER: frozenset({_READ})},
    Resource.TARIFF: {Role.GWA: frozenset({_ORDER})},
    Resource.SELF_TEST: {
        Role.GWA: frozenset({_READ, _ORDER}),
        Role.SERVICE_TECH: frozenset({_READ, _ORDER}),
        Role.CONSUMER: frozenset({_READ, _ORDER}),
    },
    Resource.INFORMATION: {
        Role.GWA: frozenset({_READ}),
        Role.SERVICE_TECH: frozenset({_READ}),
        Role.CONSUMER: frozenset({_READ}),
    },
    Resource.TAMPER: {Role.GWA: frozenset({_ORDER})},
    Resource.MEMORY: {Role.GWA: frozenset({_WRITE})},
    Resource.GATEWAY: {Role.GWA: frozenset({_DELETE})},
}
"""Resource -> role -> what it may do; what is not there is denied. EMP and CLS devices have no row of their
own: what a supplier gets, profiles say, and what a CLS device does, its proxy profile."""

OWN: Final = frozenset({Resource.CONSUMER_LOG, Resource.VALUES, Resource.PROFILES})
"""Of these a consumer gets what is about himself."""

LOGS: Final[dict[LogKind, Resource]] = {
    LogKind.SYSTEM: Resource.SYSTEM_LOG,
    LogKind.CONSUMER: Resource.CONSUMER_LOG,
    LogKind.CALIBRATION: Resource.CALIBRATION_LOG,
}
"""Log -> what it is in the table."""

CONTROL: Final[dict[str, Right]] = {
    "status": Right(Resource.INFORMATION, _READ),
    "dcnet": Right(Resource.INFORMATION, _READ),
    "self-test": Right(Resource.SELF_TEST, _ORDER),
    "decommission": Right(Resource.GATEWAY, _DELETE),
}
"""Operation of the control socket -> what it takes; logs are asked for by their kind."""

ORDERS: Final[dict[str, tuple[Right, ...]]] = {
    "profiles": (Right(Resource.PROFILES, _WRITE),),
    "profiles.stage": (Right(Resource.PROFILES, _WRITE),),
    "profiles.activate": (Right(Resource.PROFILES, _WRITE),),
    "profiles.rollback": (Right(Resource.PROFILES, _WRITE),),
    "dcnet-withdraw": (Right(Resource.PROFILES, _WRITE),),
    "reading-request": (Right(Resource.TARIFF, _ORDER),),
    "tariff-event": (Right(Resource.TARIFF, _ORDER),),
    "self-test": (Right(Resource.SELF_TEST, _ORDER),),
    "acknowledge-tamper": (Right(Resource.TAMPER, _ORDER),),
    "memory-limit": (Right(Resource.MEMORY, _WRITE),),
    "wipe-consumer": (Right(Resource.VALUES, _DELETE), Right(Resource.CONSUMER_LOG, _DELETE)),
    "decommission": (Right(Resource.GATEWAY, _DELETE),),
}
"""Kind of order -> all that it takes. A kind that is not here cannot be carried out by anything."""


def may(who: Reader, right: Right, owner: str = "") -> bool:
    """Tell whether somebody may do something.

    Args:
        who: role, and of a consumer his name.
        right: resource and operation.
        owner: whose thing it is, where things have owners; a consumer gets what is his own.
    """
    if right.act not in TABLE[right.resource].get(who.role, frozenset()):
        return False
    if who.role is Role.CONSUMER and right.resource in OWN:
        return bool(owner) and who.name == owner
    return True


def require(who: Reader, right: Right, owner: str = "") -> None:
    """Raise AccessRefused, which names who may, unless `may`."""
    if may(who, right, owner):
        return
    allowed = sorted(role.value for role, acts in TABLE[right.resource].items() if right.act in acts)
    own = ", a consumer the own one" if right.resource in OWN and "consumer" in allowed else ""
    names = ", ".join(allowed) or "nobody"
    raise AccessRefused(f"{who} may not {right.act.value} the {right.resource.value}; {names} may{own}")


def may_read(reader: Reader, kind: LogKind, consumer: str = "") -> bool:
    """Tell whether `reader` may read a log; `consumer` says whose, for a consumer's log."""
    return may(reader, Right(LOGS[kind], _READ), consumer)


def require_read(reader: Reader, kind: LogKind, consumer: str = "") -> None:
    """Raise AccessRefused unless `may_read`."""
    require(reader, Right(LOGS[kind], _READ), consumer)
