"""500 TLS handshakes whose client key is in the emulated card: nothing grows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.api import Curve
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from hsm.tls import TlsContext, TlsEngine
from tests.support.card import PIN, make_card
from tests.support.pki import tree
from tests.support.soft_module import CURVES
from tests.unit.hsm.tls_sides import SLOT, profile, pump, side

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


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_five_hundred_handshakes_do_not_grow() -> None:
    card, _ = make_card()
    server = await side(CURVE, server=True)
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module:
        key = await module.generate_key_pair(SLOT, CURVE)
        public = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[CURVE], key.point)
        here = tree(CURVE)
        client = TlsContext(
            profile(CURVE),
            module,
            asyncio.get_running_loop(),
            slot=SLOT,
            chain=here.tls(InModule(public)),  # type: ignore[arg-type]  # asks for the public half only
            anchors=here.anchors,
        )
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
