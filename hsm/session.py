"""The one task that owns the module: queue, deadlines, ephemeral slots, PACE at start and again, recovery.

Every caller's request is a generator of `ModuleClient`; the owner takes them by priority, one at a time,
because the send sequence counter forbids anything else. A card that is lost or talks nonsense is connected
again, at a growing pace, and only requests that may be repeated are. A refused PIN ends the session for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from types import TracebackType
from typing import Any, Self, TypeVar

from hsm.api import Curve
from hsm.calls import ModuleView, Priority, SessionStatistics, Slot
from hsm.channel import Channel, Operation
from hsm.client import ModuleClient
from hsm.errors import (
    ChannelBroken,
    CommandRefused,
    HsmError,
    MalformedResponse,
    ModuleFailed,
    ModuleUnavailable,
    NotDelivered,
    PinRefused,
    UnexpectedResponse,
)
from hsm.host_random import host_random
from hsm.pace import Scalars
from hsm.pin_guard import FilePinGuard, MemoryPinGuard, PinGuard, pin_digest
from hsm.profile import PROJECT, Profile
from hsm.slots import FreeSlots
from hsm.suites import AES128, Suite
from hsm.transport import CardTransport

T = TypeVar("T")
_log = logging.getLogger("smgw.hsm")
_CONNECTION_FAULTS = (MalformedResponse, UnexpectedResponse, ChannelBroken, ModuleUnavailable, OSError)

MAX_WAITING = 1024
"""Bound of the queue."""

MAX_SESSION_S = 48 * 3600.0
"""Longest life of a secure messaging session (TR-03116-3, chapter 10)."""


__all__ = [
    "FilePinGuard",
    "MemoryPinGuard",
    "ModuleSession",
    "PinGuard",
    "Priority",
    "SessionStatistics",
    "host_random",
    "pin_digest",
]


@dataclass(slots=True, eq=False)
class _Request:
    operation: Callable[[ModuleClient], Operation[Any]]
    future: asyncio.Future[Any]
    deadline: float
    repeatable: bool
    epoch: int | None
    timer: asyncio.TimerHandle | None = None
    attempts: int = 0


class ModuleSession(ModuleView):
    """`async with ModuleSession(...) as module:` connects, runs PACE and serves until the block ends.

    Args:
        transport_factory: makes a fresh transport for each connection.
        pin: the PACE-PIN, asked for at each PACE and kept nowhere.
        guard: remembers refused PINs; `FilePinGuard` in a gateway.
        clock: monotonic seconds; the event loop's if None.
        draw: random bytes for the CPU's PACE keys.
        profile, suite, curve: coding, cipher suite and domain parameters.
        deadline_s: longest wait of one call, queue and recovery included.
        lifetime_s: age at which the session is renewed once no ephemeral key is in use; at 1800 s more, or
            48 h at the latest, it is renewed in any case.
        first_pause_s, longest_pause_s: pace of reconnecting.

    Entering raises `PinRefused`, `ModuleUnavailable`, `ModuleFailed`, `CommandRefused` or another `HsmError`
    if the first session cannot be set up; after that, only a refused PIN ends the service.
    """

    def __init__(
        self,
        transport_factory: Callable[[], CardTransport],
        pin: Callable[[], bytes],
        *,
        guard: PinGuard | None = None,
        clock: Callable[[], float] | None = None,
        draw: Callable[[int], bytes] = host_random,
        profile: Profile = PROJECT,
        suite: Suite = AES128,
        curve: Curve = Curve.BRAINPOOL_P256,
        deadline_s: float = 10.0,
        lifetime_s: float = MAX_SESSION_S - 7200,
        first_pause_s: float = 0.1,
        longest_pause_s: float = 2.0,
    ) -> None:
        super().__init__(self, Priority.NORMAL, deadline_s)
        self.statistics = SessionStatistics()
        self.report: Callable[[HsmError | OSError], None] = lambda fault: None
        """Told of each fault that is repaired, or tried to be; must not raise."""
        self._transport_factory, self._pin, self._draw = transport_factory, pin, draw
        self._guard = guard or MemoryPinGuard()
        self._clock = clock
        self._profile, self._suite, self._curve = profile, suite, curve
        self._soft_life_s = lifetime_s
        self._hard_life_s = min(lifetime_s + 1800, MAX_SESSION_S - 60)
        self._first_pause_s, self._longest_pause_s = first_pause_s, longest_pause_s
        self._queue: list[tuple[int, int, _Request]] = []
        self._sequence = 0
        self._renewal: asyncio.TimerHandle | None = None
        self._current: asyncio.Future[Any] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._owner: asyncio.Task[None] | None = None
        self._transport: CardTransport | None = None
        self._channel = Channel(profile)
        self._client = ModuleClient(self._channel, profile)
        self._established_at = 0.0
        self._epoch = 0
        self._handles = 0
        self._slots = FreeSlots(profile.ephemeral_references)
        self._claimable: dict[int, Slot] = {}  # ephemeral keys nobody has begun to use up
        self._outstanding: set[Slot] = set()  # those, and the ones being used: they hold a renewal up
        self._ended: HsmError | None = None
        self._last_fault: BaseException | None = None

    def at(self, priority: Priority, deadline_s: float | None = None) -> ModuleView:
        """The same module with another priority or deadline."""
        return ModuleView(self, priority, self._deadline_s if deadline_s is None else deadline_s)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._clock is None:
            self._clock = self._loop.time
        async with asyncio.timeout(self._deadline_s) as guard:
            try:
                await self._establish()
            except BaseException:
                await self._drop()
                if guard.expired():
                    raise ModuleUnavailable("the module did not answer in time") from None
                raise
        self._owner = self._loop.create_task(self._serve(), name="hsm.session")
        self._owner.add_done_callback(self._stopped)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.cancel()
            await asyncio.wait([owner])
        self._fail_all(self._ended or ModuleUnavailable("the module session is closed"))
        await self._drop()
        if owner is not None and not owner.cancelled() and (fault := owner.exception()) is not None:
            raise fault

    async def submit(
        self,
        operation: Callable[[ModuleClient], Operation[T]],
        priority: Priority,
        deadline_s: float,
        *,
        repeatable: bool,
        epoch: int | None = None,
    ) -> T:
        """Queue an operation and wait for its result.

        Args:
            operation: makes the generator from the client of the connection then in use.
            priority: who goes first.
            deadline_s: longest wait in all.
            repeatable: run it again after a loss; else the loss is reported.
            epoch: the connection the operation belongs to, if it makes sense on no other.

        Raises:
            ModuleUnavailable: closed, or the deadline has passed.
            HsmError: whatever the operation raises.
        """
        if len(self._queue) >= MAX_WAITING:
            self._queue = [entry for entry in self._queue if not entry[2].future.done()]
            heapify(self._queue)
            if len(self._queue) >= MAX_WAITING:
                raise ModuleUnavailable("too many requests wait for the module")
        future: asyncio.Future[T] = self._push(operation, priority, deadline_s, repeatable, epoch)
        return await future

    def _push(
        self,
        operation: Callable[[ModuleClient], Operation[Any]],
        priority: int,
        deadline_s: float,
        repeatable: bool,
        epoch: int | None,
    ) -> asyncio.Future[Any]:
        if self._owner is None or self._ended is not None:
            raise self._ended or ModuleUnavailable("the module session is closed")
        loop = self._loop
        request = _Request(operation, loop.create_future(), loop.time() + deadline_s, repeatable, epoch)
        request.timer = loop.call_at(request.deadline, self._expire, request)
        self._sequence += 1
        heappush(self._queue, (priority, self._sequence, request))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        return request.future

    def _expire(self, request: _Request) -> None:
        if not request.future.done():
            why = "" if self._channel.protected or self._last_fault is None else f": {self._last_fault}"
            error = ModuleUnavailable(f"the module did not get to it before the deadline{why}")
            error.__cause__ = self._last_fault
            request.future.set_exception(error)

    async def take_slot(self, deadline_s: float) -> Slot:
        """Wait for a free ephemeral slot.

        Raises:
            ModuleUnavailable: none became free in time.
        """
        if self._ended is not None or self._owner is None:
            raise self._ended or ModuleUnavailable("the module session is closed")
        if self._slots.free:
            reference, epoch = self._slots.free.pop(), self._epoch
        else:
            waiter: asyncio.Future[tuple[int, int]] = self._loop.create_future()
            self._slots.waiters.append(waiter)
            try:
                async with asyncio.timeout(deadline_s):
                    reference, epoch = await waiter
            except (TimeoutError, asyncio.CancelledError) as reason:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self._slots.put(*waiter.result())
                if isinstance(reason, TimeoutError):
                    raise ModuleUnavailable("every ephemeral slot is taken") from None
                raise
        self._handles += 1
        slot = Slot(self._handles, reference, epoch)
        if epoch == self._epoch:
            self._claimable[slot.handle] = slot
            self._outstanding.add(slot)
        return slot

    def claim(self, handle: int) -> Slot | None:
        """The slot of a living ephemeral key, once: whoever gets it may use the key up."""
        return self._claimable.pop(handle, None)

    def release_slot(self, slot: Slot, *, erase: bool) -> None:
        """Give a slot back, after erasing its key if the card has not done so by using it."""
        self._claimable.pop(slot.handle, None)
        self._outstanding.discard(slot)
        reference, epoch = slot.reference, slot.epoch
        if epoch != self._epoch or self._owner is None or self._ended is not None:
            return
        if not erase:
            self._slots.put(reference, epoch)
            return
        erased = self._push(
            lambda client: client.delete(reference), Priority.HANDSHAKE, self._deadline_s, False, epoch
        )
        erased.add_done_callback(lambda done: self._erased(done, reference, epoch))

    def _erased(self, done: asyncio.Future[None], reference: int, epoch: int) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.warning("an ephemeral key was not erased: %s", error)
        self._slots.put(reference, epoch)

    async def _serve(self) -> None:
        """Own the card until cancelled or the PIN is refused."""
        pause = self._first_pause_s
        while True:
            if self._transport is None or self._time_left() <= 0:
                try:
                    await self._renew()
                    pause = self._first_pause_s
                except PinRefused as error:
                    self._ended = error
                    self._fail_all(error)
                    await self._drop()
                    return
                except (HsmError, OSError) as error:
                    self._last_fault = error
                    self.report(error)
                    _log.warning("security module not usable, trying again: %s", error)
                    await self._drop()
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, self._longest_pause_s)
                continue
            if not self._queue:
                self._wake = self._loop.create_future()
                await self._wake
                self._wake = None
                continue
            await self._take(*heappop(self._queue))

    async def ended(self) -> None:
        """Wait until the service has ended by itself.

        Raises:
            PinRefused: the module no longer takes the PIN.
            HsmError: it ended otherwise, or the session is not open.
        """
        if self._owner is not None:
            await asyncio.wait([self._owner])
        raise self._ended or ModuleUnavailable("the module session is closed")

    def _stopped(self, owner: asyncio.Task[None]) -> None:
        """Leave nobody waiting if the owner ends on a mistake of ours; leaving the block raises it."""
        if not owner.cancelled() and owner.exception() is not None:
            self._ended = ModuleFailed("the owner of the module stopped")
            self._fail_all(self._ended)

    def _tick(self) -> None:
        """Wake the owner when the session is due; until then, look again later."""
        if (left := self._time_left()) > 0:
            self._renewal = self._loop.call_later(left, self._tick)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _take(self, priority: int, sequence: int, request: _Request) -> None:
        """Run one request; on a fault of the connection drop it, and requeue what may be repeated."""
        if request.timer is not None:
            request.timer.cancel()
        future = request.future
        if future.done():
            return
        if request.epoch is not None and request.epoch != self._epoch:
            future.set_exception(ChannelBroken("the ephemeral key died with its session"))
            return
        request.attempts += 1
        self._current = future
        try:
            async with asyncio.timeout_at(request.deadline):
                result = await self._run(request.operation(self._client))
        except (CommandRefused, ModuleFailed) as error:
            _fail(future, error)
            return
        except (*_CONNECTION_FAULTS, TimeoutError) as fault:
            await self._lose(priority, sequence, request, fault)
            return
        except (HsmError, ValueError) as error:
            _fail(future, error)
            return
        if not future.done():
            future.set_result(result)

    async def _lose(self, priority: int, sequence: int, request: _Request, fault: HsmError | OSError) -> None:
        self._last_fault = fault
        self.report(fault)
        _log.warning("security module lost: %s", fault or "no answer before the deadline")
        await self._drop()
        if isinstance(fault, TimeoutError):
            _fail(request.future, ModuleUnavailable("the module did not answer before the deadline"))
        elif not (request.repeatable or isinstance(fault, NotDelivered)) or request.attempts > 1:
            if isinstance(fault, HsmError):
                _fail(request.future, fault)
            else:
                _fail(request.future, ModuleUnavailable(f"transport: {type(fault).__name__}"))
        else:
            request.timer = self._loop.call_at(request.deadline, self._expire, request)
            heappush(self._queue, (priority, sequence, request))

    async def _run(self, operation: Operation[T]) -> T:
        transport = self._transport
        if transport is None:
            raise ModuleUnavailable("not connected")
        wire = self._channel.run(operation)
        statistics = self.statistics
        try:
            command = next(wire)
            while True:
                statistics.apdus += 1
                command = wire.send(await transport.transmit(command))
        except StopIteration as done:
            result: T = done.value
            return result

    def _time_left(self) -> float:
        """Seconds until the session is to be renewed: a little later while an ephemeral key is in use."""
        assert self._clock is not None
        life_s = self._hard_life_s if self._outstanding else self._soft_life_s
        return self._established_at + life_s - self._clock()

    async def _renew(self) -> None:
        """Connect if there is no connection; then a new session on it."""
        async with asyncio.timeout(self._deadline_s) as guard:
            try:
                await self._establish()
            except TimeoutError:
                if guard.expired():
                    raise ModuleUnavailable("the module did not answer in time") from None
                raise

    async def _establish(self) -> None:
        pin = self._pin()
        digest = pin_digest(pin)
        if self._guard.refused(digest):
            raise PinRefused("this PACE-PIN was refused before and is not tried again", None)
        if self._transport is None:
            transport = self._transport_factory()
            self._transport = transport
            await transport.connect()
        self._forget()
        await self._run(self._client.select())
        scalars = Scalars.draw(self._curve, self._draw)
        try:
            await self._run(self._client.establish(pin, scalars, suite=self._suite, curve=self._curve))
        except PinRefused as error:
            if error.tried:
                try:
                    self._guard.note(digest)
                except OSError as fault:
                    _log.error("the refused PIN could not be remembered: %s", fault)
            raise
        assert self._clock is not None
        self._established_at = self._clock()
        self.statistics.sessions += 1
        self._renewal = self._loop.call_later(self._soft_life_s, self._tick)
        self._slots.reset(self._epoch)

    def _forget(self) -> None:
        """Leave the old session: everything volatile in the card is gone with it."""
        self._channel.close()
        self._channel = Channel(self._profile)
        self._client = ModuleClient(self._channel, self._profile)
        self._epoch += 1
        if self._renewal is not None:
            self._renewal.cancel()
        self._claimable.clear()
        self._outstanding.clear()
        self._slots.clear()

    async def _drop(self) -> None:
        transport, self._transport = self._transport, None
        self._forget()
        if transport is not None:
            try:
                await transport.close()
            except (HsmError, OSError) as error:
                _log.info("closing the card connection: %s", error)

    def _fail_all(self, error: HsmError) -> None:
        queue, self._queue = self._queue, []
        for _, _, request in queue:
            if request.timer is not None:
                request.timer.cancel()
            _fail(request.future, error)
        if self._current is not None:
            _fail(self._current, error)
        for waiter in self._slots.waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._slots.waiters.clear()


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
