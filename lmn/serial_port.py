"""A serial line: pyserial opens and configures it, the event loop watches its descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import serial
from serial.tools.list_ports import comports

from lmn.errors import PortClosed

READ_SIZE: Final = 4096
MAX_UNREAD_BYTES: Final = 65536
"""What may wait unread; above it the line is left to the kernel's own buffer."""


_URL_TIMEOUT_S: Final = 0.02
"""A read of the thread lasts so long: it is the delay of the bytes and the time to see a port closed."""


class SerialPort:
    """An open line; implements `lmn.ports.BytePort`. One reader and one writer at a time."""

    def __init__(self, line: serial.Serial) -> None:
        """Take over an open line; must be called from within the event loop."""
        self._line = line
        self._descriptor: int = line.fileno()
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self._changed = asyncio.Event()
        self._gone = False
        self._closed = False
        self._reading = True
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # EIO: the adapter was unplugged, or the other end of a pty closed
            data = b""
        if data:
            self._unread += data
            if len(self._unread) >= MAX_UNREAD_BYTES:
                self._pause()
        else:
            self._lose()
        self._changed.set()

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._descriptor)
            self._reading = False

    def _lose(self) -> None:
        self._gone = True
        self._pause()

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; b"" once the line is gone or closed."""
        while not self._unread and not self._gone:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._unread)
        self._unread.clear()
        if not self._reading and not self._gone:
            self._loop.add_reader(self._descriptor, self._on_readable)
            self._reading = True
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            PortClosed: the line is gone.
        """
        rest = memoryview(data)
        while rest:
            if self._gone:
                raise PortClosed("serial line is gone")
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self._lose()
                self._changed.set()
                raise PortClosed(f"serial line is gone: {error.strerror}") from error

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            if not self._closed:
                self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """Give the line back; a pending read ends with b"". Closing twice is no error."""
        if self._closed:
            return
        self._lose()
        self._closed = True
        self._loop.remove_writer(self._descriptor)
        self._changed.set()
        self._line.close()


class UrlPort:
    """A line behind a URL (a modem over IP, another host's port); implements `lmn.ports.BytePort`.

    pyserial's URL handlers have no descriptor to watch, so a thread reads.
    """

    def __init__(self, line: serial.SerialBase) -> None:
        """Take over an open line; must be called from within the event loop."""
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self._changed = asyncio.Event()
        self._gone = False
        self._reader = threading.Thread(target=self._read_all, name="lmn.serial_port", daemon=True)
        self._reader.start()

    def _read_all(self) -> None:
        while not self._gone:
            try:
                data = bytes(self._line.read(READ_SIZE))
            except (OSError, ValueError, TypeError, AttributeError):  # how the handlers say closed, by kind
                self._tell(None)
                return
            if data:
                self._tell(data)

    def _tell(self, data: bytes | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._take, data)

    def _take(self, data: bytes | None) -> None:
        if data is None:
            self._gone = True
        else:
            self._unread += data
            if len(self._unread) > MAX_UNREAD_BYTES:  # nobody reads: the oldest is lost, as on a real line
                del self._unread[: len(self._unread) - MAX_UNREAD_BYTES]
        self._changed.set()

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; b"" once the line is gone or closed."""
        while not self._unread and not self._gone:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._unread)
        self._unread.clear()
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            PortClosed: the line is gone.
        """
        if self._gone:
            raise PortClosed("line is gone")
        try:
            await asyncio.to_thread(self._line.write, data)
        except OSError as error:
            self._take(None)
            raise PortClosed(f"line is gone: {error}") from error

    def close(self) -> None:
        """Give the line back; a pending read ends with b"". Closing twice is no error."""
        if not self._gone or self._line.is_open:
            self._take(None)
            with contextlib.suppress(OSError):
                self._line.close()


async def _open_url(url: str, baudrate: int) -> UrlPort:
    try:
        line = await asyncio.to_thread(serial.serial_for_url, url, baudrate, timeout=_URL_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise PortClosed(f"{url}: {error}") from error
    return UrlPort(line)


@contextmanager
def borrowed(path: str) -> Iterator[None]:
    """Hold a device for a while, without a byte, and put its line settings back afterwards.

    Inside, this process opens it with `exclusive=False`: the loan is what keeps others away.

    Raises:
        PortClosed: it is not there, not ours, no serial device, or another process has it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise PortClosed(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = termios.tcgetattr(descriptor)
        except BlockingIOError as error:
            raise PortClosed(f"{path}: another process has it") from error
        except (OSError, termios.error) as error:
            raise PortClosed(f"{path}: no serial device") from error
        try:
            yield
        finally:
            with contextlib.suppress(termios.error):  # pulled meanwhile: there is nothing to put back
                termios.tcsetattr(descriptor, termios.TCSANOW, before)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class UsbSerial:
    """A serial device on the USB, as the system knows it without a byte being sent."""

    device: str
    """Such as "/dev/ttyUSB0"; changes with the order of plugging."""
    vendor: int
    product: int
    description: str


def usb_devices() -> tuple[UsbSerial, ...]:
    """List the serial devices on the USB; nothing is opened."""
    return tuple(
        UsbSerial(each.device, each.vid, each.pid or 0, each.description or "")
        for each in comports()
        if each.vid is not None
    )


async def open_port(path: str, baudrate: int, *, exclusive: bool = True) -> SerialPort | UrlPort:
    """Open a line for this process alone, 8 data bits, no parity, one stop bit.

    Args:
        path: a device, or a URL that pyserial knows, such as "socket://host:port" or "rfc2217://host:port".
        baudrate: bits a second; without effect on a plain socket.
        exclusive: refuse a line that anybody has; False only inside `borrowed`.

    Raises:
        PortClosed: it is not there, not ours, or another process has it.
    """
    if "://" in path:
        return await _open_url(path, baudrate)
    try:
        # Opening a tty with exclusive access does not wait for a carrier here, so it does not block the loop.
        line = serial.Serial(path, baudrate, timeout=0, write_timeout=0, exclusive=exclusive)
    except (OSError, ValueError) as error:  # SerialException is an OSError; termios refuses by ValueError
        raise PortClosed(f"{path}: {error}") from error
    return SerialPort(line)
