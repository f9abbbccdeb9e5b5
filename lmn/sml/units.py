"""Unit codes of DLMS as SML sends them. A table; own knowledge of the published list (docs/references.md)."""

from __future__ import annotations

from typing import Final

UNITS: Final[dict[int, str]] = {
    1: "a", 2: "month", 3: "week", 4: "d", 5: "h", 6: "min", 7: "s", 8: "°", 9: "C", 11: "m", 12: "m/s",
    13: "m3", 14: "m3", 15: "m3/h", 16: "m3/h", 17: "m3/d", 18: "m3/d", 19: "l", 20: "kg", 21: "N", 22: "Nm",
    23: "Pa", 24: "bar", 25: "J", 26: "J/h", 27: "W", 28: "VA", 29: "var", 30: "Wh", 31: "VAh", 32: "varh",
    33: "A", 34: "As", 35: "V", 36: "V/m", 37: "F", 38: "Ohm", 40: "Wb", 41: "T", 42: "A/m", 43: "H",
    44: "Hz", 45: "1/Wh", 46: "1/varh", 47: "1/VAh", 48: "V2h", 49: "A2h", 50: "kg/s", 51: "S", 52: "K",
    53: "1/V2h", 54: "1/A2h", 55: "1/m3", 56: "%", 57: "Ah", 60: "Wh/m3", 61: "J/m3", 62: "Mol%", 63: "g/m3",
    64: "Pa s", 65: "J/kg", 70: "dBm", 255: "",
}  # fmt: skip
"""Spelled as everywhere in this project: "C" is a degree Celsius, a coulomb is "As"; 255 counts something."""
ENERGY_WH: Final = 30
POWER_W: Final = 27
