"""Keeps services running: known faults restart a service, paced; anything else stops the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol

from firmware.errors import Decommissioned, FirmwareError
from hsm.errors import HsmError, PinRefused
from lmn.errors import LmnError
from wan.errors import WanError

MIN_RUN_S: Final = 5.0
"""A service starts at most once in this time, however fast it fails."""
FAULTS: Final = (HsmError, LmnError, WanError, FirmwareError, OSError)
"""What a service may fail with and be started again; OSError includes TimeoutError."""
STOPS: Final = (PinRefused, Decommissioned)
"""Faults that stop the gateway all the same: a PIN once refused is never tried again until it changes, and a
gateway whose life is over does not run."""

Report = Callable[[str, BaseException], None]
"""Told of each fault: name of the service, what it raised. Must not raise."""


class Service(Protocol):
    """Something that runs for as long as the gateway does."""

    @property
    def name(self) -> str:
        """How logs call it, e.g. "lmn.wmbus"."""

    async def run(self) -> None:
        """Serve until cancelled; raise on a fault."""


class ServiceEnded(FirmwareError):
    """A service returned although nobody had cancelled it."""


def is_known_fault(error: BaseException) -> bool:
    """Whether a service that failed with `error` is started again; a group is known if all of it is."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_known_fault(part) for part in error.exceptions)
    return isinstance(error, FAULTS) and not isinstance(error, STOPS)


async def supervise(service: Service, report: Report, *, min_run_s: float = MIN_RUN_S) -> None:
    """Run `service` for ever, restarting it at most once per `min_run_s` after a known fault.

    Raises:
        BaseException: whatever the service raised and `is_known_fault` does not know.
    """
    now = asyncio.get_running_loop().time
    while True:
        earliest_restart = now() + min_run_s
        try:
            await service.run()
            report(service.name, ServiceEnded(f"{service.name} ended by itself"))
        except (*FAULTS, BaseExceptionGroup) as fault:
            if not is_known_fault(fault):
                raise
            report(service.name, fault)
        await asyncio.sleep(earliest_restart - now())


async def run_gateway(services: Iterable[Service], report: Report, *, min_run_s: float = MIN_RUN_S) -> None:
    """Run all services until cancelled or until one fails with something unknown.

    Raises:
        BaseExceptionGroup: holds what the service raised; all others were cancelled and have ended.
    """
    async with asyncio.TaskGroup() as gateway:
        for service in services:
            gateway.create_task(supervise(service, report, min_run_s=min_run_s), name=service.name)


class ServiceGroup:
    """A service that runs other services, which may come and go while it runs.

    A member that fails with something unknown ends the group with it.
    """

    def __init__(self, name: str, report: Report) -> None:
        self.name, self._report = name, report
        self._members: dict[str, Service] = {}
        self._running: dict[str, tuple[Service, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()

    def replace(self, members: Mapping[str, Service]) -> None:
        """Run exactly `members` from now on; those that run already and are the same objects run on."""
        self._members = dict(members)
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            BaseExceptionGroup: a member raised something that is no known fault.
        """
        self._running.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for key, (service, task) in list(self._running.items()):
                    if self._members.get(key) is not service:
                        task.cancel()
                        await asyncio.wait((task,))  # its successor may use the same key, store or port
                        del self._running[key]
                for key, service in self._members.items():
                    if key not in self._running:
                        task = group.create_task(supervise(service, self._report), name=service.name)
                        self._running[key] = (service, task)
                await self._changed.wait()


class Reporter:
    """A `Report` that hands each fault to something that must be awaited, such as a journal. A service.

    Faults wait in a bounded queue; when it is full the newest is counted in `dropped` and let go, so
    that a flood of faults cannot fill the memory.
    """

    name = "firmware.supervisor"

    def __init__(self, note: Callable[[str, BaseException], Awaitable[None]], capacity: int = 256) -> None:
        self._note = note
        self._faults: asyncio.Queue[tuple[str, BaseException]] = asyncio.Queue(capacity)
        self._taken: tuple[str, BaseException] | None = None
        self.dropped = 0

    def __call__(self, service: str, fault: BaseException) -> None:
        """Take a fault; never waits, never raises."""
        try:
            self._faults.put_nowait((service, fault))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Hand on faults, in order, until cancelled; one whose note failed comes first at the next start.

        Raises:
            Exception: whatever the note failed with.
        """
        while True:
            if self._taken is None:
                self._taken = await self._faults.get()
            await self._note(*self._taken)
            self._taken = None

    async def drain(self) -> None:
        """Hand on what is still waiting; for the orderly stop."""
        while self._taken is not None or not self._faults.empty():
            await self._note(*(self._taken or self._faults.get_nowait()))
            self._taken = None


class Gated:
    """A service that runs only while the operating state allows its function.

    Args:
        service: runs inside; its faults pass through.
        allowed: whether it may run now.
        watch: has a callable called whenever that may have changed.
    """

    def __init__(
        self,
        service: Service,
        allowed: Callable[[], bool],
        watch: Callable[[Callable[[], None]], None],
    ) -> None:
        self.name, self.service = service.name, service
        self._allowed = allowed
        self._changed = asyncio.Event()
        watch(self._changed.set)

    async def run(self) -> None:
        """Run the service while it is allowed, wait while it is not, until cancelled."""
        while True:
            self._changed.clear()
            if not self._allowed():
                await self._changed.wait()
                continue
            serving = asyncio.ensure_future(self.service.run())
            try:
                while self._allowed() and not serving.done():
                    changed = asyncio.ensure_future(self._changed.wait())
                    try:
                        await asyncio.wait((serving, changed), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        changed.cancel()
                    self._changed.clear()
            finally:
                if not serving.done():
                    serving.cancel()
                await asyncio.wait((serving,))
                fault = None if serving.cancelled() else serving.exception()
            if fault is not None:
                raise fault
            if not serving.cancelled():
                return
