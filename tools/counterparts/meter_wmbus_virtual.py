"""Virtual radio meters of four kinds, in every security mode, with faults on demand."""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from lmn.model import MeterId
from tools.counterparts import meter_wmbus_telegram as build
from tools.counterparts.meter_wmbus import DEFAULT_KEY
from tools.counterparts.meter_wmbus_load import MeterKind, Registers

DEFAULT_NUMBERS: Final = {
    MeterKind.ELECTRICITY: "10000001",
    MeterKind.GAS: "10000003",
    MeterKind.WATER: "10000007",
    MeterKind.HEAT: "10000004",
}
START: Final = datetime(2026, 1, 1, 6, 0)  # noqa: DTZ001  # a meter's clock has no zone
LOW_BATTERY, PERMANENT_ERROR = 0x04, 0x08
"""Bits of the status byte."""
_TAMPERED: Final = 0x0001


class Protection(Enum):
    """Security of the telegrams."""

    NONE = "none"
    MODE5 = "mode5"
    MODE7 = "mode7"
    MODE10 = "mode10"
    LINK_CTR = "ell-ctr"


class Fault(Enum):
    """What a virtual meter, or the air around it, can do wrong."""

    COUNTER_RESET = "counter-reset"
    WRONG_KEY = "wrong-key"
    CLOCK_JUMP = "clock-jump"
    TAMPER = "tamper"
    LOW_BATTERY = "low-battery"
    DUPLICATES = "duplicates"
    COLLISIONS = "collisions"
    TRUNCATION = "truncation"


def default_meter(kind: MeterKind) -> MeterId:
    """The address of a virtual meter that was given none."""
    return MeterId("SMG", DEFAULT_NUMBERS[kind], 0x01, kind.device_type)


def type_f(when: datetime) -> bytes:
    """Date and time in four bytes (M-Bus type F)."""
    year = when.year - 2000
    return bytes(
        (when.minute, when.hour, when.day | (year & 0x07) << 5, when.month | (year >> 3 & 0x0F) << 4)
    )


def _bcd(number: int, size: int) -> bytes:
    return bytes.fromhex(f"{number % 10 ** (2 * size):0{2 * size}d}")[::-1]


class VirtualMeter:
    """A register state machine with a radio. The same seed gives the same meter.

    Use: `meter.step(60.0)`, then put each of `meter.on_air()` on the air.
    """

    def __init__(
        self,
        kind: MeterKind = MeterKind.ELECTRICITY,
        protection: Protection = Protection.MODE7,
        *,
        meter: MeterId | None = None,
        key: bytes = DEFAULT_KEY,
        seed: int = 0,
        counter: int = 0,
        faults: Collection[Fault] = (),
        fault_every: int = 3,
        clock: datetime = START,
    ) -> None:
        """Make a meter.

        Args:
            kind: what it measures.
            protection: of its telegrams.
            meter: its address; one of the kind's own if None.
            key: 16 bytes.
            seed: of the load and of what chance decides.
            counter: message counter of the last telegram that was sent.
            faults: what goes wrong. Low battery, tampering and a wrong clock last; the others strike each
                `fault_every`-th telegram, and a counter is reset once.
            fault_every: see above.
            clock: the meter's local time at the start.
        """
        self.kind, self.protection, self.counter = kind, protection, counter
        self.meter = default_meter(kind) if meter is None else meter
        self.clock, self.sent = clock, 0
        self._key, self._faults, self._every = key, frozenset(faults), fault_every
        self._chance = random.Random(f"{kind.value} {seed}")  # noqa: S311  # a load curve, no secret
        self.registers = Registers(kind, self._chance)
        self.registers.start()
        self._access_no = self._chance.randrange(256)

    def step(self, elapsed_s: float = 60.0) -> None:
        """Let time pass: the registers follow the load."""
        self.clock += timedelta(seconds=elapsed_s)
        self.registers.advance(self.clock, elapsed_s)

    @property
    def status(self) -> int:
        """Status byte of the next telegram."""
        status = LOW_BATTERY if Fault.LOW_BATTERY in self._faults else 0
        return status | (PERMANENT_ERROR if Fault.TAMPER in self._faults else 0)

    def records(self) -> bytes:
        """Application data of the present state."""
        registers = self.registers
        shown = self.clock + timedelta(days=400 if Fault.CLOCK_JUMP in self._faults else 0)
        flags = _TAMPERED if Fault.TAMPER in self._faults else 0
        tail = b"\x04\x6d" + type_f(shown) + b"\x02\xfd\x17" + flags.to_bytes(2, "little")
        match self.kind:
            case MeterKind.ELECTRICITY:
                own = (
                    b"\x06\x03"
                    + int(registers.import_wh).to_bytes(6, "little")
                    + b"\x06\x83\x3c"
                    + int(registers.export_wh).to_bytes(6, "little")
                    + b"\x04\x2b"
                    + int(registers.power_w).to_bytes(4, "little", signed=True)
                )
            case MeterKind.GAS:
                own = b"\x0c\x14" + _bcd(int(registers.volume_l) // 10, 4)
            case MeterKind.WATER:
                own = b"\x04\x13" + int(registers.volume_l).to_bytes(4, "little")
                own += b"\x02\x3b" + int(registers.flow_l_per_h).to_bytes(2, "little")
            case MeterKind.HEAT:
                own = b"\x04\x06" + (int(registers.import_wh) // 1000).to_bytes(4, "little")
                own += b"\x0c\x13" + _bcd(int(registers.volume_l), 4)
                own += b"\x04\x2b" + int(registers.power_w).to_bytes(4, "little")
                own += b"\x02\x59" + (6500).to_bytes(2, "little") + b"\x02\x5d" + (4500).to_bytes(2, "little")
        return own + tail

    def telegram(self) -> bytes:
        """The next telegram: L field in front, no link CRCs."""
        self.sent += 1
        self.counter += 1
        if Fault.COUNTER_RESET in self._faults and self.sent == self._every:
            self.counter = 1
        self._access_no = self._access_no + 1 & 0xFF
        key = bytes(byte ^ 0x5A for byte in self._key) if self._strikes(Fault.WRONG_KEY) else self._key
        sender = build.Sender(self.meter, self._access_no, self.status)
        match self.protection:
            case Protection.NONE:
                return build.plain(sender, self.records())
            case Protection.MODE5:
                return build.mode5(sender, key, self.records())
            case Protection.MODE7:
                return build.mode7(sender, key, self.counter, self.records())
            case Protection.MODE10:
                return build.mode10(sender, key, self.counter, self.records())
            case Protection.LINK_CTR:
                return build.link_ctr(sender, key, self.counter, b"\x78" + self.records())

    def on_air(self) -> list[bytes]:
        """What a receiver without link CRCs gets of the next telegram: one, two, or damaged ones."""
        telegram = self.telegram()
        if self._strikes(Fault.COLLISIONS):
            damaged = bytearray(telegram)
            for place in self._chance.sample(range(10, len(damaged)), 8):
                damaged[place] ^= self._chance.randrange(1, 256)
            telegram = bytes(damaged)
        if self._strikes(Fault.TRUNCATION):
            short = telegram[: self._chance.randrange(len(telegram) // 2, len(telegram) - 1)]
            telegram = bytes((len(short) - 1,)) + short[1:]
        return [telegram, telegram] if self._strikes(Fault.DUPLICATES) else [telegram]

    def _strikes(self, fault: Fault) -> bool:
        return fault in self._faults and self.sent % self._every == 0
