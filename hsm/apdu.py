"""Command and response APDUs, short and extended (ISO/IEC 7816-3:2006, 12.1). Never does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from hsm.errors import MalformedCommand, MalformedResponse

MAX_SHORT_DATA = 255
MAX_SHORT_LE = 256
MAX_DATA = 65535
MAX_LE = 65536


class Sw(IntEnum):
    """Status words used here (ISO/IEC 7816-4; TR-03110-3 v2.2, B.14)."""

    OK = 0x9000
    END_OF_FILE = 0x6282
    DEACTIVATED = 0x6283
    TERMINATED = 0x6285
    AUTHENTICATION_FAILED = 0x6300
    COUNTER = 0x63C0
    WRITE_FAILED = 0x6581
    LENGTH = 0x6700
    CHANNEL = 0x6881
    SM_UNSUPPORTED = 0x6882
    CHAIN_EXPECTED = 0x6883
    CHAINING = 0x6884
    SECURITY_STATUS = 0x6982
    BLOCKED = 0x6983
    UNUSABLE = 0x6984
    CONDITIONS = 0x6985
    NO_FILE_SELECTED = 0x6986
    SM_MISSING = 0x6987
    SM_WRONG = 0x6988
    DATA = 0x6A80
    NO_FILE = 0x6A82
    MEMORY = 0x6A84
    P1P2 = 0x6A86
    REFERENCE = 0x6A88
    EXISTS = 0x6A89
    FILE_EXISTS = 0x6A8A
    OFFSET = 0x6B00
    INS = 0x6D00
    CLA = 0x6E00
    INTERNAL = 0x6F00


@dataclass(frozen=True, slots=True)
class CommandApdu:
    """One command; `le` is the number of bytes asked for (1..65536), None for none."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    le: int | None = None

    @property
    def header(self) -> bytes:
        """CLA INS P1 P2."""
        return bytes((self.cla, self.ins, self.p1, self.p2))

    def to_bytes(self) -> bytes:
        """Encode in the short form where it fits, else in the extended one."""
        data, le = self.data, self.le
        count = len(data)
        header = bytes((self.cla, self.ins, self.p1, self.p2))
        if count <= MAX_SHORT_DATA and (le is None or le <= MAX_SHORT_LE):
            body = bytes((count,)) + data if count else b""
            return header + body if le is None else header + body + bytes((le & 0xFF,))
        if count > MAX_DATA or (le is not None and not 1 <= le <= MAX_LE):
            raise ValueError("command too long for an APDU")
        body = b"\x00" + count.to_bytes(2, "big") + data if count else b"\x00"
        return header + body + (b"" if le is None else (le & 0xFFFF).to_bytes(2, "big"))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Decode any of the seven cases.

        Raises:
            MalformedCommand: lengths do not agree.
        """
        size = len(raw)
        if size < 4:
            raise MalformedCommand("shorter than a header")
        cla, ins, p1, p2 = raw[:4]
        if size == 4:
            return cls(cla, ins, p1, p2)
        if size == 5:
            return cls(cla, ins, p1, p2, b"", raw[4] or MAX_SHORT_LE)
        if first := raw[4]:
            data, rest = raw[5 : 5 + first], raw[5 + first :]
            if len(data) != first or len(rest) > 1:
                raise MalformedCommand("Lc does not agree with the length")
            return cls(cla, ins, p1, p2, data, (rest[0] or MAX_SHORT_LE) if rest else None)
        if size < 7:
            raise MalformedCommand("cut extended length field")
        second = int.from_bytes(raw[5:7], "big")
        if size == 7:
            return cls(cla, ins, p1, p2, b"", second or MAX_LE)
        data, rest = raw[7 : 7 + second], raw[7 + second :]
        if not second or len(data) != second or len(rest) not in (0, 2):
            raise MalformedCommand("extended Lc does not agree with the length")
        return cls(cla, ins, p1, p2, data, (int.from_bytes(rest, "big") or MAX_LE) if rest else None)


@dataclass(frozen=True, slots=True)
class ResponseApdu:
    """One response: data and status word."""

    data: bytes
    sw: int

    def to_bytes(self) -> bytes:
        """Data, then SW1 SW2."""
        return self.data + self.sw.to_bytes(2, "big")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Split a response.

        Raises:
            MalformedResponse: shorter than a status word, longer than any APDU, or SW1 not 6x or 9x.
        """
        if not 2 <= len(raw) <= MAX_LE + 2:
            raise MalformedResponse(f"a response of {len(raw)} bytes")
        sw = raw[-2] << 8 | raw[-1]
        if sw >> 12 not in (6, 9) or sw >> 8 == 0x60:
            raise MalformedResponse("no status word at the end of the response")
        return cls(raw[:-2], sw)
