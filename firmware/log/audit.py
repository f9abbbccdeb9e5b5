"""From an error to a log entry: one table, so that nobody decides again how something is logged. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmware import errors as firmware_errors
from firmware.clock.clock import Clock
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.journal import Journal
from hsm import errors as hsm_errors
from lmn import errors as lmn_errors
from wan import errors as wan_errors

REPEAT_WINDOW_S: Final = 60.0
"""The same fault of the same subject is logged once in this time; what falls between is counted."""
_MAX_REMEMBERED: Final = 1024
"""Pairs of fault and subject that are counted apart; an attacker chooses the subjects."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How a kind of error is logged."""

    event: Event
    level: Level
    log: LogKind = LogKind.SYSTEM
    """The log that has it besides the system log."""


_W, _E, _F = Level.WARNING, Level.ERROR, Level.FATAL
FINDINGS: Final[dict[type[BaseException], Finding]] = {
    hsm_errors.HsmError: Finding(Event.MODULE_FAILED, _E),
    hsm_errors.PinRefused: Finding(Event.PIN_REFUSED, _F),
    hsm_errors.ModuleFailed: Finding(Event.MODULE_FAILED, _F),
    hsm_errors.CertificateRefused: Finding(Event.AUTHENTICATION_FAILED, _W),
    hsm_errors.TlsRefused: Finding(Event.CONNECTION_REFUSED, _W),
    lmn_errors.LmnError: Finding(Event.TELEGRAM_REFUSED, _W),
    lmn_errors.MacRefused: Finding(Event.TELEGRAM_REFUSED, _E),
    lmn_errors.CounterRefused: Finding(Event.TELEGRAM_REFUSED, _W),
    lmn_errors.LineDisturbed: Finding(Event.METER_COMMUNICATION_FAULT, _W),
    lmn_errors.PortClosed: Finding(Event.METER_COMMUNICATION_FAULT, _W),
    lmn_errors.UnexpectedMessage: Finding(Event.METER_COMMUNICATION_FAULT, _W),
    wan_errors.WanError: Finding(Event.PEER_MISBEHAVED, _W),
    wan_errors.SignatureRefused: Finding(Event.AUTHENTICATION_FAILED, _W),
    wan_errors.OrderRefused: Finding(Event.ORDER_REFUSED, _W),
    wan_errors.DestinationRefused: Finding(Event.CONNECTION_REFUSED, _E),
    wan_errors.PeerUnavailable: Finding(Event.PEER_UNAVAILABLE, _W),
    wan_errors.PeerRefused: Finding(Event.AUTHENTICATION_FAILED, _W),
    firmware_errors.FirmwareError: Finding(Event.SERVICE_RESTARTED, _E),
    firmware_errors.ConfigurationRefused: Finding(Event.CONFIGURATION_REFUSED, _W),
    firmware_errors.StoreCorrupt: Finding(Event.STORE_CORRUPT, _F, LogKind.CALIBRATION),
    firmware_errors.StoreUnavailable: Finding(Event.STORE_UNAVAILABLE, _E),
    firmware_errors.ReleaseRefused: Finding(Event.RELEASE_DENIED, _W),
    firmware_errors.ReadingRefused: Finding(Event.CONCEALMENT_ABORTED, _W),
    OSError: Finding(Event.SERVICE_RESTARTED, _W),
    BaseException: Finding(Event.STOP, _F),
}
"""Class -> finding; a class that is not listed is logged as its nearest listed base."""


def finding(error: BaseException) -> Finding:
    """Return how `error` is logged; of a group, as its first known part."""
    if isinstance(error, BaseExceptionGroup):
        return min((finding(part) for part in error.exceptions), key=lambda one: -one.level)
    return next(FINDINGS[base] for base in type(error).__mro__ if base in FINDINGS)


def code(error: BaseException) -> str:
    """Return the short code of an error: its own if it has one, else the name of its class."""
    if isinstance(error, BaseExceptionGroup):
        return code(error.exceptions[0])
    own = getattr(error, "code", None)
    return own if isinstance(own, str) and own else type(error).__name__


def text(error: BaseException) -> str:
    """Return what an entry says of an error: our own errors' words, of foreign ones the class alone."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(text(part) for part in error.exceptions)
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    ours = (hsm_errors.HsmError, lmn_errors.LmnError, wan_errors.WanError, firmware_errors.FirmwareError)
    return str(error) if isinstance(error, ours) else type(error).__name__


class Audit:
    """Logs errors by the table, the same one at most once per `REPEAT_WINDOW_S`.

    Args:
        system: gets every finding.
        calibration: gets those that concern metrology besides; None leaves them to the system log.
        clock: for the window.
    """

    def __init__(self, system: Journal, calibration: Journal | None, clock: Clock) -> None:
        self._system, self._calibration, self._clock = system, calibration, clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        """(code, subject) -> when last logged, how often seen since."""

    async def note(self, subject: str, error: BaseException) -> int | None:
        """Log an error about `subject`; return the entry's number, None if it was only counted.

        Raises:
            StoreUnavailable, StoreCorrupt: the log itself failed.
        """
        now_s = self._clock.monotonic()
        key = code(error), subject
        logged_s, repeated = self._seen.get(key, (float("-inf"), 0))
        if now_s - logged_s < REPEAT_WINDOW_S:
            self._seen[key] = logged_s, repeated + 1
            return None
        found = finding(error)
        calibration = self._calibration if found.log is LogKind.CALIBRATION else None
        # A full one is a state of its own, and must not keep the system log from being told.
        if calibration is not None and not await calibration.is_full():
            await self._write(calibration, found, subject, error, repeated)
        number = await self._write(self._system, found, subject, error, repeated)
        # Only now: what a full disk did not take must be logged as soon as there is room.
        self._seen.pop(key, None)
        self._seen[key] = now_s, 0
        while len(self._seen) > _MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return number

    async def _write(
        self, journal: Journal, found: Finding, subject: str, error: BaseException, repeated: int
    ) -> int:
        return await journal.write(
            found.event,
            Outcome.FAILURE,
            level=found.level,
            sub_event=code(error),
            subject=subject,
            repeated=repeated,
            text=text(error),
        )
