"""Wired meters of the configuration: their services, and the gateway's certificate towards them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmware.config import HeadTable, Rs485Table
from hsm.api import Curve, KeySlot, SecurityModule
from hsm.errors import CommandRefused
from hsm.x509 import Certificate, self_signed
from lmn.model import MeterId, Obis
from lmn.wired_values import WiredRefusal, WiredValues

if TYPE_CHECKING:  # what talks to lines and libssl is loaded only where a line is configured
    from hsm.tls import TlsContext
    from hsm.tls.driver import EventLoop
    from lmn.sml.driver import SmlHead
    from lmn.wired.driver import Rs485Line, WiredMeter

CERTIFICATE_FILE: Final = "lmn-tls.pem"
"""In the gateway's state folder; meters must be given it."""
LIFETIME: Final = timedelta(days=7 * 365)
CURVE: Final = Curve.BRAINPOOL_P256
Emit = Callable[[WiredValues | WiredRefusal], None]


def head(table: HeadTable, emit: Emit, now_s: Callable[[], float]) -> SmlHead:
    """Make the service of an infrared head."""
    from lmn.serial_port import open_port
    from lmn.sml.driver import HeadMeter, SmlHead

    meter = HeadMeter(MeterId.from_text(table.meter), bytes.fromhex(table.server_id), frozenset(table.quirks))
    opener = partial(open_port, table.port, table.baudrate)
    return SmlHead(opener, meter, emit, now_s, name=f"lmn.sml {table.port}")


async def own_certificate(
    folder: Path, module: SecurityModule, gateway_id: str, now_utc: datetime
) -> Certificate:
    """Return the gateway's self-signed certificate towards wired meters; the first time it is made.

    Its key is in the module's own slot for meters and is used for nothing else. A certificate that is over,
    or whose key the module no longer has, is replaced: then the meters must be given the new one.
    """
    path = folder / CERTIFICATE_FILE
    try:
        public = await module.public_key(KeySlot.LMN_TLS)
    except CommandRefused:
        public = None
    if public is not None and path.exists():
        certificate = Certificate.from_pem(path.read_bytes())
        if certificate.public_key == public and certificate.not_after_utc > now_utc:
            return certificate
    await module.generate_key_pair(KeySlot.LMN_TLS, CURVE)
    start = now_utc.replace(microsecond=0)
    name = f"{gateway_id.lower()}.sm"
    certificate = await self_signed(
        module, KeySlot.LMN_TLS, name, not_before_utc=start, not_after_utc=start + LIFETIME
    )
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(certificate.to_pem())
    fresh.replace(path)
    return certificate


def line(
    table: Rs485Table,
    emit: Emit,
    now_s: Callable[[], float],
    *,
    module: SecurityModule,
    own: Certificate,
    now_utc: Callable[[], datetime],
    loop: EventLoop,
) -> Rs485Line:
    """Make the service of an RS-485 line.

    Args:
        table: the line and its meters.
        emit: takes what the meters tell.
        now_s: the loop's clock.
        module: holds the key of `own` in KeySlot.LMN_TLS.
        own: the gateway's certificate towards its meters.
        now_utc: the clock that validity is checked by.
        loop: where the service will run.
    """
    from hsm.tls import LMN, TlsContext
    from lmn.serial_port import open_port
    from lmn.wired.discovery import Addresses
    from lmn.wired.driver import Rs485Line, Timing, WiredMeter

    async def context(meter: WiredMeter) -> TlsContext:
        anchor = Certificate.from_der(meter.certificate)
        return TlsContext(
            LMN, module, loop, slot=KeySlot.LMN_TLS, chain=[own], anchors=[anchor], now_utc=now_utc
        )

    meters = tuple(
        WiredMeter(
            MeterId.from_text(one.meter),
            bytes.fromhex(one.server_id),
            Certificate.from_pem(one.certificate.read_bytes()).der,
            tuple(Obis.from_text(text) for text in one.registers),
        )
        for one in table.meter
    )
    return Rs485Line(
        partial(open_port, table.port, table.baudrate),
        meters,
        context,
        emit,
        now_s,
        addresses=Addresses(table.primary, table.unnamed, table.broadcast),
        timing=Timing(poll_s=table.poll_s),
        name=f"lmn.wired {table.port}",
    )
