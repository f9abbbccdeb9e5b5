"""Which instants profiles may name: grids are counted from them, and arithmetic with dates has ends. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_FIRST_YEAR, _END_YEAR = 1970, 2200
INSTANT: Final = f"a whole second of the years {_FIRST_YEAR} to {_END_YEAR - 1}"


def whole(instant: datetime) -> bool:
    """Whether grids can be counted from here: whole seconds, and far enough from where dates end."""
    return instant.microsecond == 0 and _FIRST_YEAR <= instant.year < _END_YEAR
