"""Who lives where: names, addresses and keys of a home, all derived from its number. A value."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from lmn.model import MeterId


@dataclass(frozen=True, slots=True)
class Household:
    """One home: a gateway and its electricity meter."""

    number: int
    """From 1."""

    @property
    def gateway_id(self) -> str:
        """Device id, upper case."""
        return f"ESGW01{self.number:08d}"

    @property
    def name(self) -> str:
        """Device id as URLs and events have it."""
        return self.gateway_id.lower()

    @property
    def consumer(self) -> str:
        """Who lives there."""
        return f"consumer-{self.number}"

    @property
    def meter(self) -> MeterId:
        """The simulated electricity meter."""
        return MeterId("SMG", f"{10_000_000 + self.number}", 0x01, 0x02)

    @property
    def meter_key(self) -> bytes:
        """Its master key, different in every home."""
        return sha256(f"demo meter {self.number}".encode()).digest()[:16]
