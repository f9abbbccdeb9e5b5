"""What an administrator's order does to the profiles. Pure: record and order in, record and receipt out.

| kind of order | body | effect |
|---|---|---|
| profiles | a set | checked and active in one step |
| profiles.stage | a set | checked and kept; the active set stays |
| profiles.activate | {"version": n} | the staged set of that order becomes active |
| profiles.rollback | {} | the set before the active one becomes active again |

Versions rise over all kinds, so that no order can be repeated; a roll-back is a new order, not an old one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn, TypeVar

import msgspec
from msgspec.structs import replace

from firmware.enforcement.determination import Grid, after, conflicts, grids, until
from firmware.errors import ConfigurationRefused
from firmware.profile import codec
from firmware.profile.difference import difference, summary
from firmware.profile.model import ProfileSet
from firmware.profile.record import ActiveRecord, Staged
from wan.ports import Order, Receipt

_T = TypeVar("_T")
_REASON_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Effect:
    """What an order does; `record` is None where it was refused and nothing changes."""

    receipt: Receipt
    record: ActiveRecord | None = None
    activates: bool = False
    """Whether another set is active afterwards."""


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code)
        self.code, self.reason = code, reason


class _Activate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int


class _Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def carry_out(record: ActiveRecord, order: Order, now_utc: datetime, *, small_nets_allowed: bool) -> Effect:
    """Return what `order`, whose signature is already checked, does to `record` at `now_utc`."""
    try:
        if (kind := _KINDS.get(order.kind)) is None:
            _refuse("kind", f"this gateway carries out orders of kind {', '.join(_KINDS)}")
        if order.version <= record.floor:
            _refuse("version", f"version {order.version} is not above {record.floor}, the newest so far")
        return kind(_Work(record, order, now_utc, small_nets_allowed))
    except _Refused as refused:
        reason = refused.reason[:_REASON_CHARS]
        return Effect(Receipt(order.message_id, accepted=False, code=refused.code, reason=reason))


@dataclass(frozen=True, slots=True)
class _Work:
    record: ActiveRecord
    order: Order
    now_utc: datetime
    small_nets_allowed: bool

    def profiles(self) -> ProfileSet:
        """Read and check the set in the order's body."""
        try:
            return codec.from_json(self.order.body, small_nets_allowed=self.small_nets_allowed)
        except ConfigurationRefused as error:
            _refuse("invalid", str(error))

    def given(self, profiles: ProfileSet) -> tuple[Grid, ...]:
        """Hold a set against what is and was active; return what its recipients will have got by now."""
        given = until((*self.record.history, *_in_force(self.record)), self.now_utc)
        found = conflicts((*given, *after(grids(profiles), self.now_utc)))
        if found:
            _refuse("undoes-concealment", "; ".join(str(conflict) for conflict in found))
        return given

    def accepted(self, record: ActiveRecord, said: str, *, activates: bool) -> Effect:
        """Say yes; what changes stands in the receipt, names only."""
        changes = summary(difference(self.record.profiles, record.profiles))
        reason = f"{said}: {changes}" if activates else said
        receipt = Receipt(self.order.message_id, accepted=True, code="ok", reason=reason[:_REASON_CHARS])
        return Effect(receipt, replace(record, newest=self.order.version), activates)

    def activated(self, profiles: ProfileSet, said: str) -> Effect:
        """Make a set active."""
        return self.accepted(
            ActiveRecord(
                version=self.order.version,
                profiles=profiles,
                since=_since(self.record, profiles, self.now_utc),
                history=self.given(profiles),
                before=self.record.profiles,
            ),
            said,
            activates=True,
        )


def _profiles(work: _Work) -> Effect:
    return work.activated(work.profiles(), f"version {work.order.version} is active")


def _stage(work: _Work) -> Effect:
    profiles = work.profiles()
    work.given(profiles)
    staged = Staged(version=work.order.version, profiles=profiles)
    changes = summary(difference(work.record.profiles, profiles))
    said = f"version {work.order.version} is staged: {changes}"
    return work.accepted(replace(work.record, staged=staged), said, activates=False)


def _activate(work: _Work) -> Effect:
    wanted, staged = _body(work.order, _Activate).version, work.record.staged
    if staged is None or staged.version != wanted:
        there = "none" if staged is None else f"version {staged.version}"
        _refuse("not-staged", f"version {wanted} is not staged ({there} is)")
    return work.activated(staged.profiles, f"version {wanted} is active, by version {work.order.version}")


def _rollback(work: _Work) -> Effect:
    _body(work.order, _Rollback)
    if work.record.before is None:
        _refuse("nothing-before", "no set was active before this one")
    return work.activated(work.record.before, f"rolled back, by version {work.order.version}")


_KINDS: Final[dict[str, Callable[[_Work], Effect]]] = {
    "profiles": _profiles,
    "profiles.stage": _stage,
    "profiles.activate": _activate,
    "profiles.rollback": _rollback,
}


def _body(order: Order, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(order.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _refuse("invalid", f"body: {error}")


def _refuse(code: str, reason: str) -> NoReturn:
    raise _Refused(code, reason)


def _in_force(record: ActiveRecord) -> Iterator[Grid]:
    """What the active set gives, each profile from its activation on: nothing older was or will be sent."""
    for grid in grids(record.profiles):
        yield from after((grid,), record.since[f"communication/{grid.profile}"])


def _since(record: ActiveRecord, profiles: ProfileSet, now_utc: datetime) -> dict[str, datetime]:
    """Return since when each profile of a set has its present content: now unless it had it before."""
    before, known = record.profiles, record.since
    since: dict[str, datetime] = {}
    for processing in profiles.processing:
        key = f"processing/{processing.id}"
        since[key] = known.get(key, now_utc) if processing in before.processing else now_utc
    for communication in profiles.communication:
        key = f"communication/{communication.id}"
        unchanged = communication in before.communication and (
            before.processing_of(communication) == profiles.processing_of(communication)
        )
        since[key] = known.get(key, now_utc) if unchanged else now_utc
    return since
