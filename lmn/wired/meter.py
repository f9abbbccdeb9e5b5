"""A meter on a wire, as the configuration names it. A value."""

from __future__ import annotations

from dataclasses import dataclass

from lmn.model import MeterId, Obis


@dataclass(frozen=True, slots=True)
class WiredMeter:
    """One configured meter."""

    meter: MeterId
    server_id: bytes
    certificate: bytes | None
    """DER, as its maker delivered it; None: it is paired under its master key."""
    registers: tuple[Obis, ...]
