"""One roster after another: the notice of what is open, leaving, and what a later roster may change. No I/O.

Members and administrators apply the same rules, each against what it has kept itself.
Spec: docs/dcnet.md, membership, later rosters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32, document_hash
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import NetRules

NO_ROSTER: Final = bytes(HASH_BYTES)
"""What stands for the roster before the first."""


@dataclass(frozen=True, slots=True)
class VersionNotice:
    """Which roster is in force and for which the supplier takes bundles, signed by it. Only a hint."""

    KIND: ClassVar[int] = 32

    net: bytes
    in_force: int
    """0: none yet."""
    open: int
    """Takes bundles, or is on its way."""
    first_epoch: int
    """In which the open one shall begin; 0: not known yet."""
    wanted: bool
    """Whether members of the roster in force shall offer bundles now; newcomers always may."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.in_force, self.open, self.first_epoch, int(self.wanted)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.number(2) == 1,
        )


@dataclass(frozen=True, slots=True)
class Leave:
    """A member says, signed, from when on it is no member any more."""

    KIND: ClassVar[int] = 33

    net: bytes
    version: int
    index: int
    from_epoch: int
    """The first epoch without it."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.index, self.from_epoch])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 5, cls.KIND)
        return cls(fields.octets(NET_BYTES), fields.number(U32), fields.number(U32), fields.number(U32))


@dataclass(frozen=True, slots=True)
class PeerWithdrawal:
    """Whom an administrator's gateways share keys with no more, whatever it authorised before; signed."""

    KIND: ClassVar[int] = 34

    net: bytes
    serial: int
    """Rises; a newer list replaces the one before."""
    certificates: tuple[bytes, ...]
    """Hashes of the peers' SIG certificates, rising."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.serial, list(self.certificates)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 4, cls.KIND)
        net, serial = fields.octets(NET_BYTES), fields.number(U32)
        hashes = tuple(Fields([item], 1).octets(HASH_BYTES) for item in fields.array())
        if list(hashes) != sorted(set(hashes)):
            raise MalformedObject("the certificates of a withdrawal do not rise")
        return cls(net, serial, hashes)


def changes(before: Roster, after: Roster) -> int:
    """Return how many gateways are in one of two rosters only; a gateway is known by its certificate."""
    old = {entry.certificate_hash for entry in before.entries}
    new = {entry.certificate_hash for entry in after.entries}
    return len(old ^ new)


def check_first(rules: NetRules, roster: Roster) -> None:
    """Check a roster that no other came before.

    Raises:
        MembershipRefused: `previous`, it names a roster before it; `start`, too few members to begin with.
    """
    if roster.previous != NO_ROSTER:
        raise MembershipRefused("previous", "the roster follows one that we do not know")
    if len(roster.entries) < rules.starts_with():
        raise MembershipRefused("start", f"{len(roster.entries)} of {rules.starts_with()} members to begin")


def check_successor(rules: NetRules, before: Roster, roster: Roster, today: int) -> None:
    """Check a roster against the one it follows; for a roster that is new to us.

    Args:
        rules: the policy the administrator signed.
        before: the roster that is in force.
        roster: the new one.
        today: the current epoch.

    Raises:
        MembershipRefused: `previous` (follows another roster), `version` (does not rise), `epoch` (begins in
            an epoch that has begun), `churn` (fewer than churn_min gateways change, but some).
    """
    if roster.previous != document_hash(before):
        raise MembershipRefused("previous", "the roster follows another one than that in force")
    if roster.version <= before.version:
        raise MembershipRefused("version", f"version {roster.version} after {before.version}")
    if roster.first_epoch <= max(today, before.first_epoch):
        raise MembershipRefused("epoch", f"epoch {roster.first_epoch} has begun before the roster")
    check_churn(rules, before, roster)


def check_churn(rules: NetRules, before: Roster, roster: Roster) -> None:
    """Refuse a lone change: the difference of two sums would tell of few.

    Raises:
        MembershipRefused: `churn`.
    """
    if 0 < (changed := changes(before, roster)) < rules.churn_min:
        raise MembershipRefused("churn", f"{changed} change, {rules.churn_min} or none may")
