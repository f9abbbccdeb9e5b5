"""What a supplier bloats is not taken: what a gateway keeps of it must be read again after a restart."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from firmware.enforcement.dcnet.messages.manifest import Manifest, ManifestReply
from firmware.enforcement.dcnet.messages.reports import Charge
from firmware.enforcement.dcnet.service.conduct import MAX_WAITING, MAX_WAITING_BYTES, Conduct
from firmware.enforcement.dcnet.slot.ledger import Ledger
from tests.support.instant_loop import run
from tests.unit.dcnet.running_net import RunningNet
from tests.unit.dcnet.support import NET, MemoryStore, NamedSignatures, rules


def _bloated(resource: str, body: bytes, lies: bool) -> bytes:
    """The same manifest, or one that names another past, under a signature of three megabytes."""
    if "/manifest/" not in resource or "/epoch/" in resource or not body:
        return body
    reply = ManifestReply.from_bytes(body)
    signer, _, content = reply.signed.partition(b"|")
    if lies:
        content = replace(Manifest.from_bytes(content), previous=bytes(32)).to_bytes()
    return ManifestReply(signer + b"#" + bytes(3 << 20) + b"|" + content, reply.siblings).to_bytes()


@pytest.mark.parametrize("n_max", [64, 4096])
def test_manifests_of_megabytes_do_not_end_a_membership(n_max: int) -> None:
    """Two of them were kept as a proof that was too large to be read: no restart brought the gateway back."""

    async def main() -> None:
        async with RunningNet(n_max=n_max) as net:
            home, slot = net.homes[0], net.first
            for lies in (False, True):
                home.alter = partial(_bloated, lies=lies)
                await net.contribute(slot)
                await net.until(slot, 40)
                slot += 1
            await net.until(slot, 0)
            home.alter = lambda _resource, body: body
            await net.restart(home)
            for late in range(slot + 1, slot + 3):
                await net.contribute(late)
            await net.until(slot + 3, 0)
            assert home.task is not None
            assert not home.task.done()
            assert net.totals()[slot + 2]["members"] == [one.name for one in net.homes]

    run(main())


async def test_what_waits_to_be_told_is_bounded_in_bytes_and_can_be_read_again() -> None:
    ledger: Any = Ledger(MemoryStore(), NET)

    async def tell(*_event: object) -> None: ...

    def conduct() -> Conduct:
        client: Any = None  # nothing is brought away here
        return Conduct(
            rules(),
            client=client,
            ledger=ledger,
            signatures=NamedSignatures("gw1"),
            tell=tell,
            log=logging.LoggerAdapter(logging.getLogger("test")),
        )

    first = conduct()
    for number in range(MAX_WAITING):
        await first._complain(Charge.LEFT_OUT, (bytes([number]) * 100_000,))
        await asyncio.sleep(0)
    again = conduct()
    await again.load()
    assert sum(len(one[3]) for one in again._waiting) <= MAX_WAITING_BYTES
    assert bytes([MAX_WAITING - 1]) * 100_000 in again._waiting[-1][3]
    assert len(again._waiting) == 10
