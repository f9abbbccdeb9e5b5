"""Data bytes to a value: integers, BCD, real numbers, text. Pure functions.

"No value" has many forms on the wire and one here: None. Bytes that cannot be read as what their header
says raise `NotUnderstood`, and the record stays raw.
Spec: EN 13757-3, types A, B, C, D, H and LVAR; pitfalls: docs/lmn.md 1.8.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Final

from lmn.mbus.dates import type_f, type_g, type_i
from lmn.mbus.dif import Form
from lmn.mbus.vif import Kind, Measurand

Value = Decimal | str | None
Decode = Callable[[bytes], Value]

_EXACT: Final = Context(prec=200)
"""More digits than any record can have, so that nothing is ever rounded."""


class NotUnderstood(Exception):  # never leaves this package
    """These bytes do not fit their header."""


def to_text(value: Value) -> str | None:
    """Write a value as the command contract wants it: no exponent, no trailing zeros."""
    if not isinstance(value, Decimal):
        return value
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def decoder(measurand: Measurand, form: Form, size: int) -> Decode:
    """Choose how data of this header are read."""
    if measurand.kind is Kind.NO_VALUE or form is Form.NOTHING:
        return _nothing
    if measurand.kind is Kind.RAW:
        return _not_understood
    if measurand.kind is Kind.DATE:
        return _date(measurand, form, size)
    return _CHOICES[form](measurand, size)


def _nothing(_data: bytes) -> Value:
    return None


def _not_understood(_data: bytes) -> Value:
    raise NotUnderstood


_DATES: Final[dict[tuple[str, int], Decode]] = {
    ("date", 2): type_g,
    ("datetime", 4): type_f,
    ("datetime", 6): type_i,
}


def _date(measurand: Measurand, form: Form, size: int) -> Decode:
    decode = _DATES.get((measurand.quantity, size))
    return decode if decode is not None and form is Form.INTEGER else _not_understood


def _scaled(measurand: Measurand) -> Callable[[int], Decimal]:
    exponent, factor = measurand.exponent, measurand.factor
    if exponent >= 0:
        factor *= 10**exponent
        return lambda number: Decimal(number * factor)
    shift = Decimal(exponent)
    scaleb = _EXACT.scaleb
    return lambda number: scaleb(Decimal(number * factor), shift)


def _integer(measurand: Measurand, size: int) -> Decode:
    scaled, kind = _scaled(measurand), measurand.kind
    if kind in (Kind.UNSIGNED, Kind.IDENTITY):
        return lambda data: scaled(int.from_bytes(data, "little"))
    lowest = -1 << 8 * size - 1
    # FE in every byte marks "no value" with some meters; a single byte FE is an ordinary -2.
    absent = int.from_bytes(b"\xfe" * size, "little", signed=True) if size > 1 else lowest
    count = kind is Kind.COUNT

    def decode(data: bytes) -> Value:
        number = int.from_bytes(data, "little", signed=True)
        if number in (lowest, absent) or (count and number < 0):
            return None
        return scaled(number)

    return decode


def _digits(data: bytes) -> str:
    return data[::-1].hex()


def _bcd(measurand: Measurand, _size: int) -> Decode:
    scaled = _scaled(measurand)
    signed = measurand.kind is Kind.NUMBER

    def decode(data: bytes) -> Value:
        digits = _digits(data)
        if digits.isdecimal():
            return scaled(int(digits))
        if signed and digits[0] == "f" and digits[1:].isdecimal():
            return scaled(-int(digits[1:]))
        return None  # A to F as a digit: overflow, error or "not available"

    return decode


def shortest_decimal(data: bytes) -> Decimal | None:
    """The shortest decimal number that a 32-bit real number stands for; None for infinities and NaN."""
    (real,) = struct.unpack("<f", data)
    if not math.isfinite(real):
        return None
    for digits in range(6, 10):
        text = f"{real:.{digits - 1}e}"
        try:
            if struct.pack("<f", float(text)) == data:
                return Decimal(text)
        except OverflowError:  # rounded up beyond the largest real number: more digits are needed
            continue
    return Decimal(f"{real:.8e}")


def _real(measurand: Measurand, _size: int) -> Decode:
    if measurand.kind is Kind.IDENTITY:
        return _not_understood
    shift, factor, negative = (
        Decimal(measurand.exponent),
        Decimal(measurand.factor),
        measurand.kind is Kind.NUMBER,
    )

    def decode(data: bytes) -> Value:
        number = shortest_decimal(data)
        if number is None or (number < 0 and not negative):
            return None
        return _EXACT.scaleb(_EXACT.multiply(number, factor), shift)

    return decode


def _variable_bytes(length: int) -> tuple[Form, bool]:
    """How data behind a numeric length byte are to be read, and whether they are negative BCD.

    Raises:
        NotUnderstood: an empty number, or no length of a number.
    """
    if 0xC1 <= length <= 0xC9:
        return Form.BCD, False
    if 0xD1 <= length <= 0xD9:
        return Form.BCD, True
    if 0xE1 <= length <= 0xF6:
        return Form.INTEGER, False
    raise NotUnderstood


def _variable(measurand: Measurand, _size: int) -> Decode:
    scaled, kind = _scaled(measurand), measurand.kind

    def decode(data: bytes) -> Value:
        length, content = data[0], data[1:]
        if length <= 0xBF and kind is Kind.IDENTITY:
            text = content[::-1].decode("latin-1")
            if not text.isprintable():
                raise NotUnderstood
            return text or None
        form, negative = _variable_bytes(length)
        if form is Form.INTEGER:
            return _integer(measurand, len(content))(content)
        digits = _digits(content)
        if not digits.isdecimal():
            return None  # A to F as a digit, as in BCD of a fixed length
        if negative and kind is not Kind.NUMBER:
            raise NotUnderstood
        return scaled(-int(digits) if negative else int(digits))

    return decode


_CHOICES: Final[dict[Form, Callable[[Measurand, int], Decode]]] = {
    Form.INTEGER: _integer,
    Form.BCD: _bcd,
    Form.REAL: _real,
    Form.VARIABLE: _variable,
}
