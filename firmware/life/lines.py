"""What `smgw status` and `smgw doctor` show of each stick, head and RS-485 line of a running gateway.

Counters alone: no telegram, no meter, no reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmn.wmbus.link import StickStatistics

if TYPE_CHECKING:  # SML and HDLC are loaded only where something is wired
    from lmn.sml.transport import TransportStatistics
    from lmn.wired.driver import LineStatistics

Told = Callable[[float], dict[str, Any]]
"""Gives what is known of one port at a time of the loop's clock."""


@dataclass(frozen=True, slots=True)
class Port:
    """Which port it is, as the configuration names it."""

    what: str
    """stick, head or line."""
    port: str
    """Device or URL."""
    kind: str
    """Of a stick as configured, "auto" included; else its protocol."""


def of_stick(port: Port, seen: StickStatistics) -> Told:
    """Tell of a radio stick; `duplicates` are telegrams that this receiver itself delivered twice."""
    return lambda now_s: {
        **_common(port, seen, now_s),
        "device": seen.device,
        "mode": seen.link_mode,
        "crc_failures": seen.crc_failures,
        "duplicates": seen.duplicates,
        "truncated": seen.truncated,
    }


def of_head(port: Port, mode: str, seen: TransportStatistics) -> Told:
    """Tell of an infrared head; a frame that is broken off counts as a wrong checksum."""
    return lambda now_s: {
        **_common(port, seen, now_s),
        "device": "",
        "mode": mode,
        "crc_failures": seen.rejected,
        "duplicates": None,
    }


def of_line(port: Port, mode: str, seen: LineStatistics) -> Told:
    """Tell of an RS-485 line."""
    return lambda now_s: {
        **_common(port, seen, now_s),
        "device": "",
        "mode": mode,
        "crc_failures": seen.rejected,
        "duplicates": None,
        "timeouts": seen.timeouts,
        "silent": seen.silent,
        "handshakes": seen.handshakes,
        "readings": seen.readings,
    }


def _common(
    port: Port, seen: StickStatistics | TransportStatistics | LineStatistics, now_s: float
) -> dict[str, Any]:
    last = seen.last_byte_at
    return {
        "what": port.what,
        "port": str(port.port),  # the configuration has a kind of text of its own
        "kind": port.kind,
        "open": seen.is_open,
        "last_byte_s": None if last is None else round(max(0.0, now_s - last), 1),
        "bytes": seen.bytes,
        "frames": seen.frames,
        "garbage_bytes": seen.garbage_bytes,
        "restarts": max(0, seen.opened - 1),
    }
