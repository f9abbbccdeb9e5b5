"""The whole chain: applet in jCardSim, vpcd, a private pcscd, pyscard, the gateway's session."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hsm.api import Curve, KeySlot
from hsm.session import ModuleSession
from hsm.x509 import verify
from tests.support.applet import PIN, built, require_tools
from tools.counterparts.applet_card import AppletCard

pcsc = pytest.importorskip("hsm.pcsc", reason="PC/SC is not built yet")
require_tools()

from tests.support.reader import needs_pcsc, pcsc_daemon  # noqa: E402
from tools.counterparts.pcscd import free_pair  # noqa: E402

pytestmark = [needs_pcsc, pytest.mark.timeout(900)]

READER = "smgw 00 00"


async def test_the_gateway_reaches_the_applet_through_pcscd(tmp_path: Path) -> None:
    build = await asyncio.to_thread(built)
    port = free_pair()
    with pcsc_daemon(f"/dev/null:{port}"):
        # vpcd listens when somebody first asks pcscd; the card calls until then.
        await pcsc.list_readers()
        card = AppletCard(build, tmp_path / "card", pin=PIN, reader_port=port)
        await asyncio.to_thread(card.start)
        try:
            while not any(reader.atr for reader in await pcsc.list_readers()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # pcscd looks every 0.4 s, and tells nobody
            async with ModuleSession(lambda: pcsc.PcscTransport(READER), lambda: PIN) as module:
                key = await module.generate_key_pair(KeySlot.WAN_TLS, Curve.BRAINPOOL_P256)
                digest = bytes(range(32))
                for _ in range(5):
                    assert verify(key, digest, await module.sign(KeySlot.WAN_TLS, digest))
        finally:
            await asyncio.to_thread(card.stop)
