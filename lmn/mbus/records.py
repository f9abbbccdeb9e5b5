"""Application data to records: cuts them, names them, decodes their values. Pure functions.

What is not understood keeps its bytes under "manufacturer specific"; what cannot be cut is an error.
Spec: EN 13757-3, variable data structure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from lmn.errors import MalformedRecords
from lmn.mbus import vif_extension
from lmn.mbus.dif import (
    FILLER,
    MANUFACTURER_DATA,
    MANUFACTURER_DATA_MORE,
    MAX_EXTENSIONS,
    DataInformation,
    Form,
    decode_dib,
    variable_size,
)
from lmn.mbus.values import Decode, NotUnderstood, Value, decoder, to_text
from lmn.mbus.vif import EXTENSION_FB, EXTENSION_FD, PLAIN_TEXT, PRIMARY, RAW, Kind, Measurand
from lmn.mbus.vife import combine

_FILLERS: Final = bytes((FILLER,))

_CACHED_HEADERS: Final = 4096
"""Kinds of record that a neighbourhood of meters sends; the cache is what makes decoding fast."""

_PLAIN_TEXT_UNITS: Final = {"%RH": Measurand("relative humidity", "%", Kind.NUMBER)}
"""Units sent as text whose meaning is beyond doubt."""


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What the bytes in front of a value say."""

    dib_vib: bytes
    """DIF, DIFEs, VIF and VIFEs as sent."""
    information: DataInformation
    measurand: Measurand
    extensions: bytes
    """The combinable VIFEs, as sent."""
    decode: Decode = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One value of a telegram. Its repr shows no value."""

    header: RecordHeader
    raw: bytes
    """The data bytes as sent; with a variable length, its length byte included."""
    value: Value
    """Decimal in the base unit, text or a date; None where the meter has no value or the bytes stay raw."""
    understood: bool = True

    @property
    def quantity(self) -> str:
        """Name from the command contract."""
        return self.header.measurand.quantity if self.understood else RAW.quantity

    @property
    def unit(self) -> str:
        """Base unit, "" for none."""
        return self.header.measurand.unit if self.understood else ""

    @property
    def value_text(self) -> str | None:
        """The value as the command contract writes it."""
        return to_text(self.value)

    def __repr__(self) -> str:
        return f"Record({self.header.dib_vib.hex()}, {self.quantity})"


def _end_of_chain(data: bytes, position: int) -> int:
    """Skip a byte and all that its extension bit announces.

    Raises:
        MalformedRecords: the chain is cut off or longer than the standard allows.
    """
    limit = position + 1 + MAX_EXTENSIONS
    while position < len(data):
        if not data[position] & 0x80:
            return position + 1
        position += 1
        if position >= limit:
            raise MalformedRecords(f"more than {MAX_EXTENSIONS} extension bytes")
    raise MalformedRecords("records end inside a header")


def header_end(data: bytes, start: int) -> int:
    """Where the header that starts here ends.

    Raises:
        MalformedRecords: it is cut off.
    """
    position = start + 1
    if data[start] & 0x80:
        position = _end_of_chain(data, start)
    if position >= len(data):
        raise MalformedRecords("records end before a VIF")
    if data[position] < PLAIN_TEXT:
        return position + 1  # most VIFs: one byte, no text
    if data[position] & 0x7F != PLAIN_TEXT:
        return _end_of_chain(data, position)
    extended = data[position] & 0x80
    position += 1
    if position >= len(data) or position + 1 + data[position] > len(data):
        raise MalformedRecords("records end inside a plain text unit")
    position += 1 + data[position]
    return _end_of_chain(data, position) if extended else position


@lru_cache(maxsize=_CACHED_HEADERS)
def describe(dib_vib: bytes) -> RecordHeader:
    """Decode a whole header, as `header_end` cuts it."""
    split = _end_of_chain(dib_vib, 0)
    information = decode_dib(dib_vib[:split])
    vib = dib_vib[split:]
    if vib[0] & 0x7F == PLAIN_TEXT:
        text_end = 2 + vib[1]
        measurand = _PLAIN_TEXT_UNITS.get(vib[2:text_end][::-1].decode("latin-1"), RAW)
        extensions = vib[text_end:]
    elif vib[0] == EXTENSION_FB:
        measurand, extensions = vif_extension.FB.get(vib[1] & 0x7F, RAW), vib[2:]
    elif vib[0] == EXTENSION_FD:
        measurand, extensions = vif_extension.FD.get(vib[1] & 0x7F, RAW), vib[2:]
    else:
        measurand, extensions = PRIMARY.get(vib[0] & 0x7F, RAW), vib[1:]
    if measurand.kind is not Kind.RAW:
        measurand = combine(measurand, extensions)
    if (
        measurand.kind is Kind.DATE
        and measurand.quantity == "datetime"
        and information.size == 2
        and (extensions or vib[0] == EXTENSION_FD)
    ):
        measurand = Measurand("date", "", Kind.DATE)  # "date of an event", sent without its time
    decode = decoder(measurand, information.form, information.size)
    return RecordHeader(dib_vib, information, measurand, extensions, decode)


def _manufacturer_header(dif: int) -> RecordHeader:
    information = DataInformation("inst", 0, 0, 0, Form.VARIABLE, -1)
    return RecordHeader(bytes((dif,)), information, RAW, b"", decoder(RAW, Form.VARIABLE, -1))


_REST: Final = RecordHeader(
    b"", DataInformation("inst", 0, 0, 0, Form.VARIABLE, -1), RAW, b"", decoder(RAW, Form.VARIABLE, -1)
)
"""What cannot be cut into records; it has no header."""
_MANUFACTURER: Final = {dif: _manufacturer_header(dif) for dif in (MANUFACTURER_DATA, MANUFACTURER_DATA_MORE)}


def parse(data: bytes, *, intact: bool = False) -> tuple[Record, ...]:
    """Cut application data into records.

    Args:
        data: records, fillers, manufacturer data.
        intact: these are the bytes that the meter sent, as an authentication code or a checksum over all of
            them says. Then an end that cannot be cut does not hide what stands before it (see `_trusted`).
            Without that an odd end may as well be a damaged telegram, and nothing of it is used.

    Raises:
        MalformedRecords: they end in the middle of one, or a header is none.
    """
    try:
        return _parse(data)
    except MalformedRecords:
        kept = _trusted(data) if intact else ()
        if not kept:
            raise
        return kept


def _trusted(data: bytes) -> tuple[Record, ...]:
    """Records up to the first that is not understood or cannot be cut; the rest as one raw record.

    A record that was not understood may have another length than its header says, so that everything
    behind it would be read at the wrong place. Where the end shows that something is wrong, trust ends there.
    """
    records: list[Record] = []
    position = 0
    while position < len(data):
        if data[position] == FILLER:
            position += 1
            continue
        found: list[Record] = []
        try:
            after = header_end(data, position)
            if data[position] & 0x0F != 0x0F:
                after = _take(found, describe(data[position:after]), data, after)
        except MalformedRecords:
            break
        if data[position] & 0x0F == 0x0F or any(not record.understood for record in found):
            break
        records += found
        position = after
    if records:
        records.append(Record(_REST, data[position:], None, understood=False))
    return tuple(records)


def _parse(data: bytes) -> tuple[Record, ...]:
    records: list[Record] = []
    position, end = 0, len(data)
    while position < end:
        dif = data[position]
        if dif == FILLER:
            position = end - len(data[position:].lstrip(_FILLERS))
            continue
        if dif & 0x0F == 0x0F:
            if dif not in _MANUFACTURER:
                raise MalformedRecords(f"DIF {dif:02X} is reserved")
            records.append(Record(_MANUFACTURER[dif], data[position + 1 :], None, understood=False))
            break
        if dif == 0 and not any(data[position:]):
            break  # zeros up to the end: padding
        start, position = position, header_end(data, position)
        position = _take(records, describe(data[start:position]), data, position)
    return tuple(records)


def _take(records: list[Record], header: RecordHeader, data: bytes, position: int) -> int:
    """Append the record whose data start here; return where they end."""
    size = header.information.size
    if size < 0:
        size = variable_size(data, position)
    after = position + size
    if after > len(data):
        raise MalformedRecords("records end inside a value")
    if header.information.form is Form.NOTHING:
        return after
    raw = data[position:after]
    try:
        records.append(Record(header, raw, header.decode(raw)))
    except NotUnderstood:
        records.append(Record(header, raw, None, understood=False))
    return after


def parse_with_headers(headers: tuple[bytes, ...], data: bytes) -> tuple[tuple[Record, ...], bytes]:
    """Read values whose headers are known from elsewhere (compact frames).

    Returns:
        The records and the full frame that they stand for.

    Raises:
        MalformedRecords: the values do not fit these headers.
    """
    records: list[Record] = []
    position = 0
    full = bytearray()
    for dib_vib in headers:
        start = position
        position = _take(records, describe(dib_vib), data, position)
        full += dib_vib + data[start:position]
    if data[position:].strip(b"\x2f"):
        raise MalformedRecords("more values than headers")
    return tuple(records), bytes(full)
