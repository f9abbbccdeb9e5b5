"""What 500 TLS handshakes with the key in the emulated card leave in memory, beside asyncio's own TLS."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hsm.api import Curve
from hsm.emulator import load_card
from hsm.emulator.personalise import new_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from hsm.tls import TlsVersion
from tools.bench.figure import Figure
from tools.bench.tls import BenchPki, Link, asyncio_opener, handshake, module_opener, peer

HANDSHAKES: Final = 500
BAR_KIB: Final = 1024.0
"""Two KiB a handshake: a key, a session or a thread lost in each would be more."""
_WARM: Final = 100
_CURVE, _VERSION = Curve.P256, TlsVersion.TLS12
_PIN: Final = b"0123456789"


async def run(rounds: int) -> list[Figure]:
    """Measure; always 500 handshakes, however many rounds."""
    return [await growth(HANDSHAKES, _WARM)]


async def growth(handshakes: int, warm: int) -> Figure:
    """Growth of resident memory over `handshakes` connections after `warm` others, each opened and closed."""
    with tempfile.TemporaryDirectory(prefix="smgw-") as name:
        folder = Path(name)
        new_card(folder / "card", _PIN)
        card = load_card(folder / "card")
        pki = BenchPki(_CURVE)
        for side in ("client", "server"):
            pki.into_folder(folder / side)
        async with (
            ModuleSession(lambda: EmulatorTransport(card), lambda: _PIN) as module,
            peer(folder / "server", _CURVE, _VERSION) as port,
        ):
            theirs = asyncio_opener(folder / "client", _CURVE, _VERSION, port)
            ours = await module_opener(module, pki, _CURVE, _VERSION, port)
            beside = await _growth_kib(theirs, handshakes, warm)
            return Figure(
                f"growth over {handshakes} TLS handshakes",
                await _growth_kib(ours, handshakes, warm),
                "KiB",
                BAR_KIB,
                reference="asyncio, key file",
                reference_value=beside,
            )


async def _growth_kib(start: Callable[[], Awaitable[Link]], handshakes: int, warm: int) -> float:
    for _ in range(warm):
        await handshake(start)
    before = _resident_kib()
    for _ in range(handshakes):
        await handshake(start)
    return _resident_kib() - before


def _resident_kib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024
