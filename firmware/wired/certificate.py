"""The gateway's own certificate towards wired meters, and its successor, across power cuts."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from hsm.api import Curve, KeySlot, PublicKey, SecurityModule
from hsm.errors import CommandRefused
from hsm.x509 import Certificate, self_signed

CERTIFICATE_FILE: Final = "lmn-tls.pem"
"""In the gateway's state folder; meters that are not paired must be given it."""
NEXT_FILE: Final = "lmn-tls-next.pem"
LIFETIME: Final = timedelta(days=7 * 365)
CURVE: Final = Curve.BRAINPOOL_P256


class OwnCertificate:
    """What the gateway shows wired meters; its keys are in the module's slots for them and nowhere else."""

    def __init__(
        self,
        folder: Path,
        module: SecurityModule,
        gateway_id: str,
        current: Certificate,
        successor: Certificate | None,
    ) -> None:
        """Use `open`."""
        self._folder, self._module, self._gateway_id = folder, module, gateway_id
        self.current, self.successor = current, successor

    @classmethod
    async def open(
        cls, folder: Path, module: SecurityModule, gateway_id: str, now_utc: datetime
    ) -> OwnCertificate:
        """Take up what is there; the first time a key pair and a certificate are made.

        An activation that was cut off is finished. A certificate that is over is replaced by its successor,
        else, as one whose key the module no longer has, by a new one: then the meters must be given that.

        Raises:
            HsmError: from the module.
        """
        public = await _public(module, KeySlot.LMN_TLS)
        current, successor = _load(folder / CERTIFICATE_FILE), _load(folder / NEXT_FILE)
        if successor is not None and public is not None and successor.public_key == public:
            os.replace(folder / NEXT_FILE, folder / CERTIFICATE_FILE)
            current, successor = successor, None
        if successor is not None:
            pending = await _public(module, KeySlot.LMN_TLS_NEXT)
            if pending != successor.public_key or successor.not_after_utc <= now_utc:
                (folder / NEXT_FILE).unlink()
                successor = None
        if current is not None and public is not None and current.public_key == public:
            opened = cls(folder, module, gateway_id, current, successor)
            if current.not_after_utc > now_utc:
                return opened
            if successor is not None:
                await opened.activate()
                return opened
        await module.generate_key_pair(KeySlot.LMN_TLS, CURVE)
        current = await _make(module, KeySlot.LMN_TLS, gateway_id, now_utc)
        _write(folder / CERTIFICATE_FILE, current)
        (folder / NEXT_FILE).unlink(missing_ok=True)
        return cls(folder, module, gateway_id, current, None)

    async def prepare(self, now_utc: datetime) -> Certificate:
        """Make the successor, with a key of its own that is pending in the module; return it.

        Raises:
            HsmError: from the module.
        """
        if self.successor is None:
            await self._module.generate_key_pair(KeySlot.LMN_TLS_NEXT, CURVE)
            made = await _make(self._module, KeySlot.LMN_TLS_NEXT, self._gateway_id, now_utc)
            _write(self._folder / NEXT_FILE, made)
            self.successor = made
        return self.successor

    async def activate(self) -> None:
        """Put the successor in the place of the present certificate.

        The key goes first: after a cut between the two, `open` sees from the key that the file must follow.

        Raises:
            ValueError: there is no successor.
            HsmError: from the module.
        """
        if self.successor is None:
            raise ValueError("there is no successor")
        await self._module.activate(KeySlot.LMN_TLS)
        os.replace(self._folder / NEXT_FILE, self._folder / CERTIFICATE_FILE)
        self.current, self.successor = self.successor, None


async def _public(module: SecurityModule, slot: KeySlot) -> PublicKey | None:
    try:
        return await module.public_key(slot)
    except CommandRefused:
        return None


async def _make(module: SecurityModule, slot: KeySlot, gateway_id: str, now_utc: datetime) -> Certificate:
    start = now_utc.replace(microsecond=0)
    name = f"{gateway_id.lower()}.sm"
    return await self_signed(module, slot, name, not_before_utc=start, not_after_utc=start + LIFETIME)


def _load(path: Path) -> Certificate | None:
    return Certificate.from_pem(path.read_bytes()) if path.exists() else None


def _write(path: Path, certificate: Certificate) -> None:
    """Whole or not at all, and on the disk on return."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(certificate.to_pem())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
