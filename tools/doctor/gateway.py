"""One gateway's folder: its configuration, whether it runs, its module, its certificates, its lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from firmware import config
from firmware.errors import ConfigurationRefused
from hsm.errors import CertificateRefused, HsmError
from hsm.transport import opener
from hsm.x509 import Certificate
from tools.doctor import ports
from tools.doctor import running as running_gateway
from tools.doctor.report import Finding, Severity, error, note, ok, warning
from tools.module.access import ModuleAccess
from tools.module.probe import describe

SOON: Final = timedelta(days=60)
"""A certificate that ends sooner is told: a new one needs the administrator."""
_LMN_TLS: Final = "lmn-tls.pem"
Listen = Callable[[], Awaitable[list[Finding]]]


async def examine(path: Path, seconds: float, now_utc: datetime | None = None) -> AsyncIterator[Finding]:
    """Look at a gateway; what is in use by its own process is left to it."""
    try:
        settings = config.load(path)
    except ConfigurationRefused as refused:
        for fault in refused.faults:
            place = "" if fault.line is None else f":{fault.line}"
            yield error("configuration", f"{fault.file}{place}: {fault.key}", f"{fault.expected} is expected")
        return
    yield ok("configuration", f"{path} is right")
    state = settings.gateway.state
    running = ports.holders(state.iterdir()) if state.is_dir() else {}
    if running:
        yield ok("gateway", f"runs: {ports.named(running)}")
    else:
        yield note(
            "gateway", "does not run" if state.is_dir() else "was never started", f"smgw run -c {path}"
        )
    async for finding in _module(settings.module, running=bool(running)):
        yield finding
    for finding in certificates(settings, now_utc or datetime.now(UTC)):
        yield finding
    told = await running_gateway.lines_of(path) if running else None
    async for finding in _lines(settings.lmn, seconds, running, told):
        yield finding


async def _module(table: config.ModuleTable, *, running: bool) -> AsyncIterator[Finding]:
    if running:
        yield note(
            "module", f"{table.transport} is left to the running gateway: a second user would reset it"
        )
        return
    try:
        about = await describe(ModuleAccess(opener(table.way)))  # without the PIN: this costs no try
    except (HsmError, OSError) as fault:
        yield error("module", f"{table.transport}: {fault}", "smgw hsm info --transport tries it by itself")
        return
    tries = str(about["pin_tries"])
    if tries.startswith(("0", "blocked")):
        yield error("module", "its PIN is blocked", "smgw hsm --help; an administrator's key can unblock it")
    elif tries.startswith(("1", "2")):
        yield warning(
            "module", f"answers; tries of the PIN: {tries}", "compare module.pin_file before a start"
        )
    else:
        yield ok("module", f"{table.transport} answers; tries of the PIN: {tries}")


def certificates(settings: config.GatewayConfig, now_utc: datetime) -> Iterator[Finding]:
    """How long each certificate of the configuration is still good for."""
    files: dict[str, Path] = {}
    if (wan := settings.wan) is not None:
        files |= {f"wan.{name}": getattr(wan, name) for name in ("root", "sub_ca", "tls", "sig", "enc")}
        files |= {"wan.gwa.tls": wan.gwa.tls_certificate, "wan.gwa.sig": wan.gwa.sig_certificate}
    lines = settings.lmn.rs485 if settings.lmn is not None else ()
    meters = (one for line in lines for one in line.meter)
    files |= {f"meter {one.meter}": path for one in meters if (path := one.certificate) is not None}
    if lines and (own := settings.gateway.state / _LMN_TLS).exists():
        files["towards meters"] = own
    for name, path in files.items():
        try:
            certificate = Certificate.from_pem(path.read_bytes())
        except (CertificateRefused, OSError, ValueError) as fault:
            yield error(f"certificate {name}", f"{path}: {fault}", "a certificate in PEM form is expected")
            continue
        until = f"{certificate.subject_cn}, until {certificate.not_after_utc:%Y-%m-%d}"
        if certificate.not_after_utc <= now_utc:
            yield error(f"certificate {name}", f"{until}: it is over", "the administrator issues a new one")
        elif certificate.not_before_utc > now_utc:
            yield error(f"certificate {name}", f"{until}: not yet valid", "is the clock right?")
        elif certificate.not_after_utc - now_utc < SOON:
            yield warning(f"certificate {name}", until, "the administrator should renew it")
        else:
            yield ok(f"certificate {name}", until)


async def _lines(
    table: config.LmnTable | None,
    seconds: float,
    running: dict[int, str],
    told: dict[str, running_gateway.Line] | None,
) -> AsyncIterator[Finding]:
    """Look at each line; `told` is what the running gateway says of them, None where it says nothing."""
    if table is None or not (table.stick or table.head or table.rs485):
        yield note("meters", "no stick, head or line is configured: nothing is read", "[[lmn.stick]]")
        return
    for port, subject, listen in _all_lines(table, seconds):
        if told is not None and port in told:
            for finding in running_gateway.findings(subject, told[port]):
                yield finding
            continue
        if running and "://" in port:
            yield note(subject, f"{port} is left to the running gateway, which does not answer this user")
            continue
        if running and ports.holders([Path(port)]).keys() & running.keys():
            yield ok(subject, f"{port} is open in the gateway's own process; its log says what it hears")
            continue
        seen = list(ports.look(subject, port))
        for finding in seen:
            yield finding
        if listen is not None and all(finding.severity is not Severity.ERROR for finding in seen):
            for finding in await listen():
                yield finding


def _all_lines(table: config.LmnTable, seconds: float) -> Iterator[tuple[str, str, Listen | None]]:
    """Port, name, and how it is listened to; an RS-485 line only speaks when it is spoken to."""
    for stick in table.stick:
        name = f"stick {Path(stick.port).name}"
        yield stick.port, name, partial(ports.hear_stick, name, stick.port, stick.kind, stick.mode, seconds)
    for head in table.head:
        name, wanted = f"head {Path(head.port).name}", bytes.fromhex(head.server_id)
        yield head.port, name, partial(ports.hear_head, name, head.port, head.baudrate, wanted, seconds)
    for line in table.rs485:
        yield line.port, f"line {Path(line.port).name}", None
