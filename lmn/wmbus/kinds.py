"""Which receivers there are, and how one is made. Their modules are imported only when one is made.

A table, no I/O; `lmn.wmbus.driver` runs what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lmn.wmbus.link import StickCore, StickStatistics

MakeCore = Callable[[StickStatistics, str], StickCore]


class Line(Enum):
    """What a receiver's port is."""

    SERIAL = "serial"
    PIPE = "pipe"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of receiver."""

    name: str
    """As the configuration says it."""
    title: str
    modes: tuple[str, ...]
    """Radio modes that it can be set to; the first is the default."""
    line: Line
    make: MakeCore


def _im871a(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.im871a import MODES, Im871a

    return Im871a(statistics, MODES[mode])


def _iu891a(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.iu891a import Iu891a

    return Iu891a(statistics, mode)


def _amb8465(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.amb8465 import Amb8465

    return Amb8465(statistics, mode)


def _cul(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.cul import Cul

    return Cul(statistics, mode)


def _rc1180(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.rc1180 import Rc1180

    return Rc1180(statistics, mode)


def _rtl_wmbus(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.rtl_wmbus import RtlWmbus

    return RtlWmbus(statistics, mode)


def _rtl_433(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.rtl_433 import Rtl433

    return Rtl433(statistics, mode)


def _replay(statistics: StickStatistics, mode: str) -> StickCore:
    from lmn.wmbus.sticks.replay import Replay

    return Replay(statistics, mode)


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("im871a", "IMST iM871A", ("T1", "C1", "S1"), Line.SERIAL, _im871a),
        Kind("iu891a", "IMST iU891A-XL", ("C1+T1", "T1"), Line.SERIAL, _iu891a),
        Kind("cul", "CUL, nanoCUL", ("T1", "C1", "S1"), Line.SERIAL, _cul),
        Kind("amb8465", "Würth AMB8465-M, Metis-I, Metis-II", ("C1+T1", "T1"), Line.SERIAL, _amb8465),
        Kind("rc1180", "Radiocrafts RC1180-MBUS3", ("as set",), Line.SERIAL, _rc1180),
        Kind("rtl_wmbus", "rtl_wmbus", ("C1+T1",), Line.PIPE, _rtl_wmbus),
        Kind("rtl_433", "rtl_433", ("C1+T1",), Line.PIPE, _rtl_433),
        Kind("replay", "recording", ("recorded",), Line.RECORDING, _replay),
    )
}
"""By name, in the order in which an unknown stick is asked: first those that answer by a checksum."""

PROBE_ORDER: Final = tuple(kind.name for kind in KINDS.values() if kind.line is Line.SERIAL)

NEVER_PROBE: Final = (
    "zigbee", "zwave", "z-wave", "conbee", "deconz", "sonoff", "skyconnect", "gsm", "lte", "modem", "gps",
    "u-blox", "ublox", "printer", "ups", "arduino", "prolific_ir", "smartcard", "rs485", "rs-485", "enocean",
    "knx", "weinzierl", "homematic", "hmip", "rfxtrx", "rfxcom", "z-stick", "aeotec", "gateway",
)  # fmt: skip
"""Parts of names below /dev/serial/by-id of devices that are something else: nothing is ever sent to them."""


USB_OF_STICKS: Final = (
    (0x10C4, 0xEA60),  # CP210x: iM871A
    (0x10C4, 0x87ED),  # CP210x with an energy supplier's own number: iM871A
    (0x0403, 0x6001),  # FT232R: AMB8465, RC1180, nanoCUL
    (0x0403, 0x6010),  # FT2232: two sticks in one
    (0x0403, 0x6015),  # FT231X
    (0x1A86, 0x7523),  # CH340: nanoCUL
    (0x03EB, 0x204B),  # LUFA: CUL
    (0x0483, 0x5740),  # STM32 with a virtual port: iU891A
    (0x2047, 0x0300),  # MSP430 with a virtual port
)
"""USB vendor and product of the bridges that sticks are built with; others use them too. Own knowledge, apart
from the second, which an issue of a public host program names."""


def candidates(
    found: Mapping[str, tuple[int, int] | None], never: tuple[str, ...] = NEVER_PROBE
) -> tuple[str, ...]:
    """Choose which serial devices may be asked whether they are a stick, in a stable order.

    Args:
        found: entries of /dev/serial/by-id with USB vendor and product; None where they are not known.
        never: parts of names, in lower case, that exclude a device.
    """
    return tuple(
        sorted(
            name
            for name, usb in found.items()
            if usb in USB_OF_STICKS and not any(part in name.lower() for part in never)
        )
    )
