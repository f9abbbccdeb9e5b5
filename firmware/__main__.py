"""`smgwd`: the gateway alone. Arguments, signals, exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from firmware import config
from firmware.errors import ConfigurationRefused, FirmwareError
from firmware.log import diagnostics
from firmware.log.audit import code, text
from hsm.errors import HsmError

_LOG = logging.getLogger("smgw.firmware")
_OK: Final = 0
_FAILED: Final = 1
_REFUSED_CONFIGURATION: Final = 3


async def _serve(settings: config.GatewayConfig) -> None:
    from firmware.boot import open_gateway  # after the configuration was read: a typo is told at once

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with open_gateway(settings) as gateway:
        _LOG.info("gateway %s is up", gateway.gateway_id)
        serving = loop.create_task(gateway.run(), name="gateway")
        waiting = loop.create_task(stopped.wait(), name="signals")
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not serving.done():
            _LOG.info("stopping")
            serving.cancel()
            await asyncio.wait((serving,))
        if not serving.cancelled() and (fault := serving.exception()) is not None:
            raise fault
    _LOG.info("gateway %s is down", settings.gateway.id.lower())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateway until it is told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="smgwd", description="Smart Meter Gateway emulator: the gateway.")
    parser.add_argument("-c", "--config", required=True, type=Path, metavar="DIR/gateway.toml")
    path: Path = parser.parse_args(arguments).config
    try:
        settings = config.load(path)
    except ConfigurationRefused as refused:
        print(refused, file=sys.stderr)
        return _REFUSED_CONFIGURATION
    diagnostics.configure(settings.log.level)
    try:
        asyncio.run(_serve(settings))
    except ConfigurationRefused as refused:
        print(refused, file=sys.stderr)
        return _REFUSED_CONFIGURATION
    except (HsmError, FirmwareError, OSError, BaseExceptionGroup) as error:
        _LOG.critical("the gateway stops: %s: %s", code(error), text(error))
        return _FAILED
    return _OK


if __name__ == "__main__":
    sys.exit(main())
