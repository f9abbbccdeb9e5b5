"""Wired meters of the configuration: their services, and what the lines share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from firmware.config import HeadTable, Rs485Table
from firmware.wired.certificate import OwnCertificate
from hsm.api import KeySlot, SecurityModule
from hsm.x509 import Certificate
from lmn.model import MeterId, Obis
from lmn.ports import MeterKeys
from lmn.wired_values import WiredRefusal, WiredValues

if TYPE_CHECKING:  # what talks to lines and libssl is loaded only where a line is configured
    from firmware.wired.credentials import Changed, RecordStore, WiredCredentials
    from hsm.tls import TlsContext
    from hsm.tls.driver import EventLoop
    from lmn.sml.driver import SmlHead
    from lmn.wired.driver import Rs485Line
    from lmn.wired.meter import WiredMeter

Emit = Callable[[WiredValues | WiredRefusal], None]


def head(table: HeadTable, emit: Emit, now_s: Callable[[], float]) -> SmlHead:
    """Make the service of an infrared head."""
    from lmn.serial_port import open_port
    from lmn.sml.driver import HeadMeter, SmlHead

    meter = HeadMeter(MeterId.from_text(table.meter), bytes.fromhex(table.server_id), frozenset(table.quirks))
    opener = partial(open_port, table.port, table.baudrate)
    return SmlHead(opener, meter, emit, now_s, name=f"lmn.sml {table.port}")


def meters_of(tables: Iterable[Rs485Table]) -> dict[str, WiredMeter]:
    """Return the meters of all lines by server id."""
    from lmn.wired.meter import WiredMeter

    return {
        one.server_id: WiredMeter(
            MeterId.from_text(one.meter),
            bytes.fromhex(one.server_id),
            None if one.certificate is None else Certificate.from_pem(one.certificate.read_bytes()).der,
            tuple(Obis.from_text(text) for text in one.registers),
        )
        for table in tables
        for one in table.meter
    }


async def open_credentials(
    tables: Iterable[Rs485Table],
    folder: Path,
    gateway_id: str,
    *,
    store: RecordStore,
    keys: MeterKeys,
    module: SecurityModule,
    now_utc: Callable[[], datetime],
    exclusive: AbstractAsyncContextManager[object],
    changed: Changed | None = None,
) -> WiredCredentials:
    """Open what the lines share: the gateway's certificate, and the records of all meters.

    Args:
        tables: all lines.
        folder: the gateway's state folder.
        gateway_id: names the gateway in its certificate.
        store: keeps the records.
        keys: the meters' master keys.
        module: holds the gateway's key, makes the meters'.
        now_utc: the clock.
        exclusive: a lock; whoever holds it may make keys for meters.
        changed: told of each certificate that took the place of another.
    """
    from firmware.wired.credentials import WiredCredentials

    own = await OwnCertificate.open(folder, module, gateway_id, now_utc())
    tables = tuple(tables)
    renew_before = timedelta(days=max(table.renew_days for table in tables))
    credentials = WiredCredentials(
        store,
        module,
        keys,
        own,
        meters_of(tables).values(),
        now_utc,
        renew_before=renew_before,
        exclusive=exclusive,
        changed=changed,
    )
    await credentials.load()
    return credentials


def line(
    table: Rs485Table,
    emit: Emit,
    now_s: Callable[[], float],
    *,
    module: SecurityModule,
    credentials: WiredCredentials,
    now_utc: Callable[[], datetime],
    loop: EventLoop,
) -> Rs485Line:
    """Make the service of an RS-485 line.

    Args:
        table: the line and its meters.
        emit: takes what the meters tell.
        now_s: the loop's clock.
        module: holds the gateway's key towards meters in KeySlot.LMN_TLS.
        credentials: which certificates count.
        now_utc: the clock that validity is checked by.
        loop: where the service will run.
    """
    from hsm.tls import LMN, TlsContext
    from lmn.serial_port import open_port
    from lmn.wired.discovery import Addresses
    from lmn.wired.driver import Rs485Line, Timing
    from lmn.wired.sym import SymFormat

    async def context(certificate: bytes) -> TlsContext:
        anchors = [Certificate.from_der(certificate)]
        chain = [credentials.own.current]
        return TlsContext(
            LMN, module, loop, slot=KeySlot.LMN_TLS, chain=chain, anchors=anchors, now_utc=now_utc
        )

    return Rs485Line(
        partial(open_port, table.port, table.baudrate),
        tuple(meters_of((table,)).values()),
        credentials,
        context,
        emit,
        now_s,
        addresses=Addresses(table.primary, table.unnamed, table.broadcast),
        timing=Timing(poll_s=table.poll_s, slots=table.slots, slot_s=table.slot_s),
        sym=SymFormat(mac_bytes=table.sym_mac_bytes),
        name=f"lmn.wired {table.port}",
    )
