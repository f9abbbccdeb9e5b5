"""The two linear extensions of the VIF table, FB and FD. Tables, no code.

Spec: EN 13757-3, "first" (FD) and "second" (FB) linear VIF extension. Non-metric units and entries for
which the command contract has no name are left out: such a record stays raw.
"""

from __future__ import annotations

from typing import Final

from lmn.mbus.vif import TIME_UNITS, Kind, Measurand, Table, durations, scale


def _second() -> Table:
    table: Table = {}
    scale(table, 0x00, 2, "energy", "Wh", 5)  # 0.1 MWh
    scale(table, 0x02, 2, "reactive energy", "varh", 3)
    scale(table, 0x04, 2, "apparent energy", "VAh", 3)
    scale(table, 0x08, 2, "energy", "J", 8)  # 0.1 GJ
    scale(table, 0x10, 2, "volume", "m3", 2)
    scale(table, 0x14, 4, "reactive power", "var", 0)
    scale(table, 0x18, 2, "mass", "kg", 5)  # 100 t
    scale(table, 0x1A, 2, "relative humidity", "%", -1)
    scale(table, 0x28, 2, "power", "W", 5)  # 0.1 MW
    scale(table, 0x2C, 4, "frequency", "Hz", -3)
    scale(table, 0x30, 2, "power", "J/h", 8)  # 0.1 GJ/h
    scale(table, 0x34, 4, "apparent power", "VA", 0)
    return table


def _first() -> Table:
    table: Table = {
        0x08: Measurand("access number", "", Kind.UNSIGNED),
        0x0B: Measurand("parameter set", "", Kind.IDENTITY),
        0x0C: Measurand("model version", "", Kind.IDENTITY),
        0x0D: Measurand("hardware version", "", Kind.IDENTITY),
        0x0E: Measurand("firmware version", "", Kind.IDENTITY),
        0x0F: Measurand("software version", "", Kind.IDENTITY),
        0x10: Measurand("customer location", "", Kind.IDENTITY),
        0x11: Measurand("customer", "", Kind.IDENTITY),
        0x17: Measurand("error flags", "", Kind.UNSIGNED),
        0x1A: Measurand("digital output", "", Kind.UNSIGNED),
        0x1B: Measurand("digital input", "", Kind.UNSIGNED),
        0x28: Measurand("storage interval", "month", Kind.COUNT),
        0x70: Measurand("datetime", "", Kind.DATE),  # of the battery's change
        0x3A: Measurand("dimensionless", "", Kind.NUMBER),
        0x60: Measurand("reset counter", "", Kind.COUNT),
        0x61: Measurand("cumulation counter", "", Kind.COUNT),
        0x62: Measurand("control signal", "", Kind.UNSIGNED),
        0x66: Measurand("param activation state", "", Kind.UNSIGNED),
        0x67: Measurand("special supplier information", "", Kind.IDENTITY),
    }
    durations(table, 0x24, "storage interval", TIME_UNITS)
    durations(table, 0x6C, "battery operating time", ("h", "d", "month"))
    scale(table, 0x40, 16, "voltage", "V", -9)
    scale(table, 0x50, 16, "current", "A", -12)
    return table


FB: Final = _second()
"""Second byte of FB xx, without its extension bit -> measurand."""
FD: Final = _first()
"""Second byte of FD xx, without its extension bit -> measurand."""
