"""Quantities as scaled integers: millionths of the unit, 13 digits before and 6 behind the point. No I/O.

Range: BSI TR-03109-1 v2.0 details, 9.3.4. What does not fit is refused by name and never rounded.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from firmware.errors import ReadingRefused

SCALE: Final = 1_000_000
INTEGER_DIGITS: Final = 13
FRACTION_DIGITS: Final = 6
_LIMIT: Final = 10 ** (INTEGER_DIGITS + FRACTION_DIGITS)


class QuantityRefused(ReadingRefused):
    """A value has more digits than values may have, or is no number."""


def scaled(value: Decimal) -> int:
    """Return a value in millionths of its unit, exactly.

    Raises:
        QuantityRefused: more than 13 digits before or 6 behind the point, or not a finite number.
    """
    if not value.is_finite():
        raise QuantityRefused("a finite number is needed")
    if not value:
        return 0
    if value.adjusted() >= INTEGER_DIGITS:
        raise QuantityRefused(f"more than {INTEGER_DIGITS} digits before the point")
    if value.adjusted() < -FRACTION_DIGITS:
        raise QuantityRefused(f"more than {FRACTION_DIGITS} digits behind the point")
    numerator, denominator = value.as_integer_ratio()
    whole, rest = divmod(numerator * SCALE, denominator)
    if rest:
        raise QuantityRefused(f"more than {FRACTION_DIGITS} digits behind the point")
    return whole


def unscaled(quantity: int) -> Decimal:
    """Return a quantity in its unit.

    Args:
        quantity: millionths.

    Raises:
        QuantityRefused: a sum has grown past 13 digits before the point.
    """
    if abs(quantity) >= _LIMIT:
        raise QuantityRefused(f"more than {INTEGER_DIGITS} digits before the point")
    return Decimal(quantity).scaleb(-FRACTION_DIGITS)
