"""What distinguishes two sets of profiles, place by place, without telling a key. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from firmware.profile.model import ProfileSet

_TABLES: Final = ("meters", "processing", "communication", "proxy")
_KEY_FIELD: Final = "key_hex"
_CERTIFICATE: Final = "_certificate"
_CERTIFICATES: Final = "certificates"
_FINGERPRINT_CHARS: Final = 16


class Kind(Enum):
    """What became of a profile."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Field:
    """One value that differs; of a key only whether there is one, of a certificate some of its SHA-256."""

    place: str
    """Path inside the profile, e.g. "net.slot_s"."""
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Change:
    """One profile that differs."""

    table: str
    """meters, processing, communication or proxy."""
    identity: str
    kind: Kind
    consumers: frozenset[str]
    """Whom it concerns, before or after."""
    fields: tuple[Field, ...] = ()
    """Of a changed profile."""


def difference(before: ProfileSet, after: ProfileSet) -> tuple[Change, ...]:
    """Return what changes from one set to another: tables in their order, profiles by id."""
    return tuple(change for table in _TABLES for change in _of_table(table, before, after))


def summary(changes: Sequence[Change]) -> str:
    """Return one line that names each profile, e.g. "+meters/gas ~processing/bill"; "no change" if none."""
    sign = {Kind.ADDED: "+", Kind.REMOVED: "-", Kind.CHANGED: "~"}
    return " ".join(f"{sign[one.kind]}{one.table}/{one.identity}" for one in changes) or "no change"


def _of_table(table: str, before: ProfileSet, after: ProfileSet) -> Iterator[Change]:
    old = {one.id: one for one in getattr(before, table)}
    new = {one.id: one for one in getattr(after, table)}
    for identity in sorted(old.keys() | new.keys()):
        one, other = old.get(identity), new.get(identity)
        if one == other:
            continue
        whose = _consumers(before, one) | _consumers(after, other)
        if one is None or other is None:
            kind = Kind.ADDED if one is None else Kind.REMOVED
            yield Change(table, identity, kind, whose)
        else:
            yield Change(table, identity, Kind.CHANGED, whose, tuple(_fields(one, other)))


def _consumers(profiles: ProfileSet, profile: Any) -> frozenset[str]:
    if profile is None:
        return frozenset()
    owner = profile if hasattr(profile, "consumer") else profiles.processing_of(profile)
    return frozenset() if owner is None else frozenset({owner.consumer})


def _fields(before: object, after: object) -> Iterator[Field]:
    old, new = dict(_flat("", msgspec.to_builtins(before))), dict(_flat("", msgspec.to_builtins(after)))
    for place in sorted(old.keys() | new.keys()):
        one, other = old.get(place), new.get(place)
        if one != other:
            told = _told(place, one), _told(place, other)
            yield Field(place, told[0], "another" if told[0] == told[1] else told[1])


def _flat(place: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{place}.{key}" if place else key, part)
    else:
        yield place, value


def _told(place: str, value: object) -> object:
    if place == _KEY_FIELD:
        return "one" if value else "none"
    if place.endswith(_CERTIFICATE) and isinstance(value, str):
        return _fingerprint(value)
    if place.endswith(_CERTIFICATES) and isinstance(value, list | tuple):
        return [_fingerprint(text) for text in value]
    return value


def _fingerprint(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_CHARS]
