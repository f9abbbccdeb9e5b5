"""Combinable VIFEs: how they change what the VIF before them means. Pure functions.

Spec: EN 13757-3, "combinable (orthogonal) VIFE table" and its extension FC. Whatever would change the
number's meaning in a way that the command contract cannot say makes the record raw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lmn.mbus.vif import RAW, Kind, Measurand

_SCALABLE: Final = frozenset((Kind.NUMBER, Kind.COUNT, Kind.UNSIGNED))

Effect = Callable[[Measurand], Measurand]


def _same(measurand: Measurand) -> Measurand:
    return measurand


def _raw(_measurand: Measurand) -> Measurand:
    return RAW


def _no_value(measurand: Measurand) -> Measurand:
    return replace(measurand, kind=Kind.NO_VALUE)


def _date(measurand: Measurand) -> Measurand:
    """The data are the time of an event about the measurand, not the measurand itself."""
    return replace(measurand, quantity="datetime", unit="", kind=Kind.DATE, exponent=0, factor=1)


def _unsigned(measurand: Measurand) -> Measurand:
    return replace(measurand, kind=Kind.UNSIGNED) if measurand.kind in _SCALABLE else RAW


def _times(power: int) -> Effect:
    def effect(measurand: Measurand) -> Measurand:
        if measurand.kind not in _SCALABLE and power:
            return RAW
        return replace(measurand, exponent=measurand.exponent + power)

    return effect


def _per(unit: str) -> Effect:
    def effect(measurand: Measurand) -> Measurand:
        if measurand.kind is not Kind.NUMBER or not measurand.unit:
            return RAW
        return replace(measurand, unit=f"{measurand.unit}/{unit}")

    return effect


def _table() -> dict[int, Effect]:
    table: dict[int, Effect] = dict.fromkeys(range(0x80), _raw)
    for code in (
        0x00,  # no error
        0x12,  # average value
        0x1D,  # standard conform data content
        0x3A,  # uncorrected unit
        0x3B,  # accumulation of positive contributions only (forward)
        0x3C,  # accumulation of negative contributions only (backward)
        0x3E,  # at base conditions
        0x40,  # lower limit
        0x48,  # upper limit
        0x68,  # value during lower limit exceed
        0x69,  # leakage value
        0x6C,  # value during upper limit exceed
        0x6D,  # overflow value
        0x7E,  # future value
    ):
        table[code] = _same
    table.update(dict.fromkeys(range(0x15, 0x1D), _no_value))  # no data, overflow, underflow, data error
    for step, unit in enumerate(("s", "min", "h", "d", "week", "month", "year")):
        table[0x20 + step] = _per(unit)
    for code in (0x39, 0x42, 0x43, 0x46, 0x47, 0x4A, 0x4B, 0x4E, 0x4F, 0x6A, 0x6B, 0x6E, 0x6F):
        table[code] = _date
    for step in range(8):
        table[0x70 + step] = _times(step - 6)
    table[0x7D] = _times(3)
    return table


_EFFECTS: Final = _table()
_EXTENSION: Final = 0x7C
_EXTENDED: Final[dict[int, Effect]] = {
    **dict.fromkeys(range(0x01, 0x08), _same),  # phase L1, L2, L3, neutral, between phases
    **dict.fromkeys(range(0x08, 0x0D), _same),  # at quadrant 1 to 4, import less export
    0x0E: _same,  # of a second sensor
    0x0F: _same,  # register of higher resolution
    0x10: _same,  # accumulation of absolute values
    0x11: _unsigned,  # data are unsigned (type C)
}


def combine(measurand: Measurand, extensions: bytes) -> Measurand:
    """Apply VIFEs in the order in which they were sent."""
    position = 0
    while position < len(extensions):
        code = extensions[position] & 0x7F
        position += 1
        if code == _EXTENSION:
            if position >= len(extensions):
                return RAW
            effect = _EXTENDED.get(extensions[position] & 0x7F, _raw)
            position += 1
        else:
            effect = _EFFECTS[code]
        measurand = effect(measurand)
        if measurand.kind is Kind.RAW:
            return RAW
    return measurand
