"""What the three legal logs say: kinds of log, levels, outcomes, events, one entry and its codec. No I/O.

Fields and events: BSI TR-03109-1 v2.0 details and the logs of shipped gateways (docs/references.md). Entries
never hold readings, keys or plaintext; a consumer's log names the data set that left, not its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Final

import msgspec

from firmware.errors import StoreCorrupt

MAX_TEXT: Final = 400
"""Longer texts and evidence are cut: a peer must not fill a log with its own words."""


class LogKind(Enum):
    """The three legal logs."""

    SYSTEM = "system"
    """Read by the administrator and the service technician."""
    CONSUMER = "consumer"
    """One per consumer, read by that consumer alone."""
    CALIBRATION = "calibration"
    """Metrology alone; read by the administrator for the calibration authority. Full: measuring stops."""


class Level(IntEnum):
    """How grave an entry is; the numbers of the reference."""

    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4
    EXTENSION = 5


class Outcome(IntEnum):
    """How what is logged ended."""

    SUCCESS = 0
    FAILURE = 1
    EXTENSION = 2


class Event(Enum):
    """The vocabulary. The value is part of the log format: it is never reused for another meaning."""

    # life cycle
    BOOT = "boot"
    STOP = "stop"
    SELF_TEST = "self-test"
    SECURE_STATE = "secure-state"
    SERVICE_RESTARTED = "service-restarted"
    TAMPER = "tamper"
    DECOMMISSIONED = "decommissioned"
    FIRMWARE_UPDATE = "firmware-update"
    CONFIGURATION_REFUSED = "configuration-refused"
    # security module and stores
    MODULE_SESSION = "module-session"
    MODULE_FAILED = "module-failed"
    PIN_REFUSED = "pin-refused"
    KEY_CHANGE = "key-change"
    CERTIFICATE_CHANGE = "certificate-change"
    STORE_CORRUPT = "store-corrupt"
    STORE_UNAVAILABLE = "store-unavailable"
    STORE_RESTORED = "store-restored"
    MEMORY_CRITICAL = "memory-critical"
    # logs
    LOG_READ = "log-read"
    LOG_TRIMMED = "log-trimmed"
    LOG_FULL = "log-full"
    ACCESS_DENIED = "access-denied"
    ATTACK_SUSPECTED = "attack-suspected"
    # profiles and orders
    ORDER_APPLIED = "order-applied"
    ORDER_REFUSED = "order-refused"
    PROFILE_CHANGE = "profile-change"
    # connections
    CONNECTION_OPENED = "connection-opened"
    CONNECTION_CLOSED = "connection-closed"
    CONNECTION_REFUSED = "connection-refused"
    AUTHENTICATION_FAILED = "authentication-failed"
    PEER_UNAVAILABLE = "peer-unavailable"
    PEER_MISBEHAVED = "peer-misbehaved"
    WAKE_UP = "wake-up"
    # time
    TIME_SYNCHRONISED = "time-synchronised"
    TIME_INVALID = "time-invalid"
    TIME_DEVIATION = "time-deviation"
    VALUES_WITHDRAWN = "values-withdrawn"
    # meters
    METER_OK = "meter-ok"
    METER_COMMUNICATION_FAULT = "meter-communication-fault"
    METER_STATUS = "meter-status"
    METER_ASSIGNMENT = "meter-assignment"
    TELEGRAM_REFUSED = "telegram-refused"
    REGISTRATION_CLOSED = "registration-closed"
    # data that leaves
    DATA_RELEASED = "data-released"
    DATA_SENT = "data-sent"
    DATA_UNDELIVERED = "data-undelivered"
    RELEASE_DENIED = "release-denied"
    CONCEALED_CONTRIBUTION = "concealed-contribution"
    CONCEALMENT_ABORTED = "concealment-aborted"
    CONCEALMENT_UNDONE = "concealment-undone"
    CONCEALMENT_STATEMENT = "concealment-statement"
    CONCEALMENT_REPAIRED = "concealment-repaired"
    CONTRACT_CHANGE = "contract-change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a legal log."""

    log: str
    """Which log: "system", "calibration" or "consumer/<consumer>"."""
    number: int
    """From 1, without gaps."""
    previous: str
    """SHA-256 of the stored bytes of the entry before, hexadecimal; of the log's name for the first."""
    at_utc: datetime
    seconds_index: int
    """Seconds since the gateway started: tells the order of entries when the wall clock was set."""
    level: Level
    event: Event
    outcome: Outcome
    sub_event: str = ""
    """Which of several cases of the event, e.g. the code of an error."""
    subject: str = ""
    """What it is about: a meter, a profile, a peer, a service."""
    user: str = ""
    """On whose behalf: "gateway", "gwa", a consumer."""
    destination: str = ""
    """Where data went, for entries about data that left."""
    parent: int | None = None
    """Number of the entry that this one belongs to."""
    repeated: int = 0
    """How many more times the same was seen since it was last logged."""
    text: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the bytes that are stored and hashed."""
        return _ENCODER.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Read what `to_bytes` wrote; any other bytes are StoreCorrupt."""
        try:
            return _DECODER.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise StoreCorrupt("a log entry has another form than this firmware writes") from error


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Entry)


def cut(text: str) -> str:
    """Return a text as an entry may hold it: printable, at most `MAX_TEXT` characters."""
    printable = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return printable if len(printable) <= MAX_TEXT else printable[: MAX_TEXT - 1] + "…"


def log_name(kind: LogKind, consumer: str | None = None) -> str:
    """Return the name of a log; a consumer's log needs the consumer, the others bear none.

    Raises:
        ValueError: a consumer's log without a consumer, or the other way round.
    """
    if (kind is LogKind.CONSUMER) != bool(consumer):
        raise ValueError("a consumer's log belongs to one consumer, the others to none")
    return f"{kind.value}/{consumer}" if consumer else kind.value
