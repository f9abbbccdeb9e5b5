"""The control socket of a running gateway: status, logs, self-test, for whoever owns the machine's files.

A Unix socket of mode 0600 in the gateway's own folder. One JSON object a line in, one a line out. It decides
nothing: as whom somebody is answered, `firmware.life.callers` says; what he may, the role table, which is
asked here, and for logs by `firmware.log.reading`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from firmware.enforcement.roles import CONTROL, Reader, Role, require
from firmware.errors import AccessRefused, FirmwareError
from firmware.life.callers import Callers, Peer
from firmware.log.audit import code, text
from firmware.log.entry import LogKind
from firmware.log.reading import MAX_ENTRIES, LogReader, Range
from hsm.errors import HsmError

SOCKET: Final = "control.sock"
MAX_REQUEST_BYTES: Final = 1 << 16
CONNECTIONS: Final = 8
PATIENCE_S: Final = 30.0
"""A connection that says nothing for so long is closed."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be asked."""

    op: str
    log: LogKind = LogKind.SYSTEM
    consumer: str = ""
    role: Role = Role.SERVICE_TECH
    name: str = ""
    """Of a consumer: which one. Everybody else is named by the kernel."""
    consumer_code: str = ""
    """Of a consumer: shows that it is he."""
    after: int = 0
    newest: int | None = None
    from_utc: datetime | None = None
    to_utc: datetime | None = None
    limit: int = MAX_ENTRIES
    gateway: str = ""
    code: str = ""

    def __repr__(self) -> str:
        return f"Request({self.op!r}, {self.role.value!r})"  # codes are nobody's business


Operation = Callable[[Request], Awaitable[Mapping[str, Any]]]
"""One operation beyond the logs."""
Refused = Callable[[str, int, AccessRefused], Awaitable[None]]
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: process, user, group. Source: Linux, unix(7), SO_PEERCRED."""


class Control:
    """The server. A service.

    Args:
        path: of the socket; what is left there of a life before is replaced.
        reader: of the logs.
        operations: the other operations by name; each has a row in `firmware.enforcement.roles.CONTROL`.
        callers: as whom somebody is answered; by default the gateway's own user, as a technician.
        refused: told of everybody who was not, and of all that was refused but logs (their reader tells
            that): what was asked for, the user's number, and why.
    """

    name = "firmware.life.control"

    def __init__(
        self,
        path: Path,
        reader: LogReader | None,
        operations: Mapping[str, Operation],
        *,
        callers: Callers | None = None,
        refused: Refused | None = None,
    ) -> None:
        self._path, self._reader = path, reader
        self._callers, self._refused = callers or Callers(os.geteuid()), refused
        if unknown := operations.keys() - CONTROL.keys():
            raise ValueError(f"no row in the role table: {', '.join(sorted(unknown))}")
        self._operations = dict(operations)
        self._writers: set[asyncio.StreamWriter] = set()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: the socket cannot be made, or another gateway listens there.
        """
        with _short(self._path) as short:
            await _require_free(short)
            self._path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                # Not serving yet: so nothing is awaited, and a cancellation cannot lose the socket.
                server = await asyncio.start_unix_server(
                    self._serve, short, limit=MAX_REQUEST_BYTES, start_serving=False
                )
            finally:
                os.umask(before)
            try:
                await server.start_serving()
                await asyncio.Event().wait()
            finally:
                server.close()
                for writer in list(self._writers):  # nobody who only listens holds up the stop
                    writer.transport.abort()
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if len(self._writers) <= CONNECTIONS:
                await self._converse(reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return  # the other side left, or talks no lines
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line_of = writer.get_extra_info("socket")
        credentials = line_of.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        while True:
            async with asyncio.timeout(PATIENCE_S):
                line = await reader.readline()
            if not line:
                return
            writer.write(msgspec.json.encode(await self._answer(line, Peer(uid))) + b"\n")
            async with asyncio.timeout(PATIENCE_S):
                await writer.drain()

    async def _answer(self, line: bytes, peer: Peer) -> Mapping[str, Any]:
        try:
            request = msgspec.json.decode(line, type=Request)
            return await self._carry_out(await self._identified(request, peer), peer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            return _error("request", str(error))
        except AccessRefused as refused:
            return _error("access", str(refused))
        except (FirmwareError, HsmError) as fault:
            return _error(code(fault), text(fault))

    async def _identified(self, request: Request, peer: Peer) -> Request:
        """Return the request in the name of who really asks."""
        arguments = (peer, request.role, request.name, request.consumer_code)
        try:
            # In a thread, because comparing a code takes time on purpose; one after the other, because
            # failures are counted.
            async with self._turn:
                reader = await asyncio.to_thread(self._callers.reader, *arguments)
        except AccessRefused as refused:
            await self._tell(request, peer, refused)
            raise
        return msgspec.structs.replace(request, role=reader.role, name=reader.name, consumer_code="")

    async def _tell(self, request: Request, peer: Peer, refused: AccessRefused) -> None:
        if self._refused is not None:
            await self._refused(request.op, peer.uid, refused)

    async def _carry_out(self, request: Request, peer: Peer) -> Mapping[str, Any]:
        if self._reader is not None and request.op in ("log", "export"):
            reader = Reader(request.role, request.name)
            what = Range(
                after=request.after,
                newest=request.newest,
                from_utc=request.from_utc,
                to_utc=request.to_utc,
                limit=request.limit,
            )
            arguments = (reader, request.log, request.consumer, what)
            if request.op == "log":
                return {"entries": await self._reader.read(*arguments)}
            return {"export": (await self._reader.export(*arguments)).decode()}
        operation = self._operations.get(request.op)
        if operation is None:
            known = sorted((*self._operations, *(("export", "log") if self._reader else ())))
            raise ValueError(f"no operation {request.op!r}; there are {', '.join(known)}")
        try:
            require(Reader(request.role, request.name), CONTROL[request.op])
            return await operation(request)
        except AccessRefused as refused:  # of logs, their one reader has told it
            await self._tell(request, peer, refused)
            raise


def _error(name: str, message: str) -> dict[str, Any]:
    return {"error": {"code": name, "message": message}}


async def _require_free(address: str) -> None:
    """Raise OSError if somebody listens there: no gateway takes another one's socket away."""
    try:
        _, writer = await asyncio.open_unix_connection(address)
    except OSError:
        return  # nobody does; what is there was left by a life before
    writer.close()
    raise OSError(errno.EADDRINUSE, "another gateway listens on the control socket")


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Name a socket by its folder's descriptor: the address of a socket has room for 107 bytes only."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
