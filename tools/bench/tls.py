"""Mutual TLS with the key in the emulated card, beside asyncio's own TLS with a key file, in the same run."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hsm import libcrypto
from hsm.api import Curve, KeySlot, PublicKey, SecurityModule
from hsm.emulator import load_card
from hsm.emulator.personalise import new_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from hsm.tls import WAN, TlsContext, TlsProfile, TlsStream, TlsVersion, connect
from hsm.x509 import Certificate
from tools.bench.figure import Figure
from tools.bench.tls_peer import REQUEST

HANDSHAKES = 15
"""A round, for each contestant."""
BULK_BYTES = 48 << 20
_CHUNK = bytes(128 * 1024)
CURVES = (Curve.P256, Curve.BRAINPOOL_P256)
HANDSHAKE_BAR, BULK_BAR = 1.7, 0.6
_ROOT = Path(__file__).resolve().parents[2]
_PIN = b"0123456789"
_PYCA = {Curve.P256: ec.SECP256R1(), Curve.BRAINPOOL_P256: ec.BrainpoolP256R1()}


class BenchPki:
    """Root and end entities on one curve."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._key = ec.generate_private_key(_PYCA[curve])
        self.root = self._issue("Bench Root", self._key.public_key(), authority=True)

    def _issue(self, name: str, public: ec.EllipticCurvePublicKey, *, authority: bool = False) -> Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bench Root")])
        now = datetime.now(UTC)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        usage |= {"encipher_only": False, "decipher_only": False}
        builder = (
            x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage
                ),
                critical=True,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        signed = builder.sign(self._key, hashes.SHA256())
        return Certificate.from_der(signed.public_bytes(serialization.Encoding.DER))

    def for_module(self, public: PublicKey) -> Certificate:
        """A certificate for a key in the module."""
        point = ec.EllipticCurvePublicKey.from_encoded_point(_PYCA[self._curve], public.point)
        return self._issue("Bench Gateway", point)

    def into_folder(self, folder: Path) -> None:
        """A key file with its certificate, and the root."""
        key = ec.generate_private_key(_PYCA[self._curve])
        folder.mkdir()
        (folder / "root.pem").write_bytes(self.root.to_pem())
        (folder / "chain.pem").write_bytes(self._issue("Bench Peer", key.public_key()).to_pem())
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


class Link(Protocol):
    """One connection, whoever made it."""

    async def write(self, data: bytes) -> None:
        """Send."""

    async def readexactly(self, count: int) -> bytes:
        """So many bytes."""

    async def read(self, limit: int) -> bytes:
        """At most so many bytes."""

    async def close(self) -> None:
        """End it."""


class _AsyncioLink:
    """asyncio's streams in the same shape."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.read, self.readexactly = reader.read, reader.readexactly

    async def write(self, data: bytes) -> None:
        """Send."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Close without waiting for the peer's goodbye."""
        self._writer.transport.abort()
        await asyncio.sleep(0)


@dataclass(slots=True)
class _Contestant:
    open: Callable[[], Awaitable[Link]]
    handshake_ms: list[float]
    up: list[float]
    down: list[float]


@asynccontextmanager
async def peer(folder: Path, curve: Curve, version: TlsVersion) -> AsyncIterator[int]:
    """The other end, in a process of its own; gives its port. `folder` is of `BenchPki.into_folder`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tools.bench.tls_peer",
        str(folder),
        curve.value,
        version.name,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


def asyncio_opener(
    folder: Path, curve: Curve, version: TlsVersion, port: int
) -> Callable[[], Awaitable[Link]]:
    """What opens a connection of asyncio's own TLS, with the key file in `folder`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    context.load_verify_locations(folder / "root.pem")
    context.set_ecdh_curve(curve.value)
    context.maximum_version = ssl.TLSVersion(version)

    async def start() -> Link:
        return _AsyncioLink(
            *await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        )

    return start


async def module_opener(
    module: SecurityModule, pki: BenchPki, curve: Curve, version: TlsVersion, port: int
) -> Callable[[], Awaitable[Link]]:
    """What opens a connection of ours, with a new key in the module."""
    certificate = pki.for_module(await module.generate_key_pair(KeySlot.WAN_TLS, curve))
    context = TlsContext(
        TlsProfile("bench", (curve,), maximum=version),
        module,
        asyncio.get_running_loop(),
        slot=KeySlot.WAN_TLS,
        chain=[certificate],
        anchors=[pki.root],
    )

    async def start() -> Link:
        stream: TlsStream = await connect(context, "127.0.0.1", port, server_name="localhost")
        return stream

    return start


async def handshake(start: Callable[[], Awaitable[Link]]) -> float:
    """Open a connection, see it work, close it; gives the milliseconds the opening took."""
    begin = perf_counter()
    link = await start()
    took = 1e3 * (perf_counter() - begin)
    await link.write(REQUEST.pack(b"D", 1))  # both ends are through
    await link.readexactly(1)
    await link.close()
    return took


async def _bulk(start: Callable[[], Awaitable[Link]]) -> tuple[float, float]:
    """MB/s up and down."""
    link = await start()
    begin = perf_counter()
    await link.write(REQUEST.pack(b"U", BULK_BYTES))
    for _ in range(BULK_BYTES // len(_CHUNK)):
        await link.write(_CHUNK)
    await link.readexactly(1)
    up = BULK_BYTES / 1e6 / (perf_counter() - begin)
    begin, left = perf_counter(), BULK_BYTES
    await link.write(REQUEST.pack(b"D", BULK_BYTES))
    while left:
        left -= len(await link.read(len(_CHUNK)))
    down = BULK_BYTES / 1e6 / (perf_counter() - begin)
    await link.close()
    return up, down


async def _compare(
    curve: Curve, version: TlsVersion, module: SecurityModule, folder: Path, rounds: int
) -> list[Figure]:
    pki = BenchPki(curve)
    ours, theirs = (
        folder / f"{curve.value}-{version.name}-client",
        folder / f"{curve.value}-{version.name}-server",
    )
    pki.into_folder(ours)
    pki.into_folder(theirs)
    async with peer(theirs, curve, version) as port:
        reference = _Contestant(asyncio_opener(ours, curve, version, port), [], [], [])
        card = _Contestant(await module_opener(module, pki, curve, version, port), [], [], [])
        for contestant in (reference, card):
            await handshake(contestant.open)  # warm: imports, threads, page faults
        for _ in range(rounds):
            for _ in range(HANDSHAKES):
                for contestant in (reference, card):
                    contestant.handshake_ms.append(await handshake(contestant.open))
            for contestant in (reference, card):
                gc.collect()
                up, down = await _bulk(contestant.open)
                contestant.up.append(up)
                contestant.down.append(down)
    subject = f"{curve.value}, {version.name}"
    return [
        _figure(f"handshake, {subject}", "ms", card.handshake_ms, reference.handshake_ms, HANDSHAKE_BAR),
        _figure(f"bulk up, {subject}", "MB/s", card.up, reference.up, BULK_BAR),
        _figure(f"bulk down, {subject}", "MB/s", card.down, reference.down, BULK_BAR),
    ]


def _figure(name: str, unit: str, ours: list[float], theirs: list[float], bar: float) -> Figure:
    """Ours beside asyncio's own TLS with a key file; throughput is to be high, time to be short."""
    return Figure(
        name,
        median(ours),
        unit,
        bar=bar,
        at_least=unit != "ms",
        reference="asyncio, key file",
        reference_value=median(theirs),
        bar_on_ratio=True,
    )


def _matches() -> list[tuple[Curve, TlsVersion]]:
    """Each curve in what the gateway's WAN profile speaks with both OpenSSLs, and P-256 in TLS 1.3."""
    found = ssl.OPENSSL_VERSION_INFO
    version = min(
        WAN.highest_version(libcrypto.version()), WAN.highest_version((found[0], found[1], found[2]))
    )
    matches = [(curve, version) for curve in CURVES]
    return list(dict.fromkeys([*matches, (Curve.P256, TlsVersion.TLS13)]))


async def run(rounds: int) -> list[Figure]:
    """Measure; medians of `rounds` interleaved rounds, handshakes with a new TCP connection each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new_card(folder / "card", _PIN)
        card = load_card(folder / "card")
        figures: list[Figure] = []
        async with ModuleSession(lambda: EmulatorTransport(card), lambda: _PIN) as module:
            for curve, version in _matches():
                figures += await _compare(curve, version, module, folder, rounds)
        return figures
