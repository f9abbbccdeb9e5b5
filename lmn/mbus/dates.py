"""Points in time of M-Bus, types F, G and I, as text. Pure functions.

The meter's local time, without zone. A wildcard ("every day"), an invalid mark or an impossible date is
no point in time: None. Type J (three bytes) is a time of day without a day and so none either; type M
(variable length) is not read: its layout could not be confirmed anywhere. Both stay raw.
Spec: EN 13757-3, annex "coding of data records"; pitfalls: docs/lmn.md 1.8, rules 2, 3 and 9.
"""

from __future__ import annotations

from datetime import date
from typing import Final

_LAST_YEAR_OF_2000: Final = 80
"""Without century bits, 81 to 99 are years of the last century."""


def _day(low: int, high: int, century: int = 0) -> str | None:
    year = low >> 5 | high >> 4 << 3
    if year > 99:
        return None
    if century:
        year += 1900 + 100 * century
    else:
        year += 2000 if year <= _LAST_YEAR_OF_2000 else 1900
    try:
        return date(year, high & 0x0F, low & 0x1F).isoformat()
    except ValueError:  # day 0, month 15 and the like
        return None


def type_g(data: bytes) -> str | None:
    """Two bytes: YYYY-MM-DD."""
    return _day(data[0], data[1])


def type_f(data: bytes) -> str | None:
    """Four bytes: YYYY-MM-DD HH:MM."""
    minute, hour = data[0] & 0x3F, data[1] & 0x1F
    if data[0] & 0x80 or minute > 59 or hour > 23:
        return None
    day = _day(data[2], data[3], data[1] >> 5 & 0x03)
    return f"{day} {hour:02}:{minute:02}" if day is not None else None


def type_i(data: bytes) -> str | None:
    """Six bytes: YYYY-MM-DD HH:MM:SS."""
    second, minute, hour = data[0] & 0x3F, data[1] & 0x3F, data[2] & 0x1F
    if data[1] & 0x80 or second > 59 or minute > 59 or hour > 23:
        return None
    day = _day(data[3], data[4])
    return f"{day} {hour:02}:{minute:02}:{second:02}" if day is not None else None
