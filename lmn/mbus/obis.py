"""Records to readings: which OBIS code a record of which kind of meter has. A table with its provenance.

OMS Vol. 2 Annex A, the normative mapping, could not be read for this edition; the rows come from public
examples of OBIS codes (IEC 62056-61 media groups; BSI TR-03109-1 use cases name 1-0:1.8.0 and 1-0:2.8.0).
The same table with the provenance of each row: docs/lmn.md 1.10.
A record without a row is no reading: it never feeds billing.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final

from lmn.mbus.decoder import Telegram
from lmn.mbus.records import Record
from lmn.model import Obis, Reading

_FORWARD, _BACKWARD = 0x3B, 0x3C
_DIRECTIONS: Final = {b"": "", bytes((_FORWARD,)): "+", bytes((_BACKWARD,)): "-"}
"""Combinable VIFEs that leave a register what it is; any other makes it something else."""

# Device types: EN 13757-3 (02 electricity, 03 gas, 04 and 0C heat, 06, 07, 15 and 16 water, 08 heat cost).
_ELECTRICITY: Final = (0x02,)
_GAS: Final = (0x03,)
_HEAT: Final = (0x04, 0x0C)
_COOLING: Final = (0x0A, 0x0B)
_HEAT_COST: Final = (0x08,)
_COLD_WATER: Final = (0x07, 0x16)
_WARM_WATER: Final = (0x06, 0x15)


def _rows() -> dict[tuple[int, str, str], tuple[int, int, int]]:
    """(device type, quantity, direction) -> OBIS groups A, C, D; B is 0, E the tariff, F 255."""
    rows: dict[tuple[int, str, str], tuple[int, int, int]] = {}

    def add(types: tuple[int, ...], quantity: str, directions: str, groups: tuple[int, int, int]) -> None:
        for device_type in types:
            for direction in directions or ("",):
                rows[device_type, quantity, direction.strip()] = groups

    # IEC 62056-61, group A 1: C 1 is active import, C 2 active export; D 8 time integral, D 7 instant.
    add(_ELECTRICITY, "energy", " +", (1, 1, 8))
    add(_ELECTRICITY, "energy", "-", (1, 2, 8))
    add(_ELECTRICITY, "power", " +", (1, 1, 7))
    add(_ELECTRICITY, "power", "-", (1, 2, 7))
    # Group A 7: volume at measuring conditions, as public OMS gas examples show it.
    add(_GAS, "volume", " +", (7, 3, 0))
    # Group A 6 and 5: energy and volume of heat and cooling.
    add(_HEAT, "energy", " +", (6, 1, 0))
    add(_HEAT, "volume", " +", (6, 2, 0))
    add(_COOLING, "energy", " +", (5, 1, 0))
    add(_COOLING, "volume", " +", (5, 2, 0))
    # Group A 4: heat cost allocator, unrated units.
    add(_HEAT_COST, "hca units", "", (4, 1, 0))
    # Group A 8 and 9: cold and warm water volume.
    add(_COLD_WATER, "volume", " +", (8, 1, 0))
    add(_WARM_WATER, "volume", " +", (9, 1, 0))
    return rows


_ROWS: Final = _rows()
_OBIS: Final[dict[tuple[int, int, int, int], Obis]] = {}


def obis_of(device_type: int, record: Record) -> Obis | None:
    """The code under which a record is a reading, None if it is none.

    Only instantaneous values of the current period (storage 0) of the meter itself (subunit 0) count.
    """
    header = record.header
    information = header.information
    if not record.understood or information.function != "inst" or information.storage or information.subunit:
        return None
    direction = _DIRECTIONS.get(header.extensions)
    if direction is None:
        return None
    groups = _ROWS.get((device_type, record.quantity, direction))
    if groups is None or information.tariff > 63 or header.measurand.unit == "J/h":
        return None
    a, c, d = groups
    key = (a, c, d, information.tariff)
    if (obis := _OBIS.get(key)) is None:
        obis = _OBIS[key] = Obis(bytes((a, 0, c, d, information.tariff, 255)))
    return obis


def to_readings(telegram: Telegram, received_utc: datetime) -> list[Reading]:
    """Readings of a checked telegram, in the order in which they were sent.

    A meter that sends one code twice in one telegram contradicts itself unless both values are equal: then
    neither is a reading.

    Args:
        telegram: passed every check.
        received_utc: when its first byte came, aware.
    """
    found: dict[Obis, Reading] = {}
    contradicted: set[Obis] = set()
    for record in telegram.records:
        obis = obis_of(telegram.meter.device_type, record)
        if obis is None or not isinstance(record.value, Decimal | None):
            continue
        reading = Reading(telegram.meter, obis, record.value, record.unit, received_utc, telegram.status or 0)
        if found.setdefault(obis, reading).value != reading.value:
            contradicted.add(obis)
    return [reading for obis, reading in found.items() if obis not in contradicted]
