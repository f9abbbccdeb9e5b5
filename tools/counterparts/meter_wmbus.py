"""A virtual electricity meter with a radio: rising registers, a seeded load, telegrams in security mode 7."""

from __future__ import annotations

import random
from typing import Final

from lmn.model import MeterId
from tools.counterparts.meter_wmbus_telegram import Sender, mode7

DEFAULT_METER: Final = MeterId("SMG", "10000001", 0x01, 0x02)
DEFAULT_KEY: Final = bytes(range(16))
"""Of the example profile; a real meter has one of its own."""

_MAX_STEP_WH: Final = 25


class ElectricityMeter:
    """Counts what it draws and feeds in; each telegram has the next message counter."""

    def __init__(
        self,
        meter: MeterId = DEFAULT_METER,
        key: bytes = DEFAULT_KEY,
        *,
        seed: int = 0,
        counter: int = 0,
        import_wh: int | None = None,
        export_wh: int = 0,
    ) -> None:
        """Make a meter; the same seed gives the same load.

        Args:
            meter: its address.
            key: master key, 16 bytes.
            seed: of the load and, if not given, of the first register value.
            counter: message counter of the last telegram that was sent.
            import_wh: active energy drawn so far.
            export_wh: active energy fed in so far.
        """
        self.meter, self.counter = meter, counter
        self._key = key
        self._random = random.Random(seed)  # noqa: S311  # a load curve, no secret
        first = self._random.randrange(1_000_000, 9_000_000)
        self.import_wh = first if import_wh is None else import_wh
        self.export_wh = export_wh
        self.status = 0
        self._access_no = self._random.randrange(256)

    def step(self, import_wh: int | None = None, export_wh: int = 0) -> None:
        """Let time pass: the registers rise, by the seeded load if no amount is given."""
        if import_wh is None:
            import_wh = self._random.randrange(1, _MAX_STEP_WH)
        if import_wh < 0 or export_wh < 0:
            raise ValueError("a register never falls")
        self.import_wh += import_wh
        self.export_wh += export_wh

    def records(self) -> bytes:
        """Application data: both active energy registers in Wh, error flags."""
        return (
            b"\x06\x03"
            + self.import_wh.to_bytes(6, "little")
            + b"\x06\x83\x3c"
            + self.export_wh.to_bytes(6, "little")
            + b"\x02\xfd\x17\x00\x00"
        )

    def telegram(self) -> bytes:
        """The next telegram: L field in front, no link CRCs."""
        self.counter += 1
        self._access_no = self._access_no + 1 & 0xFF
        sender = Sender(self.meter, self._access_no, self.status)
        return mode7(sender, self._key, self.counter, self.records())
