"""TLS handshakes with the client key in the emulated card: forty at once queue, 500 leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.api import Curve
from hsm.emulator.card import Card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from hsm.tls import TlsContext, TlsEngine, connect, serve
from tests.support.card import PIN, make_card
from tests.support.pki import tree
from tests.support.soft_module import CURVES
from tests.unit.hsm.tls_sides import SLOT, echo, profile, pump, side

CURVE = Curve.BRAINPOOL_P256
ALLOWED_BYTES = 3 << 20
"""Over 450 handshakes; one lost key object or session in each would be more."""


@dataclass(frozen=True)
class InModule:
    """What a certificate is made of, when only the public half is at hand."""

    public: ec.EllipticCurvePublicKey

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.public


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[ModuleSession, Card, TlsContext]]:
    """A client's context with its key in an emulated card."""
    card, _ = make_card()
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: PIN, deadline_s=20) as module:
        key = await module.generate_key_pair(SLOT, CURVE)
        public = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[CURVE], key.point)
        here = tree(CURVE)
        yield (
            module,
            card,
            TlsContext(
                profile(CURVE),
                module,
                asyncio.get_running_loop(),
                slot=SLOT,
                chain=here.tls(InModule(public)),  # type: ignore[arg-type]  # asks for the public half only
                anchors=here.anchors,
            ),
        )


async def test_forty_handshakes_at_once_queue_for_eight_slots() -> None:
    """Over real connections, to one peer; each gets its turn and its own echo."""
    server = await side(CURVE, server=True)
    async with gateway() as (module, card, client), serve(server.context, echo, "127.0.0.1", 0) as listener:
        sessions = module.statistics.sessions

        async def one(number: int) -> bytes:
            stream = await connect(client, "127.0.0.1", listener.port, server_name="localhost")
            await stream.write(bytes((number,)) * 100)
            got = await stream.readexactly(100)
            await stream.close()
            return got

        got = await asyncio.gather(*(one(number) for number in range(40)))
        assert got == [bytes((number,)) * 100 for number in range(40)]
        assert module.statistics.sessions == sessions
        assert not card._context.keys._ephemeral


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_five_hundred_handshakes_do_not_grow() -> None:
    server = await side(CURVE, server=True)
    async with gateway() as (module, card, client):
        before = 0
        for number in range(500):
            engines = TlsEngine(client, server_name="localhost"), TlsEngine(server.context)
            await pump(*engines)
            for engine in engines:
                engine.close()
            if number == 50:
                before = resident_bytes()
        assert resident_bytes() - before < ALLOWED_BYTES
        assert module.statistics.sessions == 1
        assert not card._context.keys._ephemeral
