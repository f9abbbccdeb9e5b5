"""Ports by URL: an RS-485 line and a head behind a plain socket and behind pyserial's own RFC 2217 server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import serial
from serial.rfc2217 import PortManager

from lmn.errors import PortClosed
from lmn.sml.driver import BAUDRATE, HeadMeter, SmlHead
from lmn.wired_values import WiredRefusal, WiredValues
from tests.support.wired_line import bench
from tools.counterparts.meter_sml import DEFAULT_METER, SmlMeter, VirtualHead, server_id

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial 3.5


class PtyLine(serial.Serial):  # type: ignore[misc]
    """A pseudo terminal has no modem lines; a real adapter has, and RFC 2217 speaks of them."""

    cts = dsr = ri = cd = property(lambda _: False)

    def _update_rts_state(self) -> None:
        pass

    _update_dtr_state = _update_rts_state


class DeviceServer:
    """One serial device on the network, as a modem or another host gives it; one client at a time."""

    def __init__(self, device: Path, *, rfc2217: bool) -> None:
        self._line = PtyLine(str(device), 9600, timeout=0.01)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._rfc2217, self._done = rfc2217, threading.Event()
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        scheme = "rfc2217" if rfc2217 else "socket"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.baudrates: list[int] = []

    def write(self, data: bytes) -> None:
        """What the port manager says to the client."""
        assert self._client is not None
        self._client.sendall(data)

    def _serve(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                self._client, _ = self._listener.accept()
                self._client.settimeout(0.01)
                with contextlib.suppress(OSError), self._client:
                    self._pass_on(self._client)

    def _pass_on(self, client: socket.socket) -> None:
        manager = PortManager(self._line, self) if self._rfc2217 else None
        while not self._done.is_set():
            try:
                if not (data := client.recv(4096)):
                    return
                self._line.write(b"".join(manager.filter(data)) if manager else data)
                self.baudrates.append(self._line.baudrate)
            except TimeoutError:
                pass
            if heard := self._line.read(4096):
                client.sendall(b"".join(manager.escape(heard)) if manager else heard)

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self._listener.close()
        self._line.close()


@asynccontextmanager
async def served(device: Path, *, rfc2217: bool) -> AsyncIterator[DeviceServer]:
    server = DeviceServer(device, rfc2217=rfc2217)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.close)


@pytest.mark.parametrize("rfc2217", [False, True], ids=["socket", "rfc2217"])
async def test_a_line_behind_a_url(tmp_path: Path, rfc2217: bool) -> None:
    async with bench(tmp_path) as here, served(here.hub.link, rfc2217=rfc2217) as server:
        station, meter = here.meter()
        here.port = server.url
        await here.start(meter, timing=here.patient)
        found = await here.values()
        assert found.values[0].value * 10 == station.registers.import_wh10
        if rfc2217:
            assert server.baudrates[-1] == 921600  # the rate is set at the far end
        await here.stop()


@pytest.mark.parametrize("rfc2217", [False, True], ids=["socket", "rfc2217"])
async def test_a_head_behind_a_url(tmp_path: Path, rfc2217: bool) -> None:
    from lmn.serial_port import open_port

    heard: asyncio.Queue[WiredValues | WiredRefusal] = asyncio.Queue()
    loop, meter = asyncio.get_running_loop(), SmlMeter()
    async with (
        VirtualHead(tmp_path / "head0", baudrate=0) as head,
        served(head.link, rfc2217=rfc2217) as server,
    ):
        known = HeadMeter(DEFAULT_METER, server_id(DEFAULT_METER))
        service = SmlHead(lambda: open_port(server.url, BAUDRATE), known, heard.put_nowait, loop.time)
        task = asyncio.create_task(service.run())
        async with asyncio.timeout(20):
            while heard.empty():
                await head.push(meter.frame())
                await asyncio.sleep(0.05)
        found = heard.get_nowait()
        while isinstance(found, WiredRefusal):  # it may have opened in the middle of a frame
            await head.push(meter.frame())
            found = await asyncio.wait_for(heard.get(), 10)
        assert len(found.values) == 3
        await asyncio.to_thread(server.close)
        with pytest.raises(PortClosed):
            await asyncio.wait_for(task, 20)
