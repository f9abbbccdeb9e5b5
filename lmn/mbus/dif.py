"""Data information block: function, storage, tariff, subunit and the form of the data. Pure functions.

Spec: EN 13757-3, data information block.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from lmn.errors import MalformedRecords

MAX_EXTENSIONS: Final = 10
"""At most ten DIFE and ten VIFE bytes follow a DIF or VIF."""

FILLER: Final = 0x2F
MANUFACTURER_DATA: Final = 0x0F
MANUFACTURER_DATA_MORE: Final = 0x1F
"""As above, and the meter has more records in a further telegram."""


class Form(Enum):
    """How the bytes of a value are to be read."""

    NOTHING = "nothing"
    INTEGER = "integer"
    REAL = "real"
    BCD = "bcd"
    VARIABLE = "variable"


FORMS: Final = {
    0x0: (Form.NOTHING, 0),
    0x1: (Form.INTEGER, 1),
    0x2: (Form.INTEGER, 2),
    0x3: (Form.INTEGER, 3),
    0x4: (Form.INTEGER, 4),
    0x5: (Form.REAL, 4),
    0x6: (Form.INTEGER, 6),
    0x7: (Form.INTEGER, 8),
    0x8: (Form.NOTHING, 0),  # selection for readout: no data in an answer
    0x9: (Form.BCD, 1),
    0xA: (Form.BCD, 2),
    0xB: (Form.BCD, 3),
    0xC: (Form.BCD, 4),
    0xD: (Form.VARIABLE, -1),
    0xE: (Form.BCD, 6),
}
"""Low four bits of the DIF -> form and bytes; -1 where a length byte (LVAR) leads the data."""

_FUNCTIONS: Final = ("inst", "max", "min", "error")


@dataclass(frozen=True, slots=True)
class DataInformation:
    """One decoded data information block."""

    function: str
    """inst, max, min or error (value during an error state)."""
    storage: int
    tariff: int
    subunit: int
    form: Form
    size: int
    """Bytes of data, -1 where a length byte leads them."""


def decode_dib(dib: bytes) -> DataInformation:
    """Decode a DIF with its DIFEs; the block is whole and its DIF no special function."""
    dif = dib[0]
    storage, tariff, subunit = dif >> 6 & 1, 0, 0
    for index, extension in enumerate(dib[1:]):
        storage |= (extension & 0x0F) << 1 + 4 * index
        tariff |= (extension >> 4 & 0x03) << 2 * index
        subunit |= (extension >> 6 & 0x01) << index
    form, size = FORMS[dif & 0x0F]
    return DataInformation(_FUNCTIONS[dif >> 4 & 0x03], storage, tariff, subunit, form, size)


def variable_size(data: bytes, position: int) -> int:
    """Bytes of a value of variable length, its length byte included.

    Raises:
        MalformedRecords: the length byte is missing or reserved.
    """
    if position >= len(data):
        raise MalformedRecords("records end before a length byte")
    length = data[position]
    if length <= 0xBF:
        return 1 + length  # text
    if length <= 0xC9:
        return 1 + length - 0xC0  # positive BCD
    if 0xD0 <= length <= 0xD9:
        return 1 + length - 0xD0  # negative BCD
    if 0xE0 <= length <= 0xEF:
        return 1 + length - 0xE0  # binary
    if 0xF0 <= length <= 0xF4:
        return 1 + 4 * (length - 0xEC)  # long binary
    if length in (0xF5, 0xF6):
        return 1 + (48 if length == 0xF5 else 64)
    raise MalformedRecords(f"length byte {length:02X} is reserved")
