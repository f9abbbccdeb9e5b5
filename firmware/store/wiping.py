"""One consumer's data leave the gateway for good: rows, bytes, and the key they were sealed under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from firmware.errors import StoreCorrupt
from firmware.store.operations import Delete, Forget, Operation, Sift
from firmware.store.outbox import SealedOutbox
from firmware.store.partition import Partition
from firmware.store.retention import day_of
from firmware.store.stores import Stores


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which something was a consumer's: after `after_utc`, through `through_utc`."""

    after_utc: datetime | None = None
    """None: since ever."""
    through_utc: datetime | None = None
    """None: until now."""

    def holds(self, instant_utc: datetime) -> bool:
        """Tell whether an instant lies in it."""
        return (self.after_utc is None or instant_utc > self.after_utc) and (
            self.through_utc is None or instant_utc <= self.through_utc
        )


EVER: Final = Span()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Belongings:
    """What is or was a consumer's, and when."""

    processing: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """By id of the processing profile."""
    meters: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """By meter, as readings name it."""


async def wipe_consumer(stores: Stores, consumer: str, belongings: Belongings) -> int:
    """Remove what was measured, derived and logged for one consumer; return how many rows went.

    The rows go in one transaction. Then the whole partition is sealed anew under another key, so that copies
    of the old bytes, wherever a memory card keeps them, open no more with what lies on the disk; then the
    file is rewritten without them. Cut short, the rest is done by calling it again. What stays: the last
    accepted counter of each meter (a replay must not pass), and messages on their way, which only their
    recipients can open, without the consumer's name. Of a profile or meter that changed hands, what was
    measured in his time goes.

    Args:
        stores: open.
        consumer: whose log goes.
        belongings: what was his, and when.

    Raises:
        HsmError, StoreUnavailable, StoreCorrupt: it is not complete.
    """
    partition = stores.consumer
    operations: list[Operation] = [
        Forget(f"log/consumer/{consumer}"),
        Forget(f"seal/consumer/{consumer}"),
        Delete("log.start", f"consumer/{consumer}"),
        Sift("reading", lambda text: not _is_his(belongings, text)),
    ]
    for kind in await partition.kinds():
        day = day_of(kind)
        if day is None:
            continue
        spans = belongings.processing.get(day[1], ())
        if EVER in spans:
            operations.append(Forget(kind))
        elif spans:
            operations += [
                Delete(kind, key) for key, _ in await partition.items(kind) if _held(spans, _instant_of(key))
            ]
    for profile, spans in belongings.processing.items():
        if EVER in spans:
            operations += [Delete("progress", f"{mark}/{profile}") for mark in ("registered", "closed")]
            operations.append(Forget(f"event/{profile}"))
        else:
            operations += await _events(partition, profile, spans)
    operations += [
        Delete("meter-state", meter) for meter, spans in belongings.meters.items() if _to_this_day(spans)
    ]
    nameless = await SealedOutbox(partition).disown(consumer)
    gone = sum((await partition.commit([*operations, *nameless]))[: len(operations)])
    await stores.change_key_of(partition)
    await partition.compact()
    return gone


async def _events(partition: Partition, profile: str, spans: tuple[Span, ...]) -> list[Operation]:
    """Delete a profile's tariff events from a consumer's time; each is a JSON array, its instant first."""
    kind = f"event/{profile}"
    return [
        Delete(kind, key)
        for key, text in await partition.items(kind)
        if _held(spans, _element(text, 0, "a tariff event", datetime))
    ]


def _is_his(belongings: Belongings, text: bytes) -> bool:
    """Tell whether a reading, as `firmware.flow.intake` keeps it, is of a consumer's meter and time."""
    spans = belongings.meters.get(_element(text, 0, "a stored reading", str), ())
    return bool(spans) and _held(spans, _element(text, 4, "a stored reading", datetime))


def _to_this_day(spans: Iterable[Span]) -> bool:
    """Tell whether the last of some times has not ended: what is said of the present is his."""
    return any(span.through_utc is None for span in spans)


def _held(spans: Iterable[Span], instant_utc: datetime) -> bool:
    return any(span.holds(instant_utc) for span in spans)


def _instant_of(key: str) -> datetime:
    """Return the instant that a registered value's key begins with (`firmware.metering.original`)."""
    try:
        return datetime.fromisoformat(key.partition("/")[0])
    except ValueError as error:
        raise StoreCorrupt("the key of a registered value cannot be read") from error


def _element(text: bytes, position: int, what: str, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(msgspec.json.decode(text, type=list[object])[position], type=kind)
    except (msgspec.MsgspecError, IndexError) as error:
        raise StoreCorrupt(f"{what} cannot be read") from error
