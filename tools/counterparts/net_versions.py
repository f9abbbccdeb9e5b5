"""Rosters of a net as its supplier knows them: a version that was founded, and what is to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.roster import Roster
from tools.counterparts.net_founding import Founding
from tools.counterparts.net_tally import Terms


@dataclass
class Version:
    """A roster that was founded."""

    founding: Founding
    roster: Roster
    terms: Terms
    members: tuple[str, ...] = field(init=False)
    late: bool = False
    """Whether members had their time to confirm."""

    def __post_init__(self) -> None:
        self.members = self.founding.members

    @property
    def present(self) -> frozenset[int]:
        """Who may take part."""
        return self.founding.confirming.present


@dataclass(frozen=True, slots=True)
class PlannedSwap:
    """Who changes places with members of another net of the supplier, by the administrators' orders."""

    first_epoch: int
    out: frozenset[str]
    into: frozenset[str]

    def to_bytes(self) -> bytes:
        """Encode, for our own records."""
        return encode([self.first_epoch, sorted(self.out), sorted(self.into)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode a record of ours."""
        fields: Any = decode(data)
        first_epoch, out, into = fields
        return cls(first_epoch, frozenset(out), frozenset(into))


@dataclass(frozen=True, slots=True)
class PendingChange:
    """Who would not be in the next roster any more, and who would be new."""

    gone: frozenset[str]
    come: frozenset[str]
