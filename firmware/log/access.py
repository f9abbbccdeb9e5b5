"""Who may read which log: one table and one function, asked by every reader. No I/O.

Rule: protection profile PP-0073, FAU_SAR.1 /SYS /CON /CAL. The administrator cannot read a consumer's log,
and no consumer reads anything but the own one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from firmware.errors import AccessRefused
from firmware.log.entry import LogKind


class Role(Enum):
    """As whom somebody reads."""

    GWA = "gwa"
    SERVICE_TECH = "service-tech"
    CONSUMER = "consumer"
    EMP = "emp"
    CLS_DEVICE = "cls-device"


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody whose identity was established by the link that he came over."""

    role: Role
    name: str = ""
    """Of a consumer: which one."""

    def __str__(self) -> str:
        return f"{self.role.value}/{self.name}" if self.name else self.role.value


READERS: Final[dict[LogKind, frozenset[Role]]] = {
    LogKind.SYSTEM: frozenset({Role.GWA, Role.SERVICE_TECH}),
    LogKind.CONSUMER: frozenset({Role.CONSUMER}),
    LogKind.CALIBRATION: frozenset({Role.GWA}),
}
"""Log -> roles that may read it; of a consumer's log, that consumer alone."""


def may_read(reader: Reader, kind: LogKind, consumer: str = "") -> bool:
    """Tell whether `reader` may read a log; `consumer` says whose, for a consumer's log."""
    if reader.role not in READERS[kind]:
        return False
    return kind is not LogKind.CONSUMER or (bool(consumer) and reader.name == consumer)


def require_read(reader: Reader, kind: LogKind, consumer: str = "") -> None:
    """Raise AccessRefused unless `may_read`."""
    if not may_read(reader, kind, consumer):
        allowed = ", ".join(sorted(role.value for role in READERS[kind]))
        own = ", each the own one" if kind is LogKind.CONSUMER else ""
        raise AccessRefused(f"{reader} may not read the {kind.value} log; its readers: {allowed}{own}")
