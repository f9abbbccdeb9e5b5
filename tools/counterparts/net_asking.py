"""Administrators, asked and told nothing before what it follows from is durable. See `net_journal`."""

from __future__ import annotations

from collections.abc import Mapping

from tools.counterparts.net_conduct import Overseer
from tools.counterparts.net_founding import Countersigner
from tools.counterparts.net_journal import Journal


class DurablyAsked:
    """A `Countersigner` that writes first."""

    def __init__(self, one: Countersigner, journal: Journal) -> None:
        """Ask `one` once all that was changed before is in `journal`."""
        self._one, self._journal = one, journal

    async def commit(self, version: int) -> bytes:
        """Ask for the commitment to a nonce."""
        await self._journal.sync_patiently()
        return await self._one.commit(version)

    async def countersign(self, draft: bytes) -> bytes:
        """Ask for a countersignature."""
        await self._journal.sync_patiently()
        return await self._one.countersign(draft)

    async def reveal(self, version: int) -> bytes:
        """Ask for the nonce."""
        await self._journal.sync_patiently()
        return await self._one.reveal(version)

    async def authorise(self, version: int) -> bytes:
        """Ask whom its gateways may share keys with."""
        await self._journal.sync_patiently()
        return await self._one.authorise(version)

    async def cosign(self, signed: bytes) -> bytes:
        """Ask for a co-signature of a manifest or an order."""
        await self._journal.sync_patiently()
        return await self._one.cosign(signed)

    async def faults(self, report: bytes) -> bytes:
        """Tell what an audit brought."""
        await self._journal.sync_patiently()
        return await self._one.faults(report)

    async def revoked(self) -> bytes:
        """Ask whom it has withdrawn."""
        await self._journal.sync_patiently()
        return await self._one.revoked()


class DurablyTold:
    """An `Overseer` that is told nothing that could be forgotten."""

    def __init__(self, one: Overseer, journal: Journal) -> None:
        """Tell `one` once all that was changed before is in `journal`."""
        self._one, self._journal = one, journal

    async def rates(self, report: bytes) -> bytes:
        """Tell how often members took part."""
        await self._journal.sync_patiently()
        return await self._one.rates(report)

    async def outage(self, version: int, slot: int) -> bytes:
        """Ask for an outage notice."""
        await self._journal.sync_patiently()
        return await self._one.outage(version, slot)


def durably_asked(asked: Mapping[str, Countersigner], journal: Journal) -> Mapping[str, Countersigner]:
    """Return them as they may be asked; without a file there is nothing to wait for."""
    return {name: DurablyAsked(one, journal) for name, one in asked.items()} if journal.keeps else asked


def durably_told(told: Mapping[str, Overseer], journal: Journal) -> Mapping[str, Overseer]:
    """Return them as they may be told; see `durably_asked`."""
    return {name: DurablyTold(one, journal) for name, one in told.items()} if journal.keeps else told
