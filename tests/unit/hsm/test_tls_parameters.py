"""Suites, groups, versions, extensions: what two sides agree on, and what they do not."""

from __future__ import annotations

import asyncio

import pytest

from hsm import libcrypto
from hsm.api import Curve
from hsm.errors import TlsRefused
from hsm.tls import HAN, WAN, Suite12, TlsContext, TlsEngine, TlsProfile, TlsVersion
from tests.support.pki import tree
from tests.support.soft_module import SoftModule
from tests.unit.hsm.tls_sides import SLOT, pair, profile, side, transfer

BP = Curve.BRAINPOOL_P256
V12 = TlsVersion.TLS12


@pytest.mark.parametrize("suite", list(Suite12))
async def test_each_suite_of_tls_1_2(suite: Suite12) -> None:
    rules = profile(BP, maximum=V12, suites12=(suite,))
    one, other = await pair(await side(BP, rules=rules), await side(BP, server=True))
    assert one.cipher == other.cipher == suite.value
    assert transfer(one, other, bytes(40000)) == bytes(40000)


async def test_no_common_suite_or_group() -> None:
    client = await side(BP, rules=profile(BP, maximum=V12, suites12=(Suite12.AES128_CBC,)))
    server = await side(BP, server=True, rules=profile(BP, suites12=(Suite12.AES256_GCM,)))
    with pytest.raises(TlsRefused, match="no shared cipher"):
        await pair(client, server)
    client = await side(Curve.P256, pki=tree(BP), anchors=tree(BP).anchors)
    with pytest.raises(TlsRefused):
        await pair(client, await side(BP, server=True))


async def test_a_brainpool_certificate_over_a_nist_group() -> None:
    rules = profile(BP, curves=(Curve.P256, BP))
    one, _ = await pair(await side(BP, rules=rules), await side(BP, server=True, rules=rules))
    assert one.group == "secp256r1"


async def test_hello_retry_request_uses_a_second_ephemeral_key_and_drops_the_first() -> None:
    client = await side(rules=profile(Curve.P256, curves=(Curve.P256, Curve.P384)))
    server = await side(server=True, rules=profile(Curve.P256, curves=(Curve.P384, Curve.P256)))
    one, _ = await pair(client, server)
    if one.group == "secp384r1":  # newer servers ask for their favourite, older ones take what is offered
        assert client.module.counts["generate_ephemeral"] == 2
    only384 = await side(server=True, rules=profile(Curve.P256, curves=(Curve.P384, Curve.P256)[:1]))
    client = await side(
        Curve.P384, rules=profile(Curve.P384, curves=(Curve.P256, Curve.P384)), pki=tree(Curve.P256)
    )
    one, _ = await pair(client, only384)
    assert one.group == "secp384r1"
    assert client.module.counts["generate_ephemeral"] == 2
    assert client.module.counts["agree_ephemeral"] == 1
    await asyncio.sleep(0.05)
    assert client.module.counts["discard_ephemeral"] == 1
    assert not client.module.ephemerals


async def test_application_protocols() -> None:
    rules = profile(Curve.P256, alpn=("http/1.1", "smgw/1"))
    one, other = await pair(
        await side(rules=rules), await side(server=True, rules=profile(Curve.P256, alpn=("smgw/1",)))
    )
    assert one.alpn == other.alpn == "smgw/1"
    with pytest.raises(TlsRefused, match=r"alert|protocol"):
        await pair(await side(rules=rules), await side(server=True, rules=profile(Curve.P256, alpn=("x",))))


@pytest.mark.parametrize("limit", [512, 4096])
async def test_the_maximum_fragment_length_is_honoured(limit: int) -> None:
    one, other = await pair(
        await side(rules=profile(Curve.P256, max_fragment_bytes=limit)), await side(server=True)
    )
    other.write(bytes(10000))
    wire, lengths = b"", []
    while data := other.outgoing():
        wire += data
    one.feed(wire)
    while wire:
        length = int.from_bytes(wire[3:5], "big")
        lengths.append(length)
        wire = wire[5 + length :]
    assert max(lengths) <= limit + 24
    assert sum(lengths) >= 10000


async def test_encrypt_then_mac_and_extended_master_secret_are_offered() -> None:
    client = await side(BP)
    engine = TlsEngine(client.context, server_name="localhost")
    await asyncio.to_thread(engine.handshake)
    hello = engine.outgoing()
    assert b"\x00\x16\x00\x00" in hello
    assert b"\x00\x17\x00\x00" in hello
    assert b"localhost" in hello
    assert b"\x00\x23\x00\x00" not in hello  # no session tickets


def test_versions_follow_the_library() -> None:
    assert WAN.highest_version((3, 0, 19)) is V12
    assert WAN.highest_version((3, 5, 0)) is TlsVersion.TLS13
    assert profile(Curve.P256).highest_version((3, 0, 19)) is TlsVersion.TLS13
    assert WAN.groups((3, 0, 19)) == "brainpoolP256r1:brainpoolP384r1:secp256r1"
    assert WAN.groups((3, 5, 0)).startswith("brainpoolP256r1tls13:brainpoolP256r1:")
    assert "brainpool" not in HAN.signature_schemes((3, 0, 19))
    assert WAN.signature_schemes((3, 0, 19), BP) == "ECDSA+SHA256"
    assert "ecdsa_brainpoolP512r1_sha512" in HAN.signature_schemes((3, 5, 0))


async def test_a_profile_that_needs_more_than_the_library_is_refused() -> None:
    if libcrypto.version() >= (3, 2, 0):
        return
    with pytest.raises(TlsRefused, match="TLS13"):
        await side(BP, rules=profile(BP, minimum=TlsVersion.TLS13))


async def test_a_context_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        TlsContext(
            TlsProfile("x", (BP,)),
            SoftModule(),
            asyncio.get_running_loop(),
            slot=SLOT,
            chain=[],
            anchors=tree(BP).anchors,
        )
