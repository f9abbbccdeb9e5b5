"""Compact frames: values whose headers the receiver knows from elsewhere. No I/O, no clock.

A compact frame carries the signature of its headers and the checksum of the full frame that it stands
for. Both are CRC-16/EN-13757, sent low byte first; a frame whose checksum does not match is refused, so
that a wrong guess about the headers cannot become a wrong number.
Source: docs/lmn.md 1.1 and 1.4 (EN 13757-3, annex on compact frames; layout as public decoders have it).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from lmn.crc import crc16_en13757
from lmn.errors import ChecksumMismatch, LengthMismatch, SecurityUnsupported
from lmn.mbus.dif import FILLER
from lmn.mbus.known_formats import KNOWN_FORMATS
from lmn.mbus.records import Record, header_end, parse_with_headers

MAX_FORMATS: Final = 256


class FormatCache:
    """The header lists seen so far, by signature; the one used longest ago gives way.

    Two lists can be made to have one signature, and even one checksum of a full frame. A gateway has a cache
    for each meter, so that nobody who speaks for one meter has a say in what the values of another mean.
    """

    def __init__(self) -> None:
        self._formats: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()
        self._known: dict[tuple[bytes, ...], int] = {}

    def learn(self, headers: tuple[bytes, ...]) -> None:
        """Remember the headers of a full or format frame, in the order in which they were sent."""
        if not headers or headers in self._known:
            return
        signature = crc16_en13757(b"".join(headers))
        if (previous := self._formats.pop(signature, None)) is not None:
            del self._known[previous]
        self._formats[signature] = headers
        self._known[headers] = signature
        if len(self._formats) > MAX_FORMATS:
            _, oldest = self._formats.popitem(last=False)
            del self._known[oldest]

    def learn_records(self, records: tuple[Record, ...]) -> None:
        """Remember the headers of a decoded full frame."""
        headers = tuple([record.header.dib_vib for record in records])
        if headers and not headers[-1]:
            return  # its end could not be cut: no list of headers
        if headers not in self._known:
            self.learn(tuple(dib_vib for dib_vib in headers if dib_vib[0] & 0x0F != 0x0F))

    def learn_format_frame(self, data: bytes) -> None:
        """Remember a format frame: length, signature, headers.

        Raises:
            LengthMismatch: its length byte does not match.
            ChecksumMismatch: its signature does not match.
            MalformedRecords: the headers cannot be cut.
        """
        if len(data) < 3 or data[0] != len(data) - 1:
            raise LengthMismatch("format frame: length byte does not match")
        listed = data[3:]
        headers, position = [], 0
        while position < len(listed):
            if listed[position] == FILLER:
                position += 1
                continue
            start, position = position, header_end(listed, position)
            headers.append(listed[start:position])
        if crc16_en13757(b"".join(headers)) != int.from_bytes(data[1:3], "little"):
            raise ChecksumMismatch("format frame: signature does not match")
        self.learn(tuple(headers))

    def expand(self, data: bytes) -> tuple[Record, ...]:
        """Decode a compact frame: signature, full frame's checksum, values.

        Raises:
            LengthMismatch: it ends too early.
            SecurityUnsupported: no full frame with these headers was seen yet, and no table knows them.
            ChecksumMismatch: the values are not those of the full frame.
            MalformedRecords: the values do not fit the headers.
        """
        if len(data) < 4:
            raise LengthMismatch("compact frame ends too early")
        signature = int.from_bytes(data[:2], "little")
        headers = KNOWN_FORMATS.get(signature)
        if headers is None and (headers := self._formats.get(signature)) is not None:
            self._formats.move_to_end(signature)
        if headers is None:
            raise SecurityUnsupported(
                f"compact frame of unknown format {signature:04X}: no full frame seen yet"
            )
        records, full = parse_with_headers(headers, data[4:])
        if crc16_en13757(full) != int.from_bytes(data[2:4], "little"):
            raise ChecksumMismatch("compact frame: checksum of the full frame does not match")
        return records
