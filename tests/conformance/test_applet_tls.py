"""Mutual TLS whose client key lives in the applet: OpenSSL asks, the card signs and agrees."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hsm.api import CertificateUse, Curve
from hsm.session import ModuleSession
from hsm.tls import TlsContext, connect, serve
from tests.support.applet import PIN, TcpTransport, built, require_tools
from tests.support.pki import DEFAULT_NAMES, TLS_PURPOSES, pyca_key, tree
from tests.unit.hsm.tls_sides import SLOT, echo, profile, side
from tools.counterparts.applet_card import AppletCard

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

CURVE = Curve.BRAINPOOL_P256
AT_ONCE = 12  # more than the card has ephemeral slots


async def test_handshakes_with_keys_in_the_applet(tmp_path: Path) -> None:
    here = tree(CURVE)
    with AppletCard(await asyncio.to_thread(built), tmp_path / "card", pin=PIN) as card:
        async with ModuleSession(lambda: TcpTransport(card.port), lambda: PIN, deadline_s=30) as module:
            key = pyca_key(await module.generate_key_pair(SLOT, CURVE))
            leaf = here.sub.build(
                "ESGW0100000001.SMGW",
                key,
                use=CertificateUse.TLS,
                names=DEFAULT_NAMES,
                purposes=TLS_PURPOSES,
            )
            context = TlsContext(
                profile(CURVE),
                module,
                asyncio.get_running_loop(),
                slot=SLOT,
                chain=[leaf, here.sub.certificate],
                anchors=here.anchors,
            )
            server = await side(CURVE, server=True)
            async with serve(server.context, echo, "127.0.0.1", 0) as listener:

                async def handshake(number: int) -> bool:
                    stream = await connect(context, "127.0.0.1", listener.port, server_name="localhost")
                    message = bytes((number,)) * 100
                    await stream.write(message)
                    back = await stream.readexactly(len(message))
                    await stream.close()
                    return back == message

                assert all(await asyncio.gather(*(handshake(number) for number in range(AT_ONCE))))
            assert module.statistics.sessions == 1
