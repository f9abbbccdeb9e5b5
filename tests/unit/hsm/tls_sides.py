"""Sides of TLS connections for the tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hsm.api import CertificateUse, Curve, KeySlot
from hsm.tls import TlsContext, TlsEngine, TlsProfile, TlsStream
from hsm.x509 import Certificate
from tests.support.pki import DEFAULT_NAMES, Tree, tree
from tests.support.soft_module import SoftModule

SLOT = KeySlot.WAN_TLS


@dataclass(frozen=True)
class Side:
    context: TlsContext
    module: SoftModule
    chain: list[Certificate]


def profile(curve: Curve, **changes: Any) -> TlsProfile:
    return TlsProfile(**{"name": "test", "curves": (curve,), "handshake_limit_s": 20.0, **changes})


async def side(
    curve: Curve = Curve.P256,
    *,
    server: bool = False,
    module: SoftModule | None = None,
    rules: TlsProfile | None = None,
    pki: Tree | None = None,
    anchors: Iterable[Certificate] | None = None,
    names: Iterable[str] = DEFAULT_NAMES,
    use: CertificateUse = CertificateUse.TLS,
    serial: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    **settings: Any,
) -> Side:
    """A context whose key is fresh in a software module."""
    here = pki or tree(curve)
    module = module or SoftModule()
    await module.generate_key_pair(SLOT, curve)
    chain = here.tls(
        module.keys[SLOT], names=names, use=use, serial=serial, not_before=not_before, not_after=not_after
    )
    context = TlsContext(
        rules or profile(curve),
        module,
        asyncio.get_running_loop(),
        slot=SLOT,
        chain=chain,
        anchors=here.anchors if anchors is None else anchors,
        server=server,
        **settings,
    )
    return Side(context, module, chain)


async def pump(one: TlsEngine, other: TlsEngine) -> None:
    """Run a handshake between two engines in memory; raises what either of them raises."""
    loop = asyncio.get_running_loop()
    for _ in range(12):
        for engine, peer in ((one, other), (other, one)):
            try:
                if not engine.finished:
                    await loop.run_in_executor(None, engine.handshake)
            finally:
                while data := engine.outgoing():
                    peer.feed(data)
        if one.finished and other.finished:
            return
    raise AssertionError("handshake does not end")


async def pair(client: Side, server: Side, name: str = "localhost") -> tuple[TlsEngine, TlsEngine]:
    """Two engines after their handshake."""
    engines = TlsEngine(client.context, server_name=name), TlsEngine(server.context)
    await pump(*engines)
    return engines


def transfer(sender: TlsEngine, receiver: TlsEngine, data: bytes) -> bytes:
    """What arrives of `data`."""
    sender.write(data)
    while cipher := sender.outgoing():
        receiver.feed(cipher)
    got = bytearray()
    while len(got) < len(data) and (part := receiver.read(65536)):
        got += part
    return bytes(got)


async def echo(stream: TlsStream) -> None:
    while data := await stream.read():
        await stream.write(data)
