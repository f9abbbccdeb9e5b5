"""An administrator beside its supplier: no line between them."""

from __future__ import annotations

from tests.unit.dcnet.support import NET
from tools.counterparts.net_witness import NetWitness


class Direct:
    """A `Countersigner` that asks a witness in the same process."""

    def __init__(self, witness: NetWitness) -> None:
        self._witness = witness

    async def commit(self, version: int) -> bytes:
        return await self._witness.commit(NET.hex(), version)

    async def countersign(self, draft: bytes) -> bytes:
        return await self._witness.countersign(NET.hex(), draft)

    async def authorise(self, version: int) -> bytes:
        return await self._witness.authorise(NET.hex(), version)

    async def cosign(self, signed: bytes) -> bytes:
        return await self._witness.cosign(NET.hex(), signed)

    async def faults(self, report: bytes) -> bytes:
        return await self._witness.faults(NET.hex(), report)

    async def reveal(self, version: int) -> bytes:
        return await self._witness.reveal(NET.hex(), version)

    async def revoked(self) -> bytes:
        return await self._witness.revoked(NET.hex())
