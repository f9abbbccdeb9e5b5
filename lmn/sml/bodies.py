"""Bodies of SML messages as values: what each consists of, and how it is encoded. No I/O.

Spec: SML 1.04; known here through public captures and headers (docs/references.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lmn.sml.codec import ABSENT, octets, sequence, unsigned
from lmn.sml.values import ListEntry, Parameter, SmlTime


def _time(value: SmlTime | None) -> bytes:
    return ABSENT if value is None else value.to_bytes()


def _path(names: Sequence[bytes]) -> bytes:
    return sequence(*(octets(name) for name in names))


def _tree(tree: Parameter | None) -> bytes:
    return ABSENT if tree is None else tree.to_bytes()


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Begins a file of requests."""

    client_id: bytes
    file_id: bytes
    server_id: bytes | None = None
    username: bytes | None = None
    password: bytes | None = None
    version: int | None = None
    code_page: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(
            octets(self.code_page), octets(self.client_id), octets(self.file_id), octets(self.server_id),
            octets(self.username), octets(self.password), unsigned(self.version, 1),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpenResponse:
    """Begins a file of answers, or of what is pushed."""

    file_id: bytes | None
    server_id: bytes | None
    reference_time: SmlTime | None = None
    client_id: bytes | None = None
    version: int | None = None
    code_page: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(
            octets(self.code_page), octets(self.client_id), octets(self.file_id), octets(self.server_id),
            _time(self.reference_time), unsigned(self.version, 1),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """Ends a file of requests."""

    signature: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(octets(self.signature))


@dataclass(frozen=True, slots=True)
class CloseResponse:
    """Ends a file of answers."""

    signature: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(octets(self.signature))


@dataclass(frozen=True, slots=True)
class GetListRequest:
    """Asks for a list of values."""

    client_id: bytes
    server_id: bytes | None = None
    username: bytes | None = None
    password: bytes | None = None
    list_name: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(
            octets(self.client_id), octets(self.server_id), octets(self.username), octets(self.password),
            octets(self.list_name),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GetListResponse:
    """A list of values; what an infrared head hears."""

    server_id: bytes | None
    entries: tuple[ListEntry, ...]
    list_name: bytes | None = None
    sensor_time: SmlTime | None = None
    gateway_time: SmlTime | None = None
    client_id: bytes | None = None
    signature: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(
            octets(self.client_id), octets(self.server_id), octets(self.list_name), _time(self.sensor_time),
            sequence(*(entry.to_bytes() for entry in self.entries)), octets(self.signature),
            _time(self.gateway_time),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GetProcParameterRequest:
    """Asks for one parameter."""

    path: tuple[bytes, ...]
    server_id: bytes | None = None
    username: bytes | None = None
    password: bytes | None = None
    attribute: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(
            octets(self.server_id), octets(self.username), octets(self.password), _path(self.path),
            octets(self.attribute),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GetProcParameterResponse:
    """One parameter."""

    server_id: bytes | None
    path: tuple[bytes, ...]
    tree: Parameter | None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(octets(self.server_id), _path(self.path), _tree(self.tree))


@dataclass(frozen=True, slots=True)
class SetProcParameterRequest:
    """Sets one parameter; answered by an attention."""

    path: tuple[bytes, ...]
    tree: Parameter | None
    server_id: bytes | None = None
    username: bytes | None = None
    password: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(
            octets(self.server_id), octets(self.username), octets(self.password), _path(self.path),
            _tree(self.tree),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GetProfilePackRequest:
    """Asks for a load profile."""

    path: tuple[bytes, ...]
    begin: SmlTime | None = None
    end: SmlTime | None = None
    objects: tuple[bytes, ...] = ()
    with_raw_data: bool | None = None
    server_id: bytes | None = None
    username: bytes | None = None
    password: bytes | None = None
    details: Parameter | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        raw = ABSENT if self.with_raw_data is None else bytes((0x42, int(self.with_raw_data)))
        return sequence(
            octets(self.server_id), octets(self.username), octets(self.password), raw, _time(self.begin),
            _time(self.end), _path(self.path), _path(self.objects) if self.objects else ABSENT,
            _tree(self.details),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProfileColumn:
    """What one column of a load profile counts."""

    name: bytes
    unit: int
    scaler: int


@dataclass(frozen=True, slots=True)
class ProfilePeriod:
    """One row of a load profile: (value, signature) of each column."""

    time: SmlTime | None
    status: int
    values: tuple[tuple[int | bytes | None, bytes | None], ...]
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class GetProfilePackResponse:
    """A load profile."""

    server_id: bytes | None
    actual_time: SmlTime | None
    period_s: int
    path: tuple[bytes, ...]
    columns: tuple[ProfileColumn, ...]
    periods: tuple[ProfilePeriod, ...]
    raw_data: bytes | None = None
    signature: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode; values as unsigned integers of eight bytes."""
        columns = [
            sequence(octets(each.name), unsigned(each.unit, 1), bytes((0x52, each.scaler & 0xFF)))
            for each in self.columns
        ]
        periods = [
            sequence(
                _time(row.time), unsigned(row.status, 8),
                sequence(*(
                    sequence(octets(value) if isinstance(value, bytes) else unsigned(value, 8), octets(mark))
                    for value, mark in row.values
                )),
                octets(row.signature),
            )
            for row in self.periods
        ]  # fmt: skip
        return sequence(
            octets(self.server_id), _time(self.actual_time), unsigned(self.period_s, 4), _path(self.path),
            sequence(*columns), sequence(*periods), octets(self.raw_data), octets(self.signature),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attention:
    """What a meter says instead of an answer: an error, or that something was done."""

    server_id: bytes | None
    number: bytes
    text: bytes | None = None
    details: Parameter | None = None

    def to_bytes(self) -> bytes:
        """Encode."""
        return sequence(octets(self.server_id), octets(self.number), octets(self.text), _tree(self.details))


@dataclass(frozen=True, slots=True)
class OtherBody:
    """A body that is carried and not understood (GetProfileList, COSEM services)."""

    choice: int
    encoded: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return self.encoded


Body: TypeAlias = (
    OpenRequest | OpenResponse | CloseRequest | CloseResponse | GetListRequest | GetListResponse
    | GetProcParameterRequest | GetProcParameterResponse | SetProcParameterRequest | GetProfilePackRequest
    | GetProfilePackResponse | Attention | OtherBody
)  # fmt: skip
