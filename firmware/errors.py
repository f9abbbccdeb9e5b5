"""What can go wrong inside the gateway itself."""

from __future__ import annotations

from dataclasses import dataclass


class FirmwareError(Exception):
    """Base of every error of the gateway's own parts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document."""

    file: str
    line: int | None
    key: str
    expected: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.expected}"


class ConfigurationRefused(FirmwareError):
    """A configuration file or profile is broken; all faults are reported at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class StoreCorrupt(FirmwareError):
    """A record or file of a store fails its integrity check."""


class StoreRolledBack(StoreCorrupt):
    """A partition's file is older than the security module's counter says: an earlier copy was put back."""


class StoreUnavailable(FirmwareError):
    """A store cannot be read or written now (disk full, locked, gone)."""


class LogFull(StoreUnavailable):
    """A log that may forget nothing holds all that it can; what it would have to tell of must not happen."""


class AccessRefused(FirmwareError):
    """Somebody asked for what the role table does not give him."""


class Decommissioned(FirmwareError):
    """This gateway's life is over; its folder is kept only so that nobody starts it by mistake."""


class SelfTestFailed(FirmwareError):
    """A part of the gateway does not do what it must; the text names the check."""


class ReleaseRefused(FirmwareError):
    """The policy does not let this leave; `reason` is one of the reasons of the gate."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class ReadingRefused(FirmwareError):
    """A value cannot be concealed (outside its range), so nothing may be sent for this slot."""
