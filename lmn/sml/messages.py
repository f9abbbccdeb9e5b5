"""SML messages, both ways: the frame of a message, and reading each kind of body. No I/O.

Each message is a list of transaction, group, what to do on an error, body (a choice and its content), a
CRC-16/X-25 over everything before it, and an end mark.
Spec: SML 1.04; known here through public captures and headers (docs/references.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lmn.errors import ChecksumMismatch, LengthMismatch, LmnError, MalformedRecords
from lmn.sml.bodies import (
    Attention,
    Body,
    CloseRequest,
    CloseResponse,
    GetListRequest,
    GetListResponse,
    GetProcParameterRequest,
    GetProcParameterResponse,
    GetProfilePackRequest,
    GetProfilePackResponse,
    OpenRequest,
    OpenResponse,
    OtherBody,
    ProfileColumn,
    ProfilePeriod,
    SetProcParameterRequest,
)
from lmn.sml.codec import END_OF_MESSAGE, Kind, decode, header, octets, sequence, unsigned
from lmn.sml.transport import Checksum, contents, to_frame, x25
from lmn.sml.values import (
    ListEntry,
    Parameter,
    SmlTime,
    any_time,
    is_list,
    is_number,
    is_octets,
    read_entries,
    read_tree,
    to_time,
)

__all__ = [
    "Attention",
    "Body",
    "CloseRequest",
    "CloseResponse",
    "GetListRequest",
    "GetListResponse",
    "GetProcParameterRequest",
    "GetProcParameterResponse",
    "GetProfilePackRequest",
    "GetProfilePackResponse",
    "Message",
    "OpenRequest",
    "OpenResponse",
    "OtherBody",
    "ProfileColumn",
    "ProfilePeriod",
    "SetProcParameterRequest",
    "read_frame",
    "read_message",
    "read_messages",
    "to_transport",
]

MAX_MESSAGES: Final = 256
_MESSAGE_FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a file."""

    body: Body
    transaction: bytes = b"\x00"
    group: int = 0
    on_error: int = 0
    """What the receiver does with the rest of the file if this fails: 0 goes on, 1 and 2 finish group or
    order, FF stops."""

    def to_bytes(self) -> bytes:
        """Encode, with checksum and end mark."""
        body = self.body
        choice = body.choice if isinstance(body, OtherBody) else _CHOICES[type(body)]
        counted = sequence(
            octets(self.transaction), unsigned(self.group, 1), unsigned(self.on_error, 1),
            sequence(unsigned(choice, 2), body.to_bytes()), b"", b"",
        )  # fmt: skip
        crc = int.from_bytes(x25(counted), "big")
        return counted + unsigned(crc, 2) + END_OF_MESSAGE


class _Fields:
    """Reads the content of one body, field by field."""

    def __init__(self, data: bytes, place: int, *counts: int) -> None:
        kind, count, self.place = header(data, place)
        if kind != Kind.LIST or count not in counts:
            raise MalformedRecords("a message body of another shape")
        self.data = data

    def octets(self) -> bytes | None:
        field, self.place = decode(self.data, self.place)
        return is_octets(field)

    def name(self) -> bytes:
        return self.octets() or b""

    def number(self) -> int | None:
        field, self.place = decode(self.data, self.place)
        return is_number(field)

    def time(self) -> SmlTime | None:
        field, self.place = decode(self.data, self.place)
        return any_time(field)

    def flag(self) -> bool | None:
        field, self.place = decode(self.data, self.place)
        if field is None or isinstance(field, bool):
            return field
        raise MalformedRecords("a boolean is expected")

    def names(self) -> tuple[bytes, ...]:
        field, self.place = decode(self.data, self.place)
        if field is None:
            return ()
        return tuple(is_octets(each) or b"" for each in is_list(field))

    def entries(self) -> tuple[ListEntry, ...]:
        found, self.place = read_entries(self.data, self.place)
        return found

    def tree(self) -> Parameter | None:
        found, self.place = read_tree(self.data, self.place)
        return found

    def columns(self) -> tuple[ProfileColumn, ...]:
        field, self.place = decode(self.data, self.place)
        found = []
        for column in is_list(field if field is not None else []):
            name, unit, scaler = is_list(column, 3)
            found.append(ProfileColumn(is_octets(name) or b"", is_number(unit) or 0, is_number(scaler) or 0))
        return tuple(found)

    def periods(self) -> tuple[ProfilePeriod, ...]:
        field, self.place = decode(self.data, self.place)
        found = []
        for row in is_list(field if field is not None else []):
            time, status, values, signature = is_list(row, 4)
            pairs: list[tuple[int | bytes | None, bytes | None]] = []
            for pair in is_list(values if values is not None else []):
                value, mark = is_list(pair, 2)
                if isinstance(value, list | bool):
                    raise MalformedRecords("a value of a load profile is a number")
                pairs.append((value, is_octets(mark)))
            found.append(
                ProfilePeriod(to_time(time), is_number(status) or 0, tuple(pairs), is_octets(signature))
            )
        return tuple(found)


def _open_request(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 7)
    page, client, file_id, server = f.octets(), f.name(), f.name(), f.octets()
    return OpenRequest(client, file_id, server, f.octets(), f.octets(), f.number(), page), f.place


def _open_response(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 6)
    page, client, file_id, server = f.octets(), f.octets(), f.octets(), f.octets()
    return OpenResponse(file_id, server, f.time(), client, f.number(), page), f.place


def _close_request(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 1)
    return CloseRequest(f.octets()), f.place


def _close_response(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 1)
    return CloseResponse(f.octets()), f.place


def _list_request(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 5)
    return GetListRequest(f.name(), f.octets(), f.octets(), f.octets(), f.octets()), f.place


def _list_response(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 7)
    client, server, name, sensor, entries = f.octets(), f.octets(), f.octets(), f.time(), f.entries()
    signature, gateway = f.octets(), f.time()
    return GetListResponse(server, entries, name, sensor, gateway, client, signature), f.place


def _parameter_request(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 5)
    server, user, password = f.octets(), f.octets(), f.octets()
    return GetProcParameterRequest(f.names(), server, user, password, f.octets()), f.place


def _parameter_response(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 3)
    return GetProcParameterResponse(f.octets(), f.names(), f.tree()), f.place


def _set_parameter(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 5)
    server, user, password = f.octets(), f.octets(), f.octets()
    return SetProcParameterRequest(f.names(), f.tree(), server, user, password), f.place


def _profile_request(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 9)
    server, user, password, raw = f.octets(), f.octets(), f.octets(), f.flag()
    begin, end, path, objects, details = f.time(), f.time(), f.names(), f.names(), f.tree()
    request = GetProfilePackRequest(path, begin, end, objects, raw, server, user, password, details)
    return request, f.place


def _profile_response(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 8)
    server, actual, period, path = f.octets(), f.time(), f.number() or 0, f.names()
    columns, periods, raw, signature = f.columns(), f.periods(), f.octets(), f.octets()
    return GetProfilePackResponse(server, actual, period, path, columns, periods, raw, signature), f.place


def _attention(data: bytes, place: int) -> tuple[Body, int]:
    f = _Fields(data, place, 4)
    return Attention(f.octets(), f.name(), f.octets(), f.tree()), f.place


_CHOICES: Final[dict[type, int]] = {
    OpenRequest: 0x0100, OpenResponse: 0x0101, CloseRequest: 0x0200, CloseResponse: 0x0201,
    GetProfilePackRequest: 0x0300, GetProfilePackResponse: 0x0301,
    GetProcParameterRequest: 0x0500, GetProcParameterResponse: 0x0501, SetProcParameterRequest: 0x0600,
    GetListRequest: 0x0700, GetListResponse: 0x0701, Attention: 0xFF01,
}  # fmt: skip
_READERS: Final[dict[int, Callable[[bytes, int], tuple[Body, int]]]] = {
    0x0100: _open_request, 0x0101: _open_response, 0x0200: _close_request, 0x0201: _close_response,
    0x0300: _profile_request, 0x0301: _profile_response, 0x0500: _parameter_request,
    0x0501: _parameter_response, 0x0600: _set_parameter, 0x0700: _list_request, 0x0701: _list_response,
    0xFF01: _attention,
}  # fmt: skip


_FORMALITIES: Final = (0x0101, 0x0201)
"""Open and close of what is pushed: a meter that shapes them in its own way still has values to tell."""


def read_message(data: bytes, place: int = 0, checksum: Checksum = x25) -> tuple[Message, int]:
    """Decode the message at `place`; return it and the place behind it.

    Raises:
        ChecksumMismatch: its checksum is wrong.
        MalformedRecords: it has another shape.
    """
    kind, count, inner = header(data, place)
    if kind != Kind.LIST or count != _MESSAGE_FIELDS:
        raise MalformedRecords("a message has six fields")
    transaction, inner = decode(data, inner)
    group, inner = decode(data, inner)
    on_error, inner = decode(data, inner)
    kind, count, choice_at = header(data, inner)
    if kind != Kind.LIST or count != 2:
        raise MalformedRecords("a body is a choice and its content")
    choice, content = decode(data, choice_at)
    number = is_number(choice) or 0
    body, end = _read_body(data, number, content)
    crc, behind = decode(data, end)
    if crc != int.from_bytes(checksum(data[place:end]), "big"):
        raise ChecksumMismatch("CRC of a message")
    if data[behind : behind + 1] != END_OF_MESSAGE:
        raise MalformedRecords("a message without its end mark")
    message = Message(body, is_octets(transaction) or b"", is_number(group) or 0, is_number(on_error) or 0)
    return message, behind + 1


def _read_body(data: bytes, choice: int, place: int) -> tuple[Body, int]:
    read = _READERS.get(choice)
    if read is not None:
        try:
            return read(data, place)
        except MalformedRecords:
            if choice not in _FORMALITIES:
                raise
    _, end = decode(data, place)
    return OtherBody(choice, data[place:end]), end


def read_messages(data: bytes, checksum: Checksum = x25) -> tuple[Message, ...]:
    """Decode messages one behind the other; zeros between and behind them are filling.

    Raises:
        LmnError: one of them is damaged: then none of them counts.
    """
    messages: list[Message] = []
    place = 0
    while place < len(data):
        if data[place] == 0:
            place += 1
            continue
        if len(messages) >= MAX_MESSAGES:
            raise LengthMismatch("more messages than a frame may have")
        message, place = read_message(data, place, checksum)
        messages.append(message)
    return tuple(messages)


def read_frame(frame: bytes, checksum: Checksum = x25) -> tuple[Message, ...]:
    """Decode the messages of a transport frame that `checksum` found intact.

    Raises:
        LmnError: one of them is damaged: then none of them counts.
    """
    readings = contents(frame)
    for reading in readings[1:]:
        try:
            return read_messages(reading, checksum)
        except LmnError:
            break
    return read_messages(readings[0], checksum)


def to_transport(messages: Sequence[Message]) -> bytes:
    """Encode messages and wrap them into a transport frame."""
    return to_frame(b"".join(message.to_bytes() for message in messages))
