"""From a handshake's worker thread to the security module on the event loop, and back. No rule of TLS."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import get_ident
from typing import Any, Final, TypeVar

from hsm.api import Curve, EphemeralKey, KeySlot, SecurityModule
from hsm.errors import HsmError, ModuleFailed, ModuleUnavailable
from hsm.tls.rand import HELLO_BYTES
from hsm.x509.signature import plain_to_der

T = TypeVar("T")
EventLoop = asyncio.AbstractEventLoop
_log = logging.getLogger("smgw.hsm")

HANDSHAKES_AT_ONCE: Final = 16
"""Per context. Each may wait for one of the module's few ephemeral slots in a thread of its own."""
_GRACE_S: Final = 5.0
"""How much longer than the deadline a thread waits; reached only if the loop has died."""
_RANDOM_BYTES: Final = 256
"""What one command fetches: enough for the hellos of four connections."""
_DISCARDS: Final[set[asyncio.Task[None]]] = set()
"""Keeps tasks alive that may outlive the connection they work for."""


class ModuleBridge:
    """The security module of one TLS context, as its connections use it."""

    def __init__(self, module: SecurityModule, loop: EventLoop, deadline_s: float) -> None:
        self.admission = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        self._module, self._loop, self._deadline_s = module, loop, deadline_s
        self._hellos: deque[bytes] = deque(maxlen=HANDSHAKES_AT_ONCE)

    def open(self) -> ModuleCalls:
        """Return what one connection uses; to be called on the event loop."""
        return ModuleCalls(self._module, self._loop, self._deadline_s, self._hellos)


class ModuleCalls:
    """The module as one connection's worker thread sees it: calls that block, for a limited time.

    The task on the loop alone decides how a call ends, so that an ephemeral key which the module has
    made always reaches OpenSSL and is discarded with it, even if the connection is given up meanwhile.
    """

    def __init__(
        self, module: SecurityModule, loop: EventLoop, deadline_s: float, hellos: deque[bytes]
    ) -> None:
        self._module, self._loop, self._deadline_s = module, loop, deadline_s
        self._hellos = hellos
        self.hello: bytes | None = hellos.popleft() if hellos else None
        """Random bytes of the module for this connection's hello, if they are at hand."""
        self._ready: EphemeralKey | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unused: dict[int, EphemeralKey] = {}
        """Ephemeral keys that were made and neither agreed nor discarded, by identity."""
        self._aborted = False
        self._loop_thread = get_ident()

    async def prepare(self, curve: Curve | None) -> None:
        """Fetch ahead, on the event loop, what a client's first step will want; cheaper than from a thread.

        Args:
            curve: of the key pair that `generate` is then to hand out at once; None: none will be wanted.
        """
        if self.hello is None:
            self.hello = self._portion(await self._module.random(_RANDOM_BYTES))
        if curve is not None:
            self._ready = self._made(await self._module.generate_ephemeral(curve))

    def dismiss(self) -> None:
        """Give back what was made ahead and nobody took."""
        ready, self._ready = self._ready, None
        if ready is not None:
            self.discard(ready)

    def fetch_hello(self) -> bytes:
        """Random bytes for this connection's hello, whatever it takes; of the next connections as well."""
        if self.hello is None:
            self.hello = self._portion(self._call(lambda: self._module.random(_RANDOM_BYTES)))
        return self.hello

    def _portion(self, drawn: bytes) -> bytes:
        if len(drawn) != _RANDOM_BYTES:  # or the CPU's would fill the hello up, unseen
            raise ModuleFailed(f"{len(drawn)} random bytes from the module instead of {_RANDOM_BYTES}")
        first, *others = (drawn[at : at + HELLO_BYTES] for at in range(0, _RANDOM_BYTES, HELLO_BYTES))
        self._hellos.extend(others)
        return first

    def sign(self, slot: KeySlot, curve: Curve, digest: bytes) -> bytes:
        """See `KeyModule`."""
        return plain_to_der(self._call(lambda: self._module.sign(slot, digest)), curve)

    def generate(self, curve: Curve) -> EphemeralKey:
        """See `KeyModule`."""
        ready, self._ready = self._ready, None
        if ready is not None:
            if ready.public.curve is curve:
                return ready
            self.discard(ready)
        return self._made(self._call(lambda: self._module.generate_ephemeral(curve)))

    def _made(self, key: EphemeralKey) -> EphemeralKey:
        self._unused[id(key)] = key
        return key

    def agree(self, key: EphemeralKey, peer_point: bytes) -> bytes:
        """See `KeyModule`."""
        try:
            return self._call(lambda: self._module.agree_ephemeral(key, peer_point))
        except ModuleUnavailable:
            self.discard(key)  # the call may never have reached the module; erasing twice is no error
            raise
        finally:
            self._unused.pop(id(key), None)

    def discard(self, key: EphemeralKey) -> None:
        """See `KeyModule`."""
        if self._unused.pop(id(key), None) is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._begin_discard, key)
        except RuntimeError:
            _log.debug("ephemeral key left to the module: the event loop is closed")

    def settle(self) -> None:
        """The handshake is over: give back what OpenSSL made for it and holds until the connection ends.

        A key share for TLS 1.3, say, that a peer with TLS 1.2 had no use for; the module has few places.
        """
        for key in tuple(self._unused.values()):
            self.discard(key)

    def _begin_discard(self, key: EphemeralKey) -> None:
        task = self._loop.create_task(self._discard(key))
        _DISCARDS.add(task)
        task.add_done_callback(_DISCARDS.discard)

    async def _discard(self, key: EphemeralKey) -> None:
        try:
            await self._module.discard_ephemeral(key)
        except HsmError as error:
            _log.debug("ephemeral key not discarded: %s", error)

    def abort(self) -> None:
        """End what is under way and refuse what comes; to be called on the event loop."""
        self._aborted = True
        for task in tuple(self._tasks):
            task.cancel()

    def _call(self, operation: Callable[[], Awaitable[T]]) -> T:
        assert get_ident() != self._loop_thread, "a blocking call in the event loop's own thread"
        future: Future[T] = Future()
        try:
            self._loop.call_soon_threadsafe(self._begin, operation, future)
        except RuntimeError as error:
            raise ModuleUnavailable("the event loop is closed") from error
        try:
            return future.result(self._deadline_s + _GRACE_S)
        except TimeoutError as error:
            raise ModuleUnavailable("the event loop does not answer") from error

    def _begin(self, operation: Callable[[], Awaitable[T]], future: Future[T]) -> None:
        if self._aborted:
            future.set_exception(ModuleUnavailable("the connection was given up"))
            return
        task = self._loop.create_task(self._limited(operation, future))
        self._tasks.add(task)

        def ended(_task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():  # perhaps before its first step, so only here is sure to be reached
                future.set_exception(ModuleUnavailable("the connection was given up"))
            elif (error := task.exception()) is not None:
                future.set_exception(error)

        task.add_done_callback(ended)

    async def _limited(self, operation: Callable[[], Awaitable[T]], future: Future[T]) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                result = await operation()
        except TimeoutError as error:
            raise ModuleUnavailable(f"no answer within {self._deadline_s:g} s") from error
        future.set_result(result)  # here and not when the task has ended: the thread goes on a round sooner
