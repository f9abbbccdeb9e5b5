"""What an administrator's order does to the profiles. Pure: record and order in, record and receipt out.

| kind of order | body | effect |
|---|---|---|
| profiles | a set | checked and active in one step |
| profiles.stage | a set | checked and kept; the active set stays |
| profiles.activate | {"version": n} | the staged set of that order becomes active |
| profiles.rollback | {} | the set before the active one becomes active again |

Versions rise over all kinds, so that no order can be repeated; a roll-back is a new order, not an old one.

A set that would undo a concealed profile is refused, unless the order itself names that profile in
"undo_concealment" (each of the four bodies may). Nothing but a signed order carries that field: a profile has
none of that name, a staged set does not keep it, and each consumer concerned finds it in his log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn, TypeVar

import msgspec
from msgspec.structs import replace

from firmware.enforcement.determination import Conflict, Grid, after, conflicts, grids, until
from firmware.errors import ConfigurationRefused
from firmware.log.entry import Event
from firmware.log.news import News
from firmware.profile import codec
from firmware.profile.difference import Change, difference, summary
from firmware.profile.fields import Name
from firmware.profile.model import ProfileSet
from firmware.profile.proxy import NOT_SERVED
from firmware.profile.record import MAX_TENURES, ActiveRecord, Staged, changed_hands, goes_on, owners
from wan.ports import Order, Receipt

_T = TypeVar("_T")
_REASON_CHARS: Final = 2000
_OVERRIDE: Final = "undo_concealment"


@dataclass(frozen=True, slots=True)
class Effect:
    """What an order does; `record` is None where it was refused and nothing changes."""

    receipt: Receipt
    record: ActiveRecord | None = None
    activates: bool = False
    """Whether another set is active afterwards."""
    news: tuple[News, ...] = ()
    """What consumers must be told of it."""


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code)
        self.code, self.reason = code, reason


class _Activate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    undo_concealment: tuple[Name, ...] = ()


class _Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    undo_concealment: tuple[Name, ...] = ()


class _Override(msgspec.Struct, frozen=True):
    """The one field of a set's order that is not the set's; whatever else is there the codec reads."""

    undo_concealment: tuple[Name, ...] = ()


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

    def profiles(self) -> tuple[ProfileSet, tuple[str, ...]]:
        """Read and check the set in the order's body, and whose concealment it says may be undone."""
        body = self.order.body
        undo: tuple[str, ...] = ()
        if _OVERRIDE.encode() in body:
            undo, body = _split(self.order)
        try:
            return codec.from_json(body, small_nets_allowed=self.small_nets_allowed), undo
        except ConfigurationRefused as error:
            _refuse("invalid", str(error))

    def given(
        self, profiles: ProfileSet, undo: tuple[str, ...]
    ) -> tuple[tuple[Grid, ...], tuple[Conflict, ...]]:
        """Hold a set against what is and was active.

        Returns:
            What its recipients will have got by now, and what it undoes because the order says that it may.
        """
        given = until((*self.record.history, *_in_force(self.record)), self.now_utc)
        found = conflicts((*given, *after(grids(profiles), self.now_utc)))
        refused = [conflict for conflict in found if conflict.concealed not in undo]
        if refused:
            _refuse("undoes-concealment", "; ".join(str(conflict) for conflict in refused))
        return given, tuple(found)

    def accepted(
        self,
        record: ActiveRecord,
        said: str,
        *,
        activates: bool,
        undone: tuple[Conflict, ...] = (),
    ) -> Effect:
        """Say yes; what changes stands in the receipt, names only."""
        changes = difference(self.record.profiles, record.profiles) if activates else ()
        reason = f"{said}: {summary(changes)}" if activates else said
        if undone:
            reason = f"{reason}; by order {'; '.join(str(conflict) for conflict in undone)}"
        receipt = Receipt(self.order.message_id, accepted=True, code="ok", reason=reason[:_REASON_CHARS])
        news = (
            *_news(changes, said),
            *(self._undone(record.profiles, undone) if activates else ()),
            *(_assignments(self.record.profiles, record.profiles) if activates else ()),
        )
        return Effect(receipt, replace(record, newest=self.order.version), activates, news)

    def activated(self, profiles: ProfileSet, said: str, undo: tuple[str, ...]) -> Effect:
        """Make a set active."""
        given, undone = self.given(profiles, undo)
        known = {**self.record.owners, **owners(self.record.profiles)}
        tenures = (*self.record.tenures, *changed_hands(known, profiles, self.now_utc))
        if len(tenures) > MAX_TENURES:
            _refuse(
                "tenants",
                f"profiles and meters changed hands more than {MAX_TENURES} times; a new tenant of one needs"
                " a profile with an id of its own",
            )
        if profiles.proxy:
            said = f"{said} (proxy profiles: {NOT_SERVED})"
        return self.accepted(
            ActiveRecord(
                version=self.order.version,
                profiles=profiles,
                since=_since(self.record, profiles, self.now_utc),
                history=given,
                before=self.record.profiles,
                owners={**known, **owners(profiles)},
                tenures=tenures,
            ),
            said,
            activates=True,
            undone=undone,
        )

    def _undone(self, profiles: ProfileSet, undone: tuple[Conflict, ...]) -> Iterator[News]:
        """Tell whoever is behind a concealed profile, before or after, what the order undoes."""
        for conflict in undone:
            whose: set[str] = set()
            for known in (self.record.profiles, profiles):
                for one in known.communication:
                    processing = known.processing_of(one)
                    if one.id == conflict.concealed and processing is not None:
                        whose.add(processing.consumer)
            for consumer in sorted(whose):
                text = str(conflict)[:_REASON_CHARS]
                yield News(consumer=consumer, event=Event.CONCEALMENT_UNDONE, text=text)


def _profiles(work: _Work) -> Effect:
    profiles, undo = work.profiles()
    return work.activated(profiles, f"version {work.order.version} is active", undo)


def _stage(work: _Work) -> Effect:
    profiles, undo = work.profiles()
    work.given(profiles, undo)
    staged = Staged(version=work.order.version, profiles=profiles)
    changes = summary(difference(work.record.profiles, profiles))
    said = f"version {work.order.version} is staged: {changes}"
    return work.accepted(replace(work.record, staged=staged), said, activates=False)


def _activate(work: _Work) -> Effect:
    body, staged = _body(work.order, _Activate), work.record.staged
    wanted = body.version
    if staged is None or staged.version != wanted:
        there = "none" if staged is None else f"version {staged.version}"
        _refuse("not-staged", f"version {wanted} is not staged ({there} is)")
    said = f"version {wanted} is active, by version {work.order.version}"
    return work.activated(staged.profiles, said, body.undo_concealment)


def _rollback(work: _Work) -> Effect:
    undo = _body(work.order, _Rollback).undo_concealment
    if work.record.before is None:
        _refuse("nothing-before", "no set was active before this one")
    return work.activated(work.record.before, f"rolled back, by version {work.order.version}", undo)


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


def _split(order: Order) -> tuple[tuple[str, ...], bytes]:
    """Return the override of a set's order, and its body without it."""
    undo = _body(order, _Override).undo_concealment
    try:
        document = msgspec.json.decode(order.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _refuse("invalid", f"body: {error}")
    document.pop(_OVERRIDE, None)
    return undo, msgspec.json.encode(document)


def _news(changes: Sequence[Change], said: str) -> Iterator[News]:
    """Tell each consumer which of his profiles an order changed, and nothing of anybody else's."""
    of: dict[str, list[Change]] = {}
    for change in changes:
        for consumer in change.consumers:
            of.setdefault(consumer, []).append(change)
    for consumer, own in sorted(of.items()):
        text = f"{said}: {summary(own)}"[:_REASON_CHARS]
        yield News(consumer=consumer, event=Event.PROFILE_CHANGE, text=text)


def _assignments(before: ProfileSet, now: ProfileSet) -> Iterator[News]:
    """Tell the calibration log of each meter that was given to somebody, or taken from him."""
    old, new = ({one.meter: one.consumer for one in profiles.meters} for profiles in (before, now))
    for meter in sorted(old.keys() | new.keys()):
        if old.get(meter) != new.get(meter):
            text = f"{meter}: {old.get(meter, 'nobody')} -> {new.get(meter, 'nobody')}"
            yield News(consumer="", event=Event.METER_ASSIGNMENT, text=text)


def _refuse(code: str, reason: str) -> NoReturn:
    raise _Refused(code, reason)


def _in_force(record: ActiveRecord) -> Iterator[Grid]:
    """What the active set gives, each profile from its activation on: nothing older was or will be sent."""
    for grid in grids(record.profiles):
        yield from after((grid,), record.since[f"communication/{grid.profile}"])


def _since(record: ActiveRecord, profiles: ProfileSet, now_utc: datetime) -> dict[str, datetime]:
    """Return since when each profile of a set has its present content: now unless it had it before.

    Another end is no other content, unless the profile had ended: so what a contract that is cut short (the
    meter is exchanged, the consumer moves) has measured since its last bill still goes out.
    """
    before, known = record.profiles, record.since
    since: dict[str, datetime] = {}
    for processing in profiles.processing:
        key = f"processing/{processing.id}"
        earlier = next((one for one in before.processing if one.id == processing.id), None)
        since[key] = known.get(key, now_utc) if goes_on(earlier, processing, now_utc) else now_utc
    for communication in profiles.communication:
        key = f"communication/{communication.id}"
        unchanged = communication in before.communication and goes_on(
            before.processing_of(communication), profiles.processing_of(communication), now_utc
        )
        since[key] = known.get(key, now_utc) if unchanged else now_utc
    return since
