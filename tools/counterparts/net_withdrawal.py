"""A withdrawal that administrators tell one another, without the supplier: the statement, who may make it.

An administrator states whom of its **own** gateways others shall share no key with any more. It goes to
the other administrators of the roster, over TLS or as a file; each judges it against the rosters that it has
countersigned itself, and gives its own gateways the order that it gives for its own withdrawals.
Spec: docs/dcnet.md, revocation. Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol, Self

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError, MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_succession import (
    current_versions,
    own_revoked,
    owners_of,
    partners_revoked,
    withdraw_orders,
)
from tools.counterparts.server import Emit
from wan.errors import OrderRefused, WanError

KNOWN: Final = frozenset({"replay"})
"""Refusals that say: it is known already."""

Place = Callable[[str, str, dict[str, Any]], object]
"""Gives one of our gateways an order: (gateway id, kind, body)."""


@dataclass(frozen=True, slots=True)
class WithdrawalStatement:
    """Whom of its own gateways an administrator withdraws from a net, signed by it."""

    KIND: ClassVar[int] = 65

    net: bytes
    administrator: str
    """As rosters call it."""
    serial: int
    """Rises; a newer list replaces the one before."""
    certificates: tuple[bytes, ...]
    """Hashes of the gateways' SIG certificates, rising."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.administrator, self.serial, list(self.certificates)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 5, cls.KIND)
        net, name, serial = fields.octets(NET_BYTES), fields.text(64), fields.number(U32)
        hashes = tuple(Fields([item], 1).octets(HASH_BYTES) for item in fields.array())
        if list(hashes) != sorted(set(hashes)):
            raise MalformedObject("the certificates of a withdrawal do not rise")
        return cls(net, name, serial, hashes)


# -- whoever states it -------------------------------------------------------------------------------


def restate(kept: MutableMapping[str, bytes], net: str, name: str) -> WithdrawalStatement | None:
    """Bring our statement up to what we have withdrawn; None if there is nothing to say and never was.

    Args:
        kept: our records.
        net: net id, hex.
        name: how rosters call us.
    """
    owners, before = owners_of(kept, net), stated(kept, net)
    said = () if before is None else before.certificates  # who is in no roster any more stays withdrawn
    gone = sorted(
        one
        for one in own_revoked(kept, net).values()
        if (owners[one][0] == name if one in owners else one in said)
    )
    if before is None and not gone:
        return None
    if before is not None and list(before.certificates) == gone:
        return before
    serial = 1 if before is None else before.serial + 1
    made = WithdrawalStatement(bytes.fromhex(net), name, serial, tuple(gone))
    kept[f"stated-{net}"] = made.to_bytes()
    return made


def stated(kept: Mapping[str, bytes], net: str) -> WithdrawalStatement | None:
    """Return what we have stated last; None if nothing."""
    data = kept.get(f"stated-{net}")
    return None if data is None else WithdrawalStatement.from_bytes(data)


class Ask(Protocol):
    """The way to one other administrator."""

    async def withdrawn(self, net: str, statement: bytes) -> None:
        """Tell a statement. Raises `OrderRefused`, `WanError`, `OSError` or `ClientError`."""


class WithdrawalTeller:
    """Tells other administrators what we have stated, until each has taken it.

    Args:
        name: how rosters call us.
        certificate: DER of our SIG certificate.
        sign: signs as the administrator.
        emit: takes events.
        kept: our records, shared with the witness; who has taken what outlives this process.
        ways: to other administrators, by their names in rosters; the others get it by hand.
    """

    def __init__(
        self,
        name: str,
        certificate: bytes,
        sign: Callable[[bytes], Awaitable[bytes]],
        emit: Emit,
        *,
        kept: MutableMapping[str, bytes],
        ways: Mapping[str, Ask],
    ) -> None:
        self._name, self._certificate, self._sign = name, certificate, sign
        self._emit, self._kept, self._ways = emit, kept, ways
        self._said: dict[tuple[str, str], str] = {}
        self._done: dict[str, tuple[int, list[int]]] = {}
        """Net -> list and rosters of which everybody knows; nothing to do while they stand."""

    async def export(self, net: str) -> bytes:
        """Return our statement as an `Attestation`, for a file.

        Raises:
            OrderRefused: `nothing`; none of our gateways was withdrawn from this net.
        """
        if (made := stated(self._kept, net)) is None:
            raise OrderRefused("nothing", f"no gateway of our own was withdrawn from net {net}")
        return Attestation(self._certificate, await self._sign(made.to_bytes())).to_bytes()

    async def look(self) -> bool:
        """Tell everybody who does not know yet, once; False if somebody still does not."""
        everybody = True
        for record in [one for one in self._kept if one.startswith("stated-") and one.count("-") == 1]:
            net = record.removeprefix("stated-")
            made = WithdrawalStatement.from_bytes(self._kept[record])
            stand = made.serial, current_versions(self._kept, net)
            if self._done.get(net) == stand:
                continue
            unaware = [one for one in self._audience(net, made) if self._told(net, one) < made.serial]
            if all([await self._tell(net, other, made) for other in sorted(unaware)]):
                self._done[net] = stand
            else:
                everybody = False
        return everybody

    def _audience(self, net: str, made: WithdrawalStatement) -> set[str]:
        """Whose rosters hold somebody whom we withdrew, and who has heard of an earlier list."""
        found: set[str] = set()
        for version in current_versions(self._kept, net):
            roster = Roster.from_bytes(self._kept[f"roster-{net}-{version}"])
            names = {one.name for one in roster.administrators} - {self._name}
            concerned = any(entry.certificate_hash in made.certificates for entry in roster.entries)
            found |= names if concerned else {name for name in names if self._told(net, name)}
        return found

    def _told(self, net: str, other: str) -> int:
        return int(self._kept.get(f"told-{net}-{_short(other)}", b"0"))

    async def _tell(self, net: str, other: str, made: WithdrawalStatement) -> bool:
        about = {"net": net, "administrator": other, "serial": made.serial}
        if (way := self._ways.get(other)) is None:
            self._once(net, other, {"event": "withdrawal-by-hand"} | about)
            return False
        try:
            await way.withdrawn(net, await self.export(net))
        except OrderRefused as refused:
            if refused.code not in KNOWN:
                self._once(net, other, {"event": "withdrawal-refused", "reason": str(refused)} | about)
                return False
        except (WanError, OSError, ClientError) as error:
            self._once(net, other, {"event": "withdrawal-waits", "reason": str(error)} | about)
            return False
        self._kept[f"told-{net}-{_short(other)}"] = str(made.serial).encode()
        self._emit({"event": "withdrawal-told"} | about)
        return True

    def _once(self, net: str, other: str, event: dict[str, Any]) -> None:
        """Emit what differs from what was said last about this administrator."""
        if self._said.get((net, other)) != (said := json.dumps(event)):
            self._said[net, other] = said
            self._emit(event)


# -- whoever is told ---------------------------------------------------------------------------------


class WithdrawalTaker:
    """Judges what other administrators state, and gives our gateways the order.

    Args:
        name: how rosters call us.
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the signers' certificates.
        emit: takes events.
        kept: our records, shared with the witness.
        place: gives a gateway an order.
        now_utc: our clock.
    """

    def __init__(
        self,
        name: str,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        emit: Emit,
        *,
        kept: MutableMapping[str, bytes],
        place: Place,
        now_utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name, self._ordered, self._trust = name, ordered, trust
        self._emit, self._kept, self._place, self._now_utc = emit, kept, place, now_utc

    async def take(self, net: str, body: bytes) -> list[str]:
        """Answer `POST /dcnet/v1/{net}/withdrawn`; return whom the statement withdraws.

        Raises:
            OrderRefused: `net` (not ordered here, or a statement about another), `form` (no statement, or its
                signature does not hold), `signer` (signed with another certificate than shown),
                `administrator` (not the one of the rosters that we countersigned, or ourselves), `foreign`
                (a gateway of somebody else), `serial` (older than what is known), `replay` (known), `pause`
                (lets somebody back too soon after the last list).
        """
        try:
            return await self._take(net, body)
        except OrderRefused as refused:
            self._emit({"event": "refused", "what": "withdrawn", "net": net, "reason": str(refused)})
            raise

    async def _take(self, net: str, body: bytes) -> list[str]:
        ordered = self._ordered(net)
        if ordered is None:
            raise OrderRefused("net", "no such net was ordered")
        try:
            shown = Attestation.from_bytes(body)
            checked = await check_signed(shown.signed, self._trust)
            said = WithdrawalStatement.from_bytes(checked.content)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        if checked.signer != shown.certificate:
            raise OrderRefused("signer", "signed with another certificate than shown")
        if said.net.hex() != net:
            raise OrderRefused("net", "a statement about another net")
        self._check_administrator(net, said.administrator, hashlib.sha256(checked.signer).digest())
        owners = owners_of(self._kept, net)
        known = [one for one in said.certificates if one in owners]
        if foreign := sorted(owners[one][1] for one in known if owners[one][0] != said.administrator):
            raise OrderRefused("foreign", f"not gateways of {said.administrator}: {', '.join(foreign)}")
        record = f"stated-by-{net}-{_short(said.administrator)}"
        self._check_serial(record, said, ordered.policy.roster_pause_s)
        lists = partners_revoked(self._kept, net)
        before = lists.get(said.administrator, {})
        listed = {gateway: one for gateway, one in before.items() if one in said.certificates}
        listed |= {owners[one][1]: one for one in known}
        orders = {}
        if listed != before:
            lists[said.administrator] = listed
            orders = withdraw_orders(self._kept, net, sorted(ordered.gateways), partners=lists)
        for gateway, (kind, document) in orders.items():
            self._place(gateway, kind, document)
        # Kept last: whoever is interrupted is told again, and orders again.
        self._kept[record] = json.dumps(
            {
                "administrator": said.administrator,
                "serial": said.serial,
                "certificates": [one.hex() for one in said.certificates],
                "gateways": {gateway: one.hex() for gateway, one in listed.items()},
                "at": self._now_utc().timestamp(),
            }
        ).encode()
        told = {"net": net, "administrator": said.administrator, "serial": said.serial}
        unknown = len(said.certificates) - len(listed)
        more = {"gateways": sorted(listed), "unknown": unknown, "ordered": len(orders)}
        self._emit({"event": "withdrawn-by-partner"} | told | more)
        return sorted(listed)

    def _check_administrator(self, net: str, name: str, certificate_hash: bytes) -> None:
        if name == self._name:
            raise OrderRefused("administrator", "a statement in our own name")
        for version in current_versions(self._kept, net):
            roster = Roster.from_bytes(self._kept[f"roster-{net}-{version}"])
            if any(
                (one.name, one.certificate_hash) == (name, certificate_hash) for one in roster.administrators
            ):
                return
        raise OrderRefused(
            "administrator", f"no roster that we countersigned has this certificate for {name}"
        )

    def _check_serial(self, record: str, said: WithdrawalStatement, pause_s: int) -> None:
        if record not in self._kept:
            return
        known = json.loads(self._kept[record])
        before = [bytes.fromhex(one) for one in known["certificates"]]
        if said.serial == known["serial"] and before == list(said.certificates):
            raise OrderRefused("replay", f"list {said.serial} is known")
        if said.serial <= known["serial"]:
            raise OrderRefused("serial", f"list {said.serial} is not newer than list {known['serial']}")
        # Taking away is never late, and ends; letting back and taking away again could go on for ever.
        if set(before) - set(said.certificates) and self._now_utc().timestamp() - known["at"] < pause_s:
            raise OrderRefused("pause", f"the last list is younger than {pause_s} s")


def _short(name: str) -> str:
    """Return what stands for an administrator's name in the name of a record."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]
