"""Which certificates wired meters may show, and what they are to be given; sealed in the store.

Implements `lmn.wired.pairing.Credentials`. A meter's record is durable before anything that depends on it
goes out, so a power cut at any step leaves it paired, or unpaired and paired anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from firmware.errors import StoreCorrupt
from firmware.wired.certificate import OwnCertificate
from firmware.wired.identity import make_identity
from hsm.api import SecurityModule
from hsm.errors import CommandRefused
from hsm.x509 import Certificate
from lmn.errors import KeyRefused
from lmn.ports import MeterKeys
from lmn.wired.meter import WiredMeter
from lmn.wired.pairing import Identity, Renewal, Write, following_counter

KIND: Final = "wired"
AGAIN: Final = timedelta(hours=1)
"""From one try to give a meter something to the next."""
LAST_CALL: Final = timedelta(days=1)
"""So long before the gateway's certificate is over its successor takes its place, whoever has it."""


class RecordStore(Protocol):
    """`firmware.store.partition.Partition`, as far as it is used here."""

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        """Keep; durable on return."""

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return everything of a kind."""


class _Record(msgspec.Struct, array_like=True):
    """Of one meter; certificates as DER, empty where there is none."""

    maker: bytes = b""
    """Digest of the certificate in the configuration: with another one, what follows counts no more."""
    master: bytes = b""
    """Digest of the master key that the counters belong to."""
    current: bytes = b""
    """What it showed last."""
    given: bytes = b""
    """What it was given since and has not shown."""
    gateway: bytes = b""
    """Fingerprint of the newest certificate of the gateway that it has."""
    sent: int = -1
    heard: int = -1


Changed = Callable[[str, bytes], Awaitable[None]]
"""Told (whose, certificate as DER)."""


class WiredCredentials:
    """Of all meters on all lines of one gateway."""

    def __init__(
        self,
        store: RecordStore,
        module: SecurityModule,
        keys: MeterKeys,
        own: OwnCertificate,
        meters: Iterable[WiredMeter],
        now_utc: Callable[[], datetime],
        *,
        renew_before: timedelta,
        exclusive: AbstractAsyncContextManager[object],
        changed: Changed | None = None,
    ) -> None:
        """Prepare; `load` reads what is stored.

        Args:
            store: keeps the records.
            module: makes the meters' keys.
            keys: the meters' master keys.
            own: the gateway's certificate.
            meters: all of them: the gateway's next certificate waits until each one has it.
            now_utc: the clock.
            renew_before: so long before it is over a certificate is renewed.
            exclusive: a lock; whoever holds it may make keys in the module.
            changed: told of each certificate that took the place of another.
        """
        self._store, self._module, self._keys, self.own = store, module, keys, own
        self._meters = {meter.server_id: meter for meter in meters}
        self._now_utc, self._renew_before = now_utc, renew_before
        self._records: dict[bytes, _Record] = {}
        self._tried: dict[bytes, datetime] = {}
        self._making, self._tell = exclusive, changed

    async def load(self) -> None:
        """Read the records; StoreCorrupt if one is damaged."""
        for key, plaintext in await self._store.items(KIND):
            try:
                self._records[bytes.fromhex(key)] = msgspec.msgpack.decode(plaintext, type=_Record)
            except (ValueError, msgspec.MsgspecError) as error:
                raise StoreCorrupt("a stored pairing cannot be read") from error

    # ---- what counts now

    def certificates(self, meter: WiredMeter) -> tuple[bytes, ...]:
        """Return what the meter may show."""
        record = self._record(meter)
        current = record.current or meter.certificate or b""
        return tuple(each for each in (current, record.given) if each)

    def generation(self) -> bytes:
        """Return which certificate of the gateway is in use."""
        return self.own.current.fingerprint

    def gateway_certificate(self) -> bytes:
        """Return that certificate (DER)."""
        return self.own.current.der

    def master(self, meter: WiredMeter) -> bytes | None:
        """Return the meter's master key, None where its profile has none or there is none yet."""
        access = self._keys.access(meter.meter)
        return None if access is None else access.key

    # ---- pairing

    async def next_counter(self, meter: WiredMeter) -> int:
        """Return a counter that was never used under the meter's master key."""
        record = self._record(meter)
        counter = following_counter(record.sent, int(self._now_utc().timestamp()))
        record.sent = counter
        await self._keep(meter, record)
        return counter

    def last_heard(self, meter: WiredMeter) -> int:
        """Return the last counter accepted from the meter."""
        return self._record(meter).heard

    async def heard(self, meter: WiredMeter, counter: int) -> None:
        """Note a counter that was accepted."""
        record = self._record(meter)
        record.heard = max(record.heard, counter)
        await self._keep(meter, record)

    async def new_identity(self, meter: WiredMeter) -> Identity:
        """Make a key pair for the meter; its certificate is known before anybody else can know it."""
        async with self._making:
            try:
                identity = await make_identity(self._module, meter.server_id, self._now_utc())
            except CommandRefused as error:
                raise KeyRefused(f"the security module makes no key for a meter: {error}") from error
        record = self._record(meter)
        record.given = identity.certificate
        await self._keep(meter, record)
        return identity

    async def paired(self, meter: WiredMeter) -> None:
        """The meter has what it was delivered."""
        record = self._record(meter)
        record.gateway = self.own.current.fingerprint
        await self._keep(meter, record)

    async def unpaired(self, meter: WiredMeter) -> None:
        """Forget what it was given, if it never showed a certificate at all."""
        record = self._record(meter)
        if not record.current and not meter.certificate and record.given:
            record.given = b""
            await self._keep(meter, record)

    async def shown(self, meter: WiredMeter, certificate: bytes) -> None:
        """The meter has this one; every other one counts no more."""
        record = self._record(meter)
        if record.current != certificate or record.given:
            before = record.current or meter.certificate or b""
            record.current, record.given = certificate, b""
            await self._keep(meter, record)
            if before != certificate:
                await self._changed(str(meter.meter), certificate)

    # ---- renewal

    async def upkeep(self) -> None:
        """Put the gateway's next certificate in use once every meter has it, or its time has come."""
        own = self.own
        if own.successor is None:
            return
        async with self._making:
            is_late = own.current.not_after_utc - self._now_utc() <= LAST_CALL
            if own.successor is not None and (self._everybody_has(own.successor) or is_late):
                await own.activate()
                await self._changed("gateway", own.current.der)

    async def due(self, meter: WiredMeter) -> Write | None:
        """Return what the meter is to be given now."""
        now = self._now_utc()
        own = self.own
        ends_in = own.current.not_after_utc - now
        record = self._record(meter)
        current = (self.certificates(meter) or (b"",))[0]
        is_over = bool(current) and Certificate.from_der(current).not_after_utc - now <= self._renew_before
        wants_gateway = ends_in <= self._renew_before and (
            own.successor is None or record.gateway != own.successor.fingerprint
        )
        tried = self._tried.get(meter.server_id)
        if not (is_over or wants_gateway) or (tried is not None and now - tried < AGAIN):
            return None
        self._tried[meter.server_id] = now
        if wants_gateway:
            async with self._making:
                try:
                    return Write(Renewal.GATEWAY, (await own.prepare(now)).der)
                except CommandRefused as error:
                    raise KeyRefused(f"the security module makes no successor: {error}") from error
        return Write(Renewal.METER, (await self.new_identity(meter)).to_bytes())

    async def written(self, meter: WiredMeter, what: Renewal) -> None:
        """The meter has taken it."""
        self._tried.pop(meter.server_id, None)
        if what is Renewal.GATEWAY and self.own.successor is not None:
            record = self._record(meter)
            record.gateway = self.own.successor.fingerprint
            await self._keep(meter, record)

    def _everybody_has(self, certificate: Certificate) -> bool:
        """One that is not paired yet waits for nobody: it gets what is in use then."""
        return all(
            self._record(meter).gateway == certificate.fingerprint
            for meter in self._meters.values()
            if self.certificates(meter)
        )

    async def _changed(self, whose: str, certificate: bytes) -> None:
        if self._tell is not None:
            await self._tell(whose, certificate)

    # ---- records

    def _record(self, meter: WiredMeter) -> _Record:
        record = self._records.setdefault(meter.server_id, _Record())
        maker = hashlib.sha256(meter.certificate).digest() if meter.certificate else b""
        if record.maker != maker:
            record.maker, record.current, record.given, record.gateway = maker, b"", b"", b""
        master = self.master(meter)
        digest = record.master if master is None else hashlib.sha256(b"smgw wired" + master).digest()
        if record.master != digest:
            record.master, record.sent, record.heard = digest, -1, -1
            if not maker:
                record.current, record.given, record.gateway = b"", b"", b""
        return record

    async def _keep(self, meter: WiredMeter, record: _Record) -> None:
        await self._store.put(KIND, meter.server_id.hex(), msgspec.msgpack.encode(record))
