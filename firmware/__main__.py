"""`smgwd`: the gateway alone. Arguments, signals, exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from firmware import config
from firmware.errors import ConfigurationRefused, Decommissioned, FirmwareError
from firmware.life.systemd.client import ServiceManager, Watchdog
from firmware.log import diagnostics
from firmware.log.audit import code, text
from hsm.errors import HsmError, ModuleUnavailable

_LOG = logging.getLogger("smgw.firmware")
_OK: Final = 0
_FAILED: Final = 1
_REFUSED_CONFIGURATION: Final = 3
_LOOK_AGAIN_S: Final = 5.0
"""Between two looks for a security module that is away."""


async def _serve(settings: config.GatewayConfig, manager: ServiceManager) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    watchdog = loop.create_task(Watchdog(manager).run(), name=Watchdog.name)
    try:
        while not stopped.is_set():
            try:
                await _live(settings, manager, stopped)
                return
            except ModuleUnavailable as fault:
                # Without it the stores cannot be opened; whoever puts it back needs to do nothing else.
                _LOG.error(
                    "the security module is away: %s; looked for again in %g s", text(fault), _LOOK_AGAIN_S
                )
                manager.tell("READY=1", "STATUS=waiting for the security module")
                await _wait(settings, stopped)
    finally:
        watchdog.cancel()


async def _live(settings: config.GatewayConfig, manager: ServiceManager, stopped: asyncio.Event) -> None:
    """One life, from open stores to closed ones.

    Raises:
        ModuleUnavailable: it could not begin.
    """
    from firmware.boot import open_gateway  # after the configuration was read: a typo is told at once

    loop = asyncio.get_running_loop()
    async with open_gateway(settings) as gateway:
        _LOG.info("gateway %s is up", gateway.gateway_id)
        manager.tell("READY=1", f"STATUS=gateway {gateway.gateway_id} is up")
        serving = loop.create_task(gateway.run(), name="gateway")
        waiting = loop.create_task(stopped.wait(), name="signals")
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        manager.tell("STOPPING=1")
        if not serving.done():
            _LOG.info("stopping")
            serving.cancel()
            await asyncio.wait((serving,))
        if not serving.cancelled() and (fault := serving.exception()) is not None:
            raise _Stopped from fault
    _LOG.info("gateway %s is down", settings.gateway.id.lower())


class _Stopped(Exception):
    """The running gateway stopped by itself; the cause says why. Not one that could not begin."""


async def _wait(settings: config.GatewayConfig, stopped: asyncio.Event) -> None:
    """Let the control socket say what is missing until it is time to try again, or to stop."""
    from firmware.life.control import SOCKET, Control, Request

    async def waiting(_request: Request) -> dict[str, Any]:
        return {
            "status": {
                "gateway": settings.gateway.id.lower(),
                "state": "starting",
                "causes": [{"cause": "module-lost", "text": "the security module is away"}],
            }
        }

    control = Control(settings.gateway.state / SOCKET, None, {"status": waiting})
    serving = asyncio.ensure_future(control.run())
    try:
        async with asyncio.timeout(_LOOK_AGAIN_S):
            await stopped.wait()
    except TimeoutError:
        return
    finally:
        serving.cancel()
        await asyncio.wait((serving,))
        if not serving.cancelled() and serving.exception() is not None:
            _LOG.warning("no control socket: %s", text(serving.exception() or OSError()))


def _over(error: BaseException) -> bool:
    """Whether the gateway stopped because its life is over."""
    if isinstance(error, BaseExceptionGroup):
        return all(_over(part) for part in error.exceptions)
    return isinstance(error, Decommissioned)


def _leave_no_core() -> None:
    """See to it that a crash writes no memory to the disk: PIN, keys and readings are in it.

    One byte and not none: it is less than any core has, and where cores go to a program (systemd-coredump)
    the kernel takes this one value for "no core". Source: Linux, core(5), fs/coredump.c.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    only = 1 if most == resource.RLIM_INFINITY else min(1, most)
    resource.setrlimit(resource.RLIMIT_CORE, (only, only))


def main(arguments: Sequence[str] | None = None, *, program: str = "smgwd") -> int:
    """Run the gateway until it is told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog=program, description="Smart Meter Gateway emulator: the gateway.")
    parser.add_argument("-c", "--config", required=True, type=Path, metavar="DIR/gateway.toml")
    path: Path = parser.parse_args(arguments).config
    _leave_no_core()
    try:
        settings = config.load(path)
    except ConfigurationRefused as refused:
        print(refused, file=sys.stderr)
        return _REFUSED_CONFIGURATION
    diagnostics.configure(settings.log.level)
    try:
        asyncio.run(_serve(settings, ServiceManager(os.environ)))
    except ConfigurationRefused as refused:
        print(refused, file=sys.stderr)
        return _REFUSED_CONFIGURATION
    except (HsmError, FirmwareError, OSError, BaseExceptionGroup, _Stopped) as raised:
        error = raised.__cause__ if isinstance(raised, _Stopped) and raised.__cause__ is not None else raised
        if _over(error):
            _LOG.warning("%s", text(error))
            return _OK
        _LOG.critical("the gateway stops: %s: %s", code(error), text(error))
        return _FAILED
    return _OK


if __name__ == "__main__":
    sys.exit(main())
