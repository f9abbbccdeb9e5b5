"""List entries to measured values: OBIS code, exact value, unit. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Final

from lmn.errors import UnknownMeter
from lmn.model import MeterId, Obis
from lmn.sml.messages import GetListResponse, Message, OpenResponse
from lmn.sml.units import POWER_W, UNITS
from lmn.sml.values import ListEntry
from lmn.wired_values import WiredValue

_OBIS_BYTES: Final = 6
_ACTIVE_POWER_C: Final = (1, 16, 36, 56, 76)
"""Group C of instantaneous active power: import, sum, and each phase."""
_SERVER_ID_BYTES: Final = 10
_SERVER_ID_MARK: Final = 0x0A
_EXACT: Final = 10**24
"""Below it the default precision of `decimal` rounds nothing; scaling is quicker there."""
_STATUS_MASK: Final = 0xFFFFFFFF


class Quirk(Enum):
    """What an owner may say about a meter that does not keep to the standard."""

    DZG_SIGN = "dzg-sign"
    """Some DZG meters send positive power of two or three bytes marked as signed."""
    CRC_KERMIT = "crc-kermit"
    """Some Holley meters use another checksum than the standard's; then it alone counts."""


@dataclass(frozen=True, slots=True)
class PushedList:
    """What one transport frame told: the values of its lists, in order."""

    server_id: bytes | None
    entries: tuple[ListEntry, ...]


def pushed_list(messages: Iterable[Message]) -> PushedList:
    """Collect the values of a file; the id is the first list's, or the opening's if no list names one."""
    server_id: bytes | None = None
    opened: bytes | None = None
    entries: tuple[ListEntry, ...] = ()
    for message in messages:
        match message.body:
            case OpenResponse(server_id=named):
                opened = opened or named
            case GetListResponse() as body:
                server_id = server_id or body.server_id
                entries += body.entries
    return PushedList(server_id or opened, entries)


def obis_text(name: bytes) -> str:
    """Write an entry's name; one that has not six groups in hex."""
    return str(Obis(name)) if len(name) == _OBIS_BYTES else name.hex()


def unit_name(unit: int | None) -> str | None:
    """Return a unit's name, None for none and for one that is not in the table."""
    return None if unit is None else UNITS.get(unit)


def number(entry: ListEntry, quirks: frozenset[Quirk] = frozenset()) -> int | None:
    """Return the transmitted integer, None if the value is none; of a time in a value's place its seconds."""
    value = entry.value
    if type(value) is not int:
        match value:
            case [int(), int(seconds)]:
                return seconds
        return None
    if quirks and Quirk.DZG_SIGN in quirks and entry.sign_suspect and _is_active_power(entry):
        return entry.unsigned_value
    return value


def value_of(entry: ListEntry, quirks: frozenset[Quirk] = frozenset()) -> Decimal | None:
    """Return the exact value: the integer times ten to the scaler; None if the value is no number.

    A scaler that does not fit its one signed byte cannot be meant as sent: no value either.
    """
    integer, scaler = number(entry, quirks), entry.scaler or 0
    return None if integer is None or not -128 <= scaler <= 127 else scaled(integer, scaler)


def scaled(integer: int, scaler: int) -> Decimal:
    """Return integer * 10**scaler, exactly: no context of `decimal` rounds it."""
    if -_EXACT < integer < _EXACT:
        return Decimal(integer).scaleb(scaler)
    return Decimal((int(integer < 0), tuple(map(int, str(abs(integer)))), scaler))


def to_text(value: Decimal | None) -> str | None:
    """Write a value without exponent and without trailing zeros behind the point."""
    if value is None:
        return None
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text.strip("-0") == "" else text


def meter_of(server_id: bytes) -> MeterId:
    """Return the meter that a server id of ten bytes names (DIN 43849 in its binary form, leading 0A).

    The id's block stands in the place of the version, its medium in the place of the device type: 02 for
    electricity (medium 1), the medium itself for others.

    Raises:
        UnknownMeter: another form; then only its owner can say which meter it is.
    """
    if len(server_id) != _SERVER_ID_BYTES or server_id[0] != _SERVER_ID_MARK:
        raise UnknownMeter("a server id that is no device number")
    maker = server_id[2:5]
    count = int.from_bytes(server_id[6:], "big")
    if not (maker.isalpha() and maker.isupper() and maker.isascii()) or count > 99_999_999:
        raise UnknownMeter("a server id that is no device number")
    medium = 0x02 if server_id[1] == 1 else server_id[1]
    return MeterId(maker.decode("ascii"), f"{count:08d}", server_id[5], medium)


def server_id_of(meter: MeterId) -> bytes:
    """Return the server id that `meter_of` reads as this meter.

    Raises:
        ValueError: its identification is no decimal number, or it has no medium.
    """
    medium = 0x01 if meter.device_type == 0x02 else meter.device_type
    head = bytes((_SERVER_ID_MARK, medium)) + meter.manufacturer.encode("ascii") + bytes((meter.version,))
    return head + int(meter.identification).to_bytes(4, "big")


def status_of(entry: ListEntry) -> int:
    """Return the meter's status word, 0 where it sends none: missing means fault-free."""
    status = entry.status
    number = int.from_bytes(status[-4:], "big") if isinstance(status, bytes) else status or 0
    return number & _STATUS_MASK


@lru_cache(maxsize=512)
def _obis(name: bytes) -> Obis:
    return Obis(name)


def to_values(pushed: PushedList, quirks: frozenset[Quirk] = frozenset()) -> tuple[WiredValue, ...]:
    """Return what of a pushed list is a measured value: a number with a known unit and an OBIS code.

    A code that comes twice with different values contradicts itself: then neither counts.
    """
    found: dict[Obis, WiredValue] = {}
    contradicted: set[Obis] = set()
    for entry in pushed.entries:
        unit = UNITS.get(entry.unit) if entry.unit is not None else None
        if not unit or len(entry.name) != _OBIS_BYTES:
            continue
        value = value_of(entry, quirks)
        if value is None:
            continue
        obis = _obis(entry.name)
        one = WiredValue(obis, value, unit, status_of(entry) if entry.status is not None else 0)
        if found.setdefault(obis, one).value != value:
            contradicted.add(obis)
    if not contradicted:
        return tuple(found.values())
    return tuple(one for obis, one in found.items() if obis not in contradicted)


def _is_active_power(entry: ListEntry) -> bool:
    name = entry.name
    return (
        entry.unit == POWER_W
        and len(name) == _OBIS_BYTES
        and name[2] in _ACTIVE_POWER_C
        and name[3:5] == b"\x07\x00"
    )
