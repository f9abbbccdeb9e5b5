"""What each event means and which logs may hold it; docs/logs.md prints it. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmware.log.entry import Event, LogKind

_S, _C, _K = LogKind.SYSTEM, LogKind.CONSUMER, LogKind.CALIBRATION


@dataclass(frozen=True, slots=True)
class Meaning:
    """One word of the vocabulary."""

    text: str
    logs: frozenset[LogKind]
    written: bool = True
    """False: the word is reserved, and nothing writes it yet."""


def _m(text: str, *logs: LogKind, written: bool = True) -> Meaning:
    return Meaning(text, frozenset(logs), written)


MEANINGS: Final[dict[Event, Meaning]] = {
    Event.BOOT: _m(
        "the gateway began to serve; its sub-event says if the life before was not stopped in order", _S
    ),
    Event.STOP: _m("it stopped in order, or something that no restart mends stopped it", _S),
    Event.SELF_TEST: _m("a self-test ended; the text names what failed", _S, _C),
    Event.SECURE_STATE: _m("a cause for which there is no word of its own came or went", _S),
    Event.SERVICE_RESTARTED: _m("a service failed and was started again", _S),
    Event.TAMPER: _m("the enclosure was opened, or that was acknowledged", _S),
    Event.DECOMMISSIONED: _m("keys and data are being destroyed", _S, _C, _K),
    Event.FIRMWARE_UPDATE: _m("another program than at the last start; evidence: its SHA-256", _S, _K),
    Event.CONFIGURATION_REFUSED: _m("a configuration file is broken", _S),
    Event.MODULE_SESSION: _m("sessions with the security module began; evidence: how many since start", _S),
    Event.MODULE_FAILED: _m("the security module failed, is away, or is back", _S),
    Event.PIN_REFUSED: _m("the security module refused its PIN", _S),
    Event.KEY_CHANGE: _m("the keys of the stores were changed", _S),
    Event.CERTIFICATE_CHANGE: _m(
        "a certificate of a meter, or ours towards meters, took the place of another", _S
    ),
    Event.STORE_CORRUPT: _m("a record, page or log is damaged", _S, _K),
    Event.STORE_UNAVAILABLE: _m("a store cannot be written, or can again", _S),
    Event.STORE_RESTORED: _m("a backup was put back, or what is there was kept by hand", _S, _K),
    Event.MEMORY_CRITICAL: _m("less memory is free than the limit, or enough again", _S, _K),
    Event.LOG_READ: _m("somebody read a log; evidence: first entry and count", _S, _C),
    Event.LOG_TRIMMED: _m("the oldest entries of this log are gone", _S, _C),
    Event.LOG_FULL: _m("the calibration log takes no more; measuring stops", _S),
    Event.ACCESS_DENIED: _m("somebody asked for what the role table does not give him", _S),
    Event.ATTACK_SUSPECTED: _m("several entries together look like an attack; the sub-event says which", _S),
    Event.ORDER_APPLIED: _m("an order of the administrator was carried out", _S),
    Event.ORDER_REFUSED: _m("an order was refused; the sub-event says why", _S),
    Event.PROFILE_CHANGE: _m(
        "an order changed what the gateway does; a consumer is told which profiles of his", _C, _K
    ),
    Event.CONNECTION_OPENED: _m("a connection to a peer was opened", _S, written=False),
    Event.CONNECTION_CLOSED: _m("a connection to a peer was closed", _S, written=False),
    Event.CONNECTION_REFUSED: _m("a connection broke a rule and was not made", _S),
    Event.AUTHENTICATION_FAILED: _m("a peer, a signature or a certificate did not prove itself", _S),
    Event.PEER_UNAVAILABLE: _m("a peer could not be reached", _S),
    Event.PEER_MISBEHAVED: _m("a peer broke a protocol, or contradicted its own signature", _S, _C),
    Event.WAKE_UP: _m("a wake-up packet came", _S, written=False),
    Event.TIME_SYNCHRONISED: _m("the clock was set by a time source; evidence: by how much", _S),
    Event.TIME_INVALID: _m("the time cannot be trusted, or can again", _S),
    Event.TIME_DEVIATION: _m("the clock was wrong by more than 3 % of the shortest period", _S, _K),
    Event.VALUES_WITHDRAWN: _m("values registered at a false time were taken back", _S, _K),
    Event.METER_OK: _m(
        "the first telegram of a meter since start was accepted, or one after silence", _S, _C
    ),
    Event.METER_COMMUNICATION_FAULT: _m(
        "a line or receiver of meters is disturbed, or a meter is silent (its consumer is told)", _S, _C
    ),
    Event.METER_STATUS: _m(
        "a meter's status changed: tampering, an error, a warning, or none of them again", _S, _C
    ),
    Event.METER_ASSIGNMENT: _m("a meter was given to a consumer, or taken from him", _K),
    Event.TELEGRAM_REFUSED: _m("telegrams of a meter were rejected; the sub-event says why", _S),
    Event.REGISTRATION_CLOSED: _m("a billing period ended and its values are registered", _C),
    Event.DATA_RELEASED: _m("a data set is on its way; its period and number of values, never values", _C),
    Event.DATA_SENT: _m("a data set arrived at its recipient", _C),
    Event.DATA_UNDELIVERED: _m(
        "a data set waits for a recipient who does not take it or is named no more, or was given up;"
        " see the sub-event",
        _S,
        _C,
    ),
    Event.RELEASE_DENIED: _m("the policy gate let something not leave", _S, _C),
    Event.CONCEALED_CONTRIBUTION: _m("a value went into a total that hides it; size of the group", _C),
    Event.CONCEALMENT_ABORTED: _m("a value could not be hidden, so it stayed", _S, _C),
    Event.CONCEALMENT_UNDONE: _m(
        "the administrator let a plain profile undo a concealed one, by name in his order", _C
    ),
    Event.CONCEALMENT_STATEMENT: _m("a day in a net: slots, size of the groups, plain data sets", _C),
    Event.CONCEALMENT_REPAIRED: _m(
        "a net mended a fault: shares given, canary words stated, owed values added up; see the sub-event",
        _S,
        _C,
    ),
    Event.CONTRACT_CHANGE: _m("a net or contract of this consumer began", _S, _C),
}
"""Event -> meaning."""
