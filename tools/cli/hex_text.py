"""Telegrams as people write them down: hexadecimal digits with marks between them. Pure functions.

Taken off are marks only; a digit is never guessed, and what is no hexadecimal number stays none.
"""

from __future__ import annotations

import re
from typing import Final

_MARKS: Final = re.compile(r"[\s|_:]+")
_PREFIX: Final = re.compile(r"(?<![0-9A-Za-z])0[xX]")
_SIMULATION: Final = re.compile(r"telegram=(?P<digits>.*?)(?:\+\d+)?")
"""A line of other tools' recordings: telegram=|digits| and, behind a plus, the second of sending."""
_MIN_DIGITS: Final = 22
"""Of a link header and one byte above it."""
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]+")


def digits_of(text: str) -> str:
    """Take off spaces, bars, underscores, colons, 0x and the frame of a "telegram=" line.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError("a hexadecimal string is expected")
    if (line := _SIMULATION.fullmatch(text.strip())) is not None:
        text = line["digits"]
    return _MARKS.sub("", _PREFIX.sub("", text))


def is_bare_line(text: str) -> bool:
    """Whether a line of a batch is a telegram alone; anything else has to be a JSON object."""
    if text.lstrip().startswith("telegram="):
        return True
    digits = digits_of(text)
    return len(digits) >= _MIN_DIGITS and _HEXADECIMAL.fullmatch(digits) is not None
