"""Seals the logs at intervals and at the orderly stop. A service; the clock and the module are ports."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from firmware.clock.clock import Clock
from firmware.log.journal import Journal, Logs
from firmware.log.seal import Seal, first_previous, seal_digest, to_sign
from hsm.api import KeySlot, PublicKey, SecurityModule
from hsm.errors import CommandRefused

INTERVAL_S: Final = 900.0
_NO_SUCH_KEY: Final = 0x6A88


class Sealer:
    """Puts a seal beside every log that has grown since its last one.

    A gateway whose module has no SIG key (one without an administrator) has chains without seals; `sealing`
    says so.

    Args:
        logs: all of them.
        module: signs.
        clock: stamps seals and paces.
        gateway: id, lower case.
        interval_s: of seals.
        slot: the key.
    """

    name = "firmware.log.sealer"

    def __init__(
        self,
        logs: Logs,
        module: SecurityModule,
        clock: Clock,
        gateway: str,
        *,
        interval_s: float = INTERVAL_S,
        slot: KeySlot = KeySlot.WAN_SIG,
    ) -> None:
        self._logs, self._module, self._clock = logs, module, clock
        self._gateway, self._interval_s, self._slot = gateway, interval_s, slot
        self.sealing: bool | None = None
        """Whether the module has a key to seal with; None: not asked yet."""

    async def run(self) -> None:
        """Seal every interval until cancelled.

        Raises:
            HsmError, StoreUnavailable, StoreCorrupt: nothing was sealed; tried again when it runs again.
        """
        while True:
            await self.seal()
            await self._clock.sleep(self._interval_s)

    async def key(self) -> PublicKey | None:
        """Return the public half of the key that seals, None if the module has none."""
        try:
            key = await self._module.public_key(self._slot)
        except CommandRefused as refused:
            if refused.sw != _NO_SUCH_KEY:
                raise
            self.sealing = False
            return None
        self.sealing = True
        return key

    async def sign(self, content: bytes) -> tuple[PublicKey, bytes] | None:
        """Sign something about a log; None if the module has no key for it."""
        key = await self.key()
        if key is None:
            return None
        return key, await self._module.sign(self._slot, to_sign(content, key))

    async def seal(self) -> int:
        """Seal every log that has grown; return how many had."""
        if await self.key() is None:
            return 0
        sealed = 0
        for journal in await self._logs.all():
            sealed += await self._seal(journal)
        return sealed

    async def _seal(self, journal: Journal) -> bool:
        head = await journal.head()
        kept = await journal.last_seal()
        if not head.number or (kept is not None and Seal.from_bytes(kept[1]).last >= head.number):
            return False
        seal = Seal(
            gateway=self._gateway,
            log=journal.name,
            number=1 if kept is None else kept[0] + 1,
            previous=first_previous(journal.name) if kept is None else seal_digest(kept[1]),
            first=(await journal.span())[0],
            last=head.number,
            digest=head.digest,
            at_utc=self._clock.now_utc(),
        )
        signed = await self.sign(seal.signed())
        if signed is None:
            return False
        await journal.keep_seal(replace(seal, signature=signed[1].hex()))
        return True
