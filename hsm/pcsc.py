"""PC/SC: the way to a card in a reader, through pyscard. The only module that loads it, when it is used.

PC/SC blocks and cannot be interrupted, so each connection has one thread that makes all its calls in order.
Whoever waits may give up at any time; the thread finishes what it is at and then releases the card. Until
then the card refuses others as in use, so a late answer can never be taken for the answer to another command.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, NoReturn, TypeVar

from hsm.errors import HsmError, ModuleFailed, ModuleUnavailable, NotDelivered

T = TypeVar("T")
_log = logging.getLogger("smgw.hsm")

ANSWER_S: Final = 30.0
"""The longest that one command may take; a request's own deadline is usually shorter."""
IDLE_S: Final = 1.0
"""After so long without a command the card is asked for before one is sent."""
_RELEASE_S: Final = 2.0
_MIN_ANSWER: Final = 2

_REASONS: Final = {
    0x80100009: "PC/SC knows no such reader",
    0x8010000B: "another program holds the card; only one can, end it or wait",
    0x8010000C: "there is no card in the reader",
    0x8010000F: "the card does not speak T=1",
    0x80100010: "the card is not ready",
    0x80100016: "the card was lost during the command",
    0x80100017: "the reader was unplugged",
    0x8010001D: "pcscd does not run (Debian: apt install pcscd; systemctl start pcscd.socket)",
    0x8010001E: "pcscd was stopped",
    0x8010002E: "no reader is plugged in, or pcscd does not know it",
    0x80100066: "the card does not answer to reset: is it the right way round?",
    0x80100067: "the card has no power",
    0x80100068: "the card was reset or exchanged",
    0x80100069: "the card was taken out",
    0x8010006A: "access denied: polkit lets only local users reach pcscd (see docs/security-module.md)",
}
"""Return codes of PC/SC (pcsclite.h) in words."""
_NOT_DELIVERED: Final = frozenset((0x80100003, 0x80100068, 0x80100069))
_SUCCESS: Final = 0
_TIMEOUT: Final = 0x8010000A


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader as PC/SC lists it."""

    name: str
    atr: bytes
    """Of the card in it; empty if there is none."""


def check_installed() -> None:
    """Load pyscard.

    Raises:
        ModuleUnavailable: it is not there; says how to get it.
    """
    _scard()


def _scard() -> Any:
    try:
        from smartcard import scard
    except ImportError:
        raise ModuleUnavailable(
            "PC/SC needs pyscard (Debian: apt install python3-pyscard libpcsclite1; else pip install "
            "'smgw[pcsc]')"
        ) from None
    return scard


def _refuse(code: int, doing: str, *, kind: type[ModuleUnavailable] = ModuleUnavailable) -> NoReturn:
    code &= 0xFFFFFFFF
    if code in _NOT_DELIVERED:
        kind = NotDelivered
    raise kind(f"{doing}: {_REASONS.get(code, 'PC/SC refuses')} (0x{code:08X})")


class _Calls:
    """The PC/SC calls of one connection; made in one thread, never in two."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._scard = _scard()
        self._context: Any = None
        self._card: Any = None
        self._used_at = 0.0

    def enter(self) -> None:
        """Reach pcscd."""
        code, context = self._scard.SCardEstablishContext(self._scard.SCARD_SCOPE_USER)
        if code != _SUCCESS:
            _refuse(code, "PC/SC")
        self._context = context

    def connect(self) -> Reader:
        """Choose the reader, take its card for ourselves, reset it."""
        scard = self._scard
        self.enter()
        reader = choose(self.readers(), self._wanted)
        code, self._card, _ = scard.SCardConnect(
            self._context, reader.name, scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T1
        )
        if code != _SUCCESS:
            self._card = None
            _refuse(code, reader.name)
        code, _ = scard.SCardReconnect(
            self._card, scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T1, scard.SCARD_RESET_CARD
        )
        if code != _SUCCESS:
            _refuse(code, reader.name)
        self._used_at = monotonic()
        return reader

    def readers(self) -> list[Reader]:
        """All readers, with what lies in them."""
        scard = self._scard
        code, names = scard.SCardListReaders(self._context, [])
        if code != _SUCCESS:
            _refuse(code, "PC/SC")
        asked = [(name, scard.SCARD_STATE_UNAWARE) for name in names]
        code, states = scard.SCardGetStatusChange(self._context, 0, asked)
        if code & 0xFFFFFFFF not in (_SUCCESS, _TIMEOUT):
            _refuse(code, "PC/SC")
        return [
            Reader(name, bytes(atr) if state & scard.SCARD_STATE_PRESENT else b"")
            for name, state, atr in states
        ]

    def transmit(self, command: bytes) -> bytes:
        """One command and its answer."""
        scard = self._scard
        if self._card is None:
            raise NotDelivered("not connected to a card")
        if monotonic() - self._used_at > IDLE_S:
            code = scard.SCardStatus(self._card)[0]
            if code != _SUCCESS:
                _refuse(code, "the card was lost while idle", kind=NotDelivered)
        code, answer = scard.SCardTransmit(self._card, scard.SCARD_PCI_T1, list(command))
        if code != _SUCCESS:
            _refuse(code, "the card")
        if len(answer) < _MIN_ANSWER:  # what vpcd makes of a card that dies
            raise ModuleUnavailable("the card was lost during the command")
        self._used_at = monotonic()
        return bytes(answer)

    def release(self) -> None:
        """Give card and context back; what PC/SC says to it does not matter any more."""
        scard = self._scard
        if self._card is not None:
            scard.SCardDisconnect(self._card, scard.SCARD_UNPOWER_CARD)
            self._card = None
        if self._context is not None:
            scard.SCardReleaseContext(self._context)
            self._context = None


def choose(readers: list[Reader], wanted: str) -> Reader:
    """The reader that is meant: by exact name, by a regular expression, or by `atr:HEX` of the card in it.

    Of several whose name fits, the one with a card in it.

    Raises:
        ModuleUnavailable: none fits, or more than one does.
    """
    if wanted.startswith("atr:"):
        atr = bytes.fromhex(wanted.removeprefix("atr:"))
        fitting = [reader for reader in readers if reader.atr == atr]
    else:
        fitting = [reader for reader in readers if reader.name == wanted]
        if not fitting:
            pattern = re.compile(wanted, re.IGNORECASE)
            fitting = [reader for reader in readers if pattern.search(reader.name)]
        if len(fitting) > 1:
            fitting = [reader for reader in fitting if reader.atr] or fitting[:1]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(
        f"{reader.name!r} ({'card ' + reader.atr.hex() if reader.atr else 'empty'})" for reader in readers
    )
    what = "more than one reader fits" if fitting else "no reader fits"
    raise ModuleUnavailable(f"{what} {wanted!r}; PC/SC has {there or 'none'}")


class _Worker:
    """One daemon thread, so that a card that never answers cannot keep the process from ending."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting = 0
        threading.Thread(target=self._work, name="smgw.pcsc", daemon=True).start()

    @property
    def busy(self) -> bool:
        """True while a call runs or waits."""
        return self._waiting > 0

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run `function` after all before it, also if nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            outcome: T | HsmError = ModuleFailed("the PC/SC thread stopped on a mistake of ours")
            try:
                outcome = function()
            except HsmError as error:
                outcome = error
            finally:
                try:
                    loop.call_soon_threadsafe(self._settle, future, outcome)
                except RuntimeError:
                    _log.debug("the loop ended before PC/SC did")

        self._waiting += 1
        self._jobs.put(job)
        return future

    def end(self) -> None:
        """Let the thread end after what it has to do."""
        self._jobs.put(None)

    def _settle(self, future: asyncio.Future[Any], outcome: object) -> None:
        self._waiting -= 1
        if future.cancelled():
            return
        if isinstance(outcome, HsmError):
            future.set_exception(outcome)
            future.exception()  # nobody may be waiting any more
        else:
            future.set_result(outcome)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class PcscTransport:
    """A `CardTransport` that holds a card in a PC/SC reader exclusively.

    Args:
        reader: name, regular expression or `atr:HEX`, as `choose` takes it.
        answer_s: longest wait for one answer; after it the connection is dropped.
    """

    def __init__(self, reader: str, *, answer_s: float = ANSWER_S) -> None:
        self._wanted, self._answer_s = reader, answer_s
        self._worker: _Worker | None = None
        self._calls: _Calls | None = None
        self.atr = b""
        """What the card answered to reset; set by `connect`."""
        self.reader = ""
        """Name of the chosen reader; set by `connect`."""

    async def connect(self) -> None:
        """Take the card exclusively and reset it."""
        self._calls, self._worker = _Calls(self._wanted), _Worker()
        try:
            chosen = await self._ask(self._calls.connect)
        except BaseException:
            await self.close()
            raise
        self.reader, self.atr = chosen.name, chosen.atr

    async def transmit(self, command: bytes) -> bytes:
        """Send one command APDU and return the answer."""
        calls = self._calls
        if calls is None:
            raise NotDelivered("not connected to a card")
        return await self._ask(lambda: calls.transmit(command))

    async def close(self) -> None:
        """Release card and reader, at once or when the call that hangs comes back."""
        worker, calls = self._worker, self._calls
        self._worker = self._calls = None
        if worker is None or calls is None:
            return
        hanging = worker.busy
        released = worker.submit(calls.release)
        worker.end()
        if hanging:
            return
        try:
            async with asyncio.timeout(_RELEASE_S):
                await asyncio.shield(released)
        except TimeoutError:
            _log.warning("PC/SC does not release the card")

    async def _ask(self, function: Callable[[], T]) -> T:
        worker = self._worker
        if worker is None:
            raise NotDelivered("not connected to a card")
        try:
            async with asyncio.timeout(self._answer_s):
                return await asyncio.shield(worker.submit(function))
        except TimeoutError:
            await self.close()
            raise ModuleUnavailable(f"the card did not answer within {self._answer_s:g} s") from None


async def list_readers() -> list[Reader]:
    """All readers that PC/SC knows, with what lies in them.

    Raises:
        ModuleUnavailable: no pyscard, no pcscd, no reader.
    """
    calls, worker = _Calls(""), _Worker()

    def listed() -> list[Reader]:
        try:
            calls.enter()
            return calls.readers()
        finally:
            calls.release()

    listing = worker.submit(listed)
    worker.end()
    return await listing
