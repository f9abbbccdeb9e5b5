"""Runs one RS-485 line: finds the meters, keeps a TLS session with each, reads their registers in turn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from hsm.errors import CertificateRefused, SessionExpired, TlsRefused
from hsm.tls import TlsContext, TlsEngine
from lmn.errors import KeyRefused, LmnError, PortClosed, UnexpectedMessage
from lmn.ports import BytePort
from lmn.sml.messages import Message, read_frame
from lmn.sml.transport import ReceivedSml, SmlDeframer
from lmn.wired.discovery import Addresses, Discovery
from lmn.wired.hdlc import HdlcDeframer, HdlcFrame, Kind
from lmn.wired.link import Primary, State
from lmn.wired.meter import WiredMeter
from lmn.wired.pairing import Credentials, Pairing, Reason, Renewal
from lmn.wired.registers import answers, confirm_write, order, write_order
from lmn.wired.sym import SymFormat, is_sym
from lmn.wired_values import WiredRefusal, WiredValues

_LOG = logging.getLogger("smgw.lmn")
MAX_PLAINTEXT_BYTES: Final = 1900
"""Of one record, which with its own bytes around it stays below the 2034 of a frame."""
SESSION_BYTES: Final = 5_000_000
"""A session ends before it carried so much (a vendor's limit; BSI TR-03109-1 names the 31 days)."""
MARGIN_BYTES: Final = 3 * 65536
"""More than one visit can carry: a session that is so near its end is replaced before the visit."""
_READ_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Timing:
    """Of a line; own knowledge, so configuration."""

    poll_s: float = 5.0
    """From one round to the next."""
    answer_s: float = 0.25
    """Within which a station answers."""
    retries: int = 3
    slots: int = 8
    slot_s: float = 0.02
    exchange_s: float = 15.0
    """For a handshake, and for an order with its answers."""
    idle_s: float = 0.005
    """Pause after a station said that it has nothing yet."""
    pairing_pause_s: float = 60.0
    """From one try to pair a meter to the next."""


@dataclass(slots=True)
class LineStatistics:
    """What `smgw doctor` shows of one line; counted since the gateway started."""

    bytes: int = 0
    frames: int = 0
    rejected: int = 0
    """Candidates of a frame whose checksum, length or control byte was wrong."""
    garbage_bytes: int = 0
    """Bytes between frames."""
    last_byte_at: float | None = None
    """Loop time of the last byte, None before the first."""
    opened: int = 0
    """How often the port was opened."""
    is_open: bool = False
    """Whether it is open now."""
    timeouts: int = 0
    silent: int = 0
    """Stations that answered no more."""
    handshakes: int = 0
    readings: int = 0
    pairings: int = 0
    renewals: int = 0
    """Certificates that meters took inside a session."""


@dataclass(slots=True)
class _Session:
    """The link to one station and the TLS connection in it."""

    link: Primary
    engine: TlsEngine
    began_at: float
    limit_s: float
    generation: bytes
    """The gateway's certificate that it began with."""
    carried_bytes: int = 0
    files: int = 0
    first_byte_at: float | None = field(default=None)
    """When the first byte of the answer that is awaited came."""


class _Silent(LmnError):
    """A station that answers no more."""


class Rs485Line:
    """A service: serves until cancelled or until the line is gone; a supervisor starts it anew."""

    def __init__(
        self,
        port_opener: Callable[[], Awaitable[BytePort]],
        meters: tuple[WiredMeter, ...],
        credentials: Credentials,
        context: Callable[[bytes], Awaitable[TlsContext]],
        emit: Callable[[WiredValues | WiredRefusal], None],
        now: Callable[[], float],
        *,
        addresses: Addresses | None = None,
        timing: Timing | None = None,
        sym: SymFormat | None = None,
        name: str = "lmn.wired",
    ) -> None:
        """Prepare the service; nothing is opened before `run`.

        Args:
            port_opener: opens the line; raises PortClosed while it is not there.
            meters: those that are read; others that answer a call are counted and not read.
            credentials: which certificates count, and what meters are to be given.
            context: makes the TLS settings towards a meter that must show this certificate (DER).
            emit: takes what each reading told, at once and without waiting.
            now: the loop's clock in seconds.
            addresses: numbers with a role.
            timing: of the line.
            sym: form of the pairing messages.
            name: of the service, in reports.
        """
        self.name = name
        self.statistics = LineStatistics()
        self._open, self._context, self._emit, self._now = port_opener, context, emit, now
        self._credentials, self._sym = credentials, sym or SymFormat()
        self._pair_at: dict[bytes, float] = {}
        self._meters = {each.server_id: each for each in meters}
        self._addresses = addresses or Addresses()
        self._timing = timing or Timing()
        self._discovery = Discovery(self._addresses)
        self._sessions: dict[bytes, _Session] = {}
        self._deframer = HdlcDeframer()
        self._waiting: list[HdlcFrame] = []
        self._heard_at: float | None = None
        """When the first byte came since the last command."""
        self._strangers: set[bytes] = set()

    async def run(self) -> None:
        """Find and read, round after round.

        Raises:
            PortClosed: the line is not there or went away.
            HsmError: the security module cannot be used.
        """
        port = await self._open()
        self.statistics.opened += 1
        self.statistics.is_open = True
        try:
            while True:
                due = self._now() + self._timing.poll_s
                await self._round(port)
                await asyncio.sleep(max(0.0, due - self._now()))
        finally:
            for server_id in list(self._sessions):
                self._drop(server_id)
            self._discovery.stations.clear()
            self.statistics.is_open = False
            port.close()

    async def _round(self, port: BytePort) -> None:
        await self._credentials.upkeep()
        if self._meters.keys() - self._discovery.stations.keys():
            await self._discover(port)
        for server_id in list(self._discovery.stations):
            meter = self._meters[server_id]
            try:
                async with asyncio.timeout(self._timing.exchange_s * 3):
                    await self._visit(port, meter)
            except _Silent:
                self.statistics.silent += 1
                _LOG.warning("%s: %s is silent", self.name, meter.meter)
                self._drop(server_id)
                self._discovery.forget(server_id)
            except LmnError as error:
                if isinstance(error, PortClosed):
                    raise
                self._drop(server_id)
                self._emit(WiredRefusal(meter.meter, error))
            except SessionExpired:
                self._drop(server_id)
            except (TlsRefused, CertificateRefused) as error:
                self._drop(server_id)
                refusal = KeyRefused(f"TLS with the meter: {error}")
                self._emit(WiredRefusal(meter.meter, refusal))
            except TimeoutError:
                self._drop(server_id)
                self._emit(WiredRefusal(meter.meter, UnexpectedMessage("no whole answer in time")))

    # ---- finding

    async def _discover(self, port: BytePort) -> None:
        timing = self._timing
        for missed in self._meters.keys() - self._discovery.stations.keys():
            await port.write(self._discovery.release(missed).to_bytes())  # it may still have a name
        await port.write(self._discovery.call(timing.slots).to_bytes())
        until = self._now() + timing.slots * timing.slot_s + timing.answer_s
        heard: list[bytes] = []
        while (frame := await self._frame(port, until)) is not None:
            if (server_id := self._discovery.heard(frame)) is not None:
                heard.append(server_id)
        for server_id in heard:
            if server_id not in self._meters:
                if server_id not in self._strangers and len(self._strangers) < 127:
                    self._strangers.add(server_id)
                    _LOG.warning("%s: an unknown meter %s answers", self.name, server_id.hex())
                continue
            naming = self._discovery.name(server_id)
            if naming is not None:
                await port.write(naming.to_bytes())
                await asyncio.sleep(timing.idle_s)

    # ---- one meter

    async def _visit(self, port: BytePort, meter: WiredMeter) -> None:
        """Pair it if it has no certificate, read it, then give it what it is to be given."""
        credentials = self._credentials
        if not credentials.certificates(meter):
            if self._now() < self._pair_at.get(meter.server_id, float("-inf")):
                return
            self._pair_at[meter.server_id] = self._now() + self._timing.pairing_pause_s
            await self._pair(port, meter)
        session = self._sessions.get(meter.server_id)
        if session is not None and self._used_up(session):
            self._drop(meter.server_id)
            session = None
        if session is None:
            session = await self._begin(port, meter)
        await self._read(port, meter, session)
        if (write := await credentials.due(meter)) is not None:
            messages = await self._file(
                port, session, write_order(write.what.value, write.content, session.files + 1)
            )
            confirm_write(messages, meter.server_id)
            await credentials.written(meter, write.what)
            self.statistics.renewals += 1
            _LOG.info("%s: %s has a new certificate (%s)", self.name, meter.meter, write.what.name)
            if write.what is Renewal.METER:
                self._drop(meter.server_id)  # the next handshake shows whether it has it

    async def _read(self, port: BytePort, meter: WiredMeter, session: _Session) -> None:
        session.first_byte_at = None
        messages = await self._file(port, session, order(meter.registers, session.files + 1))
        values = answers(messages, meter.server_id, meter.registers)
        self.statistics.readings += 1
        began = session.first_byte_at
        self._emit(
            WiredValues(meter.meter, values, began if began is not None else self._now(), protected=True)
        )

    async def _file(self, port: BytePort, session: _Session, request: bytes) -> tuple[Message, ...]:
        """Send one order file, return the file that answers it."""
        session.files += 1
        for start in range(0, len(request), MAX_PLAINTEXT_BYTES):
            session.engine.write(request[start : start + MAX_PLAINTEXT_BYTES])
        async with asyncio.timeout(self._timing.exchange_s):
            return read_frame((await self._answer(port, session, SmlDeframer())).data)

    # ---- pairing

    async def _pair(self, port: BytePort, meter: WiredMeter) -> None:
        """Give the meter a key pair and both certificates, under its master key.

        Raises:
            KeyRefused: its profile has no master key.
            UnexpectedMessage: the meter refuses.
            LmnError: its answer is forged, old or malformed.
        """
        credentials = self._credentials
        master = credentials.master(meter)
        if master is None:
            raise KeyRefused("a meter without certificate, and no master key in its profile to pair it with")
        pairing = Pairing(master, meter.server_id, self._sym)
        for _ in range(2):
            identity = await credentials.new_identity(meter)
            counter = await credentials.next_counter(meter)
            message = pairing.deliver(counter, identity, credentials.gateway_certificate())
            reason = await self._ask(port, meter, pairing, message)
            if reason is None:
                await credentials.paired(meter)
                self.statistics.pairings += 1
                _LOG.info("%s: %s is paired", self.name, meter.meter)
                return
            await credentials.unpaired(meter)
            if reason is not Reason.PAIRED:
                raise UnexpectedMessage(f"the meter refuses to be paired: {reason.name}")
            _LOG.warning("%s: %s has keys of another pairing; they are reset", self.name, meter.meter)
            if await self._ask(port, meter, pairing, pairing.reset(await credentials.next_counter(meter))):
                raise UnexpectedMessage("the meter refuses the crypto reset")
        raise UnexpectedMessage("the meter stays paired after a crypto reset")

    async def _ask(
        self, port: BytePort, meter: WiredMeter, pairing: Pairing, message: bytes
    ) -> Reason | None:
        station = self._discovery.stations[meter.server_id]
        frame = HdlcFrame(station, self._addresses.primary, Kind.UNNUMBERED_INFORMATION, message).to_bytes()
        for _ in range(1 + self._timing.retries):
            await self._say(port, frame)
            until = self._now() + self._timing.answer_s
            while (answer := await self._frame(port, until)) is not None:
                if answer.source != station or answer.destination != self._addresses.primary:
                    continue
                if answer.kind is Kind.UNNUMBERED_INFORMATION and is_sym(answer.information):
                    after = self._credentials.last_heard(meter)
                    counter, reason = pairing.answered(answer.information, after)
                    await self._credentials.heard(meter, counter)
                    return reason
            self.statistics.timeouts += 1
        raise _Silent("no answer")

    async def _answer(self, port: BytePort, session: _Session, deframer: SmlDeframer) -> ReceivedSml:
        while True:
            await self._carry(port, session)
            while plain := session.engine.read(_READ_BYTES):
                for found in deframer.receive(plain):
                    if isinstance(found, LmnError):
                        raise found
                    return found
            if plain == b"":
                raise TlsRefused("the meter closed the connection")

    def _used_up(self, session: _Session) -> bool:
        """Whether it would reach a limit during the next visit, or was begun under an older certificate."""
        ends_at = session.began_at + session.limit_s - self._timing.exchange_s * 3
        return (
            self._now() >= ends_at
            or session.carried_bytes + MARGIN_BYTES >= SESSION_BYTES
            or session.generation != self._credentials.generation()
        )

    async def _begin(self, port: BytePort, meter: WiredMeter) -> _Session:
        """Connect the link and run the handshake in it.

        Whatever fails here: a meter that never showed what it was given may not have it, and is paired anew.
        """
        if not (certificates := self._credentials.certificates(meter)):
            raise KeyRefused("the meter has no certificate any more")
        *others, last = reversed(certificates)
        try:
            for certificate in others:
                with contextlib.suppress(CertificateRefused):  # it may still show the older one
                    return await self._connect(port, meter, certificate)
            return await self._connect(port, meter, last)
        except (LmnError, TlsRefused, CertificateRefused, TimeoutError) as error:
            if not isinstance(error, PortClosed):
                await self._credentials.unpaired(meter)
            raise

    async def _connect(self, port: BytePort, meter: WiredMeter, certificate: bytes) -> _Session:
        link = Primary(self._addresses.primary, self._discovery.stations[meter.server_id])
        link.connect()
        while link.state is State.CONNECTING:
            await self._exchange(port, link)
        if link.state is not State.CONNECTED:
            raise _Silent("the station refuses the link")
        generation = self._credentials.generation()
        context = await self._context(certificate)
        engine = TlsEngine(context, pinned=certificate)
        session = _Session(link, engine, self._now(), context.profile.session_limit_s, generation)
        try:
            async with asyncio.timeout(self._timing.exchange_s), context.bridge.admission:
                await self._handshake(port, session)
            await self._credentials.shown(meter, certificate)
        except BaseException:
            engine.abort()
            raise
        self.statistics.handshakes += 1
        self._sessions[meter.server_id] = session
        return session

    async def _handshake(self, port: BytePort, session: _Session) -> None:
        loop = asyncio.get_running_loop()
        engine = session.engine
        while True:
            if engine.may_block:
                finished = await loop.run_in_executor(None, engine.handshake)
            else:
                finished = engine.handshake()
            if finished:
                break
            await self._carry(port, session)
        while engine.pending:
            await self._carry(port, session, wait=False)

    async def _carry(self, port: BytePort, session: _Session, *, wait: bool = True) -> None:
        """Send what TLS has to send, then, if asked to `wait`, ask until the station has sent something."""
        link, engine = session.link, session.engine
        if outgoing := engine.outgoing():
            session.carried_bytes += len(outgoing)
            link.send(outgoing)
        while True:
            had = link.idle
            data = await self._exchange(port, link)
            if data:
                session.carried_bytes += len(data)
                if session.first_byte_at is None:
                    session.first_byte_at = self._heard_at
                engine.feed(data)
            if link.state is not State.CONNECTED:
                raise UnexpectedMessage("the station left the link")
            if link.idle and (data or not wait):
                return
            if had and not data:
                await asyncio.sleep(self._timing.idle_s)

    async def _exchange(self, port: BytePort, link: Primary) -> bytes:
        """Send the link's command and take the answer; repeat where none comes.

        Raises:
            _Silent: no answer to any of the repetitions.
        """
        for _ in range(1 + self._timing.retries):
            await self._say(port, link.command().to_bytes())
            until = self._now() + self._timing.answer_s
            while (frame := await self._frame(port, until)) is not None:
                if frame.source == link.station and frame.destination == self._addresses.primary:
                    return link.receive(frame)
            self.statistics.timeouts += 1
        raise _Silent("no answer")

    async def _say(self, port: BytePort, frame: bytes) -> None:
        """Send a command; what came before it belongs to nothing any more."""
        self._deframer.reset()
        self._waiting.clear()
        self._heard_at = None
        await port.write(frame)

    async def _frame(self, port: BytePort, until: float) -> HdlcFrame | None:
        """Return the next frame that another station sent, None if none came before `until`."""
        while True:
            if self._waiting:
                frame = self._waiting.pop(0)
                if frame.source != self._addresses.primary:  # an adapter may echo what we say
                    self.statistics.frames += 1
                    return frame
                continue
            try:
                async with asyncio.timeout(max(0.0, until - self._now())):
                    data = await port.read()
            except TimeoutError:
                return None
            if not data:
                raise PortClosed(f"{self.name}: the line went away")
            seen, seen.last_byte_at = self.statistics, self._now()
            if self._heard_at is None:
                self._heard_at = seen.last_byte_at
            seen.bytes += len(data)
            self._waiting += self._deframer.receive(data)
            seen.rejected, seen.garbage_bytes = self._deframer.rejected, self._deframer.garbage_bytes

    def _drop(self, server_id: bytes) -> None:
        session = self._sessions.pop(server_id, None)
        if session is not None:
            session.engine.abort()
