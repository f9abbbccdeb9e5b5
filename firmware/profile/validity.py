"""From when until when a profile may be said to hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from firmware.profile.check_tariffs import Problem

_FIRST_YEAR, _END_YEAR = 1970, 2200
INSTANT: Final = f"a whole second of the years {_FIRST_YEAR} to {_END_YEAR - 1}"


def whole(instant: datetime) -> bool:
    """Whether grids can be counted from here: whole seconds, and far enough from where dates end."""
    return instant.microsecond == 0 and _FIRST_YEAR <= instant.year < _END_YEAR


def check_validity(place: str, valid_from: datetime, valid_until: datetime | None) -> Iterator[Problem]:
    """Find everything wrong with the validity of the profile at `place`."""
    if not whole(valid_from):
        yield Problem(f"{place}.valid_from", INSTANT)
    if valid_until is not None and valid_until <= valid_from:
        yield Problem(f"{place}.valid_until", "an instant after valid_from")
    if valid_until is not None and not whole(valid_until):
        yield Problem(f"{place}.valid_until", INSTANT)
