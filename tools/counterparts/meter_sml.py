"""A virtual meter with an infrared interface, and the head in front of it on a pseudo terminal.

It pushes an open message, a list of values and a close message, again and again, in one direction, as modern
meters do. It shares the message codec with the gateway and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tty
from pathlib import Path
from typing import Final, Self

from lmn.model import MeterId
from lmn.sml.bodies import CloseResponse, GetListResponse, OpenResponse
from lmn.sml.codec import octets, signed, unsigned
from lmn.sml.messages import Message, to_transport
from lmn.sml.values import ListEntry, SmlTime, TimeKind

DEFAULT_METER: Final = MeterId("SMG", "10000002", 0x00, 0x02)
BAUDRATE: Final = 9600
_BITS_PER_BYTE: Final = 10
_CHUNK: Final = 16
_MAX_STEP_WH10: Final = 250
"""Most that one push adds, in 0.1 Wh."""
_STATUS: Final = 0x1C104
_WH, _W = 30, 27


def server_id(meter: MeterId) -> bytes:
    """The ten bytes that name an electricity meter in SML."""
    number = int(meter.identification).to_bytes(4, "big")
    return b"\x0a\x01" + meter.manufacturer.encode("ascii") + bytes((meter.version,)) + number


class SmlMeter:
    """Counts what it draws and feeds in; each push has the registers of its moment."""

    def __init__(self, meter: MeterId = DEFAULT_METER, *, seed: int = 0) -> None:
        """Make a meter; the same seed gives the same load."""
        self.meter = meter
        self._random = random.Random(seed)  # noqa: S311  # a load curve, no secret
        self.import_wh10 = self._random.randrange(10_000_000, 90_000_000)
        """Active energy drawn so far, in 0.1 Wh."""
        self.export_wh10 = 0
        self.power_w = 0
        self.seconds = self._random.randrange(1, 10_000_000)
        self._transaction = 0

    def step(self, import_wh10: int | None = None, export_wh10: int = 0) -> None:
        """Let time pass: the registers rise, by the seeded load if no amount is given."""
        drawn = self._random.randrange(1, _MAX_STEP_WH10) if import_wh10 is None else import_wh10
        if drawn < 0 or export_wh10 < 0:
            raise ValueError("a register never falls")
        self.import_wh10 += drawn
        self.export_wh10 += export_wh10
        self.power_w = drawn - export_wh10
        self.seconds += 1

    def entries(self) -> tuple[ListEntry, ...]:
        """The values that it pushes."""

        def value(
            obis: str,
            encoded: bytes,
            *,
            unit: int | None = None,
            scaler: int | None = None,
            status: int | None = None,
        ) -> ListEntry:
            return ListEntry(bytes.fromhex(obis), status, None, unit, scaler, None, encoded)

        return (
            value("8181c78203ff", octets(self.meter.manufacturer.encode("ascii"))),
            value("0100000009ff", octets(server_id(self.meter))),
            value("0100010800ff", unsigned(self.import_wh10, 8), unit=_WH, scaler=-1, status=_STATUS),
            value("0100020800ff", unsigned(self.export_wh10, 8), unit=_WH, scaler=-1),
            value("0100100700ff", signed(self.power_w, 4), unit=_W, scaler=0),
        )

    def frame(self) -> bytes:
        """One push as a transport frame."""
        names = (server_id(self.meter), SmlTime(TimeKind.SECONDS_INDEX, self.seconds))
        bodies = (
            OpenResponse(self.seconds.to_bytes(4, "big"), names[0]),
            GetListResponse(names[0], self.entries(), b"\x01\x00\x62\x0a\xff\xff", names[1]),
            CloseResponse(),
        )
        messages = []
        for body in bodies:
            self._transaction = self._transaction + 1 & 0xFFFFFFFF
            messages.append(Message(body, self._transaction.to_bytes(4, "big")))
        return to_transport(messages)


class VirtualHead:
    """An infrared head behind a stable link.

    Use: `async with VirtualHead(path) as head: await head.push(frame)`.
    """

    def __init__(self, link: Path, *, baudrate: int = BAUDRATE, chunk: int = _CHUNK) -> None:
        """Prepare a head; it appears with `plug`.

        Args:
            link: path of the symbolic link that a driver opens.
            baudrate: of the imitated line; 0 for one without limit.
            chunk: bytes that arrive together; 1 cuts everything into single bytes.
        """
        self.link = link
        self.lost_bytes = 0
        """What the host did not take in time."""
        self._baudrate, self._chunk = baudrate, chunk
        self._master = self._slave = -1

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.vanish()

    def plug(self) -> None:
        """Make the device and publish its link in one step."""
        self._master, self._slave = os.openpty()  # the slave stays open, so that a host may come and go
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self.link)

    def vanish(self) -> None:
        """Pull the head: link and device are gone."""
        if self._master < 0:
            return
        self.link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    async def push(self, data: bytes) -> None:
        """Send bytes to the host at the line's rate; also for garbage and cut-off frames."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(data), self._chunk):
            chunk = data[start : start + self._chunk]
            if self._master < 0:
                return
            taken = 0
            with contextlib.suppress(BlockingIOError):
                taken = os.write(self._master, chunk)
            self.lost_bytes += len(chunk) - taken
            if self._baudrate:
                due += len(chunk) * _BITS_PER_BYTE / self._baudrate
            await asyncio.sleep(max(due - loop.time(), 0))
