"""Both ways with the `openssl` program."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from hsm import libcrypto
from hsm.api import Curve, KeySlot
from hsm.tls import TlsProfile, TlsStream, TlsVersion, connect, serve
from hsm.tls.provider import tls_group
from tests.support.pki import key_pem, pem, tree
from tests.unit.hsm.tls_sides import Side, profile, side

V12, V13 = TlsVersion.TLS12, TlsVersion.TLS13
CASES = [
    (curve, version)
    for curve in Curve
    for version in (V12, V13)
    if version <= profile(curve).highest_version(libcrypto.version())
]
MODULE_CALLS = {"random": 1, "sign": 1, "generate_ephemeral": 1, "agree_ephemeral": 1}


def only(curve: Curve, version: TlsVersion, **changes: object) -> TlsProfile:
    return profile(curve, minimum=version, maximum=version, **changes)


def group(curve: Curve, version: TlsVersion) -> str:
    name = tls_group(curve)
    return f"{name}tls13" if version is V13 and name.startswith("brain") else name


async def openssl(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "openssl",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def files(folder: Path, peer: Side) -> list[str]:
    (folder / "chain.pem").write_bytes(pem(peer.chain))
    (folder / "key.pem").write_bytes(key_pem(peer.module.keys[KeySlot.WAN_TLS]))
    return ["-cert", f"{folder}/chain.pem", "-cert_chain", f"{folder}/chain.pem", "-key", f"{folder}/key.pem"]


async def until(stream: asyncio.StreamReader, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        part = await stream.read(4096)
        assert part, seen.decode(errors="replace")
        seen += part
    return seen


def calls(module_counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in module_counts.items() if name != "generate_key_pair"}


@pytest.mark.parametrize(("curve", "version"), CASES)
async def test_client_against_s_server(curve: Curve, version: TlsVersion, tmp_path: Path) -> None:
    us = await side(curve, rules=only(curve, version, alpn=("smgw/1",)))
    peer = await side(curve, server=True)
    (tmp_path / "root.pem").write_bytes(pem(tree(curve).anchors))
    process = await openssl(
        "s_server", "-accept", "127.0.0.1:0", *files(tmp_path, peer), "-CAfile", f"{tmp_path}/root.pem",
        "-Verify", "3", "-verify_return_error", "-groups", group(curve, version), "-naccept", "1",
        "-alpn", "smgw/1", "-rev",
    )  # fmt: skip
    try:
        assert process.stdout is not None
        banner = await until(process.stdout, b"ACCEPT")
        found = re.search(rb"ACCEPT \S*?:(\d+)", banner)
        assert found, banner
        stream = await connect(us.context, "127.0.0.1", int(found[1]), server_name="localhost")
        await stream.write(b"hello\n")
        assert await stream.readexactly(6) == b"olleh\n"
        assert stream.group == group(curve, version)
        assert stream.version == ("TLSv1.2" if version is V12 else "TLSv1.3")
        assert stream.alpn == "smgw/1"
        assert stream.peer_certificate == peer.chain[0]
        await stream.close()
        report, _ = await process.communicate()
        assert b"ESGW0100000001.SMGW" in banner + report
        assert calls(us.module.counts) == MODULE_CALLS
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize(("curve", "version"), CASES)
async def test_server_against_s_client_and_the_exporters_are_equal(
    curve: Curve, version: TlsVersion, tmp_path: Path
) -> None:
    us = await side(curve, server=True, rules=only(curve, version))
    peer = await side(curve)
    (tmp_path / "root.pem").write_bytes(pem(tree(curve).anchors))
    exported: list[bytes] = []

    async def reverse(stream: TlsStream) -> None:
        exported.append(stream.export(b"EXPORTER-test", 32).hex().upper().encode())
        await stream.write((await stream.read())[::-1])

    async with serve(us.context, reverse, "127.0.0.1", 0) as server:
        process = await openssl(
            "s_client", "-connect", f"127.0.0.1:{server.port}", *files(tmp_path, peer),
            "-CAfile", f"{tmp_path}/root.pem", "-verify_return_error", "-verify_hostname", "localhost",
            "-groups", group(curve, version), "-tls1_2" if version is V12 else "-tls1_3",
            "-keymatexport", "EXPORTER-test", "-keymatexportlen", "32",
        )  # fmt: skip
        output, _ = await process.communicate(b"abcdef\n")
    assert b"Verify return code: 0" in output
    assert exported
    assert exported[0] in output
    assert calls(us.module.counts) == MODULE_CALLS


@pytest.mark.parametrize(
    "arguments",
    [
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-CCM"],
        ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        ["-groups", "X25519"],
        ["-groups", "P-521"],
        ["-tls1_2", "-sigalgs", "ECDSA+SHA1"],
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    ],
    ids=" ".join,
)
async def test_nothing_outside_the_profile_is_negotiated(arguments: list[str], tmp_path: Path) -> None:
    us = await side(Curve.P256, server=True)
    peer = await side(Curve.P256)
    reached: list[str] = []

    async def handle(stream: TlsStream) -> None:
        reached.append(stream.cipher)

    async with serve(us.context, handle, "127.0.0.1", 0) as server:
        process = await openssl(
            "s_client", "-connect", f"127.0.0.1:{server.port}", *files(tmp_path, peer), *arguments
        )
        output, _ = await process.communicate(b"Q\n")
    assert not reached
    assert process.returncode != 0, output


async def test_neither_renegotiation_nor_compression_nor_tickets(tmp_path: Path) -> None:
    us = await side(Curve.P256, server=True, rules=only(Curve.P256, V12))
    peer = await side(Curve.P256)

    async def handle(stream: TlsStream) -> None:
        await stream.read()

    async with serve(us.context, handle, "127.0.0.1", 0) as server:
        process = await openssl(
            "s_client", "-connect", f"127.0.0.1:{server.port}", *files(tmp_path, peer), "-tls1_2"
        )
        assert process.stdin is not None
        process.stdin.write(b"R\n")
        output, _ = await process.communicate()
    assert b"no renegotiation" in output
    assert b"Compression: NONE" in output
    assert b"TLS session ticket:" not in output
    assert b"Extended master secret: yes" in output
