"""Compact profiles: a row of values of one register in one record of variable length. Pure functions.

Record: VIFE 1E (forward in time) or 13 (inverse: back in time), then a length byte, a control byte, a spacing
byte and the elements. Control: bits 7 and 6 how an element relates to the one before (0: a value of its
own), bits 5 and 4 the unit of the spacing (3: days and months), low four bits the elements' form as in a DIF.
Spacing FE with unit 3: one month. The first element is one step from the base time, which is a date record of
the same storage. Only that is read; what is known of it and what is not: docs/lmn.md 1.9. No reading is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from lmn.mbus.dif import FORMS, Form
from lmn.mbus.records import Record, RecordHeader, describe
from lmn.mbus.values import NotUnderstood, Value, to_text
from lmn.mbus.vif import Kind

_DIRECTIONS: Final = {0x1E: 1, 0x13: -1}
"""VIFE -> steps of time from one element to the next."""
_CONTINUES: Final = 0x80
_DAYS_AND_MONTHS, _ONE_MONTH = 3, 0xFE
_LAST_DAY_OF_ALL_MONTHS: Final = 28


@dataclass(frozen=True, slots=True, repr=False)
class ProfileValue:
    """One value of a row. Its repr shows no value."""

    day: date
    """Nominal, in the meter's own local time."""
    value: Value
    """In the register's base unit; None where the meter says that it has none."""

    @property
    def value_text(self) -> str | None:
        """The value as the command contract writes it."""
        return to_text(self.value)

    def __repr__(self) -> str:
        return f"ProfileValue({self.day})"


@dataclass(frozen=True, slots=True)
class Profile:
    """A row of values, in the order sent."""

    register: RecordHeader
    """Of the elements: what one of them would be as a record of its own."""
    dib_vib: bytes
    """Of the record that carried them, as sent."""
    values: tuple[ProfileValue, ...]


def profiles(records: Iterable[Record]) -> tuple[Profile, ...]:
    """Find the rows that can be read among the records of one telegram."""
    kept = tuple(records)
    found = (_profile(record, kept) for record in kept)
    return tuple(profile for profile in found if profile is not None)


def _profile(record: Record, records: tuple[Record, ...]) -> Profile | None:
    header = record.header
    direction = _direction(header)
    if direction is None or len(record.raw) < 3 or record.raw[0] != len(record.raw) - 1:
        return None
    control, spacing, data = record.raw[1], record.raw[2], record.raw[3:]
    form, size = FORMS.get(control & 0x0F, (Form.NOTHING, 0))
    if control >> 6 or control >> 4 & 0x03 != _DAYS_AND_MONTHS or spacing != _ONE_MONTH:
        return None
    if form not in (Form.INTEGER, Form.BCD) or not data or len(data) % size:
        return None
    register = _element(header, control & 0x0F)
    base = _base(header, records)
    if register is None or base is None:
        return None
    values = []
    for number, start in enumerate(range(0, len(data), size), 1):
        day = _months_on(base, direction * number)
        if day is None:
            return None
        try:
            value = register.decode(data[start : start + size])
        except NotUnderstood:
            return None
        values.append(ProfileValue(day, value))
    return Profile(register, header.dib_vib, tuple(values))


def _direction(header: RecordHeader) -> int | None:
    """Of a profile whose only VIFE says that it is one."""
    if header.information.form is not Form.VARIABLE or len(header.extensions) != 1:
        return None
    return _DIRECTIONS.get(header.extensions[0])


def _element(header: RecordHeader, form: int) -> RecordHeader | None:
    """The header of one element: the record's own, with the elements' form and without the VIFE."""
    block = bytearray(header.dib_vib[:-1])
    block[0] = block[0] & 0xF0 | form
    block[-1] &= ~_CONTINUES & 0xFF
    register = describe(bytes(block))
    return register if register.measurand.kind is Kind.NUMBER else None


def _base(header: RecordHeader, records: tuple[Record, ...]) -> date | None:
    """The one date of the same storage, tariff and subunit; None if there is none or another."""
    days = {
        date.fromisoformat(record.value[:10])
        for record in records
        if record.header.measurand.kind is Kind.DATE
        and not record.header.extensions
        and isinstance(record.value, str)
        and _place(record.header) == _place(header)
    }
    return days.pop() if len(days) == 1 else None


def _place(header: RecordHeader) -> tuple[int, int, int]:
    return header.information.storage, header.information.tariff, header.information.subunit


def _months_on(base: date, months: int) -> date | None:
    """The same day of another month; None where not every month has it."""
    if base.day > _LAST_DAY_OF_ALL_MONTHS:
        return None
    year, month = divmod(base.year * 12 + base.month - 1 + months, 12)
    return date(year, month + 1, base.day) if 1 <= year <= date.max.year else None
