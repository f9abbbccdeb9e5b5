"""Known answers; what the product made itself is computed a second time by other means."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import cbor2

from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, SlotResult
from firmware.enforcement.dcnet.messages.roster import KeyBundle, Roster
from firmware.enforcement.dcnet.primitives import graph, kdf, merkle
from firmware.enforcement.dcnet.primitives.arithmetic import (
    Prf,
    from_lanes,
    opening,
    prf,
    submission,
    to_lanes,
    total,
)
from tests.support.vectors import vectors

h = bytes.fromhex


@vectors("dcnet/kdf.json")
def test_kdf(case: dict[str, Any]) -> None:
    out = kdf.kdf(h(case["key"]), case["label"], *map(h, case["ctx"]), length=case["n"])
    assert out.hex() == case["out"]


@vectors("dcnet/prf.json")
def test_prf(case: dict[str, Any]) -> None:
    kept = Prf(h(case["key"]))
    arguments = h(case["ctx"]), case["slot"], case["purpose"], case["n"]
    kept.output(bytes(32), 1, 0, 8)  # another context before: what is kept must not leak into the next
    assert kept.output(*arguments).hex() == case["out"]
    assert kept.output(*arguments).hex() == case["out"]
    assert prf(h(case["key"]), *arguments).hex() == case["out"]


@vectors("dcnet/h_graph.json")
def test_h_graph(case: dict[str, Any]) -> None:
    edges = graph.h_graph(range(1, case["n"] + 1), case["k"], h(case["beacon"]))
    assert sorted(map(list, edges)) == case["edges"]


@vectors("dcnet/net.json")
def test_net(case: dict[str, Any]) -> None:
    previous, slot = bytes(32), case["slot"]
    present = set(range(1, case["n"] + 1))
    missing = set(case["drop"])
    edges: dict[int, dict[int, Prf]] = {index: {} for index in present}
    for name, key in case["edge_epoch_keys"].items():
        a, b = map(int, name.split("-"))
        edges[a][b] = edges[b][a] = Prf(h(key))
    ys, rs = [], []
    for index in sorted(present - missing):
        seed, reading = h(case["seeds"][str(index)]), case["readings"][str(index)]
        y = submission(reading, seed, index, edges[index], present, previous, slot)
        r = opening(seed, index, edges[index], missing, previous, slot, len(reading))
        assert from_lanes(y).hex() == case["y"][str(index)]
        assert from_lanes(r).hex() == case["r"][str(index)]
        assert to_lanes(h(case["y"][str(index)])) == y
        ys.append(y)
        rs.append(r)
    assert list(total(ys, rs, 3)) == case["total"]


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 by hand; one block is enough for 16 bytes."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:16]


@vectors("dcnet/keys.json")
def test_edge_root_and_mac_key(case: dict[str, Any]) -> None:
    z, salt, net, version = h(case["z"]), h(case["roster_hash"]), h(case["net"]), case["version"]
    lower, higher = h(case["lower"]), h(case["higher"])
    assert kdf.edge_root(z, salt, lower, higher).hex() == case["edge"]
    assert _hkdf(z, salt, b"smgw-dc/1 edge" + lower + higher).hex() == case["edge"]
    assert kdf.mac_key(z, salt, net, version).hex() == case["mac_key"]
    parts = [b"smgw-dc/1", b"mac", net, version.to_bytes(4, "big")]
    info = b"".join(bytes([0, len(part)]) + part for part in parts)
    root = _hkdf(z, salt, b"smgw-dc/1 emp")
    assert hmac.digest(root, info + b"\x01", "sha256")[:16].hex() == case["mac_key"]


_DOCUMENTS = {kind.__name__: kind for kind in (KeyBundle, Roster, EpochManifest, SlotResult, Manifest)}


@vectors("dcnet/documents.json")
def test_document_hashes(case: dict[str, Any]) -> None:
    document = _DOCUMENTS[case["type"]].from_bytes(h(case["hex"]))
    assert document.to_bytes().hex() == case["hex"]
    assert document_hash(document).hex() == case["hash"]
    assert hashlib.new("sha256", _cbor(cbor2.loads(h(case["hex"])))).hexdigest() == case["hash"]


def _cbor(value: Any) -> bytes:
    """RFC 8949, 4.2.1 by hand, for what our documents hold."""
    if value is None:
        return b"\xf6"
    major, number, rest = {
        int: lambda: (0, value, b""),
        bytes: lambda: (2, len(value), value),
        str: lambda: (3, len(value.encode()), value.encode()),
        list: lambda: (4, len(value), b"".join(map(_cbor, value))),
    }[type(value)]()
    if number < 24:
        return bytes([major << 5 | number]) + rest
    size = next(n for n in range(4) if number < 1 << (8 << n))
    return bytes([major << 5 | 24 + size]) + number.to_bytes(1 << size, "big") + rest


@vectors("dcnet/merkle.json")
def test_merkle(case: dict[str, Any]) -> None:
    digests = list(map(h, case["digests"]))
    assert merkle.root(digests).hex() == case["root"]
    assert _tree(digests).hex() == case["root"]


def _tree(digests: list[bytes]) -> bytes:
    """Recursive instead of level by level: split at the largest power of two below the count."""
    if not digests:
        return bytes(32)
    if len(digests) == 1:
        return hashlib.sha256(b"\0" + digests[0]).digest()
    half = 1 << (len(digests) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _tree(digests[:half]) + _tree(digests[half:])).digest()


def test_ratchet_first_epoch_uses_the_first_chain_key() -> None:
    root, net = bytes(range(16)), b"net-0001"
    start = kdf.chain_start(root, net)
    info = b"\x00\x09smgw-dc/1\x00\x05chain\x00\x08net-0001"
    assert kdf.chain_next(start, net) == hmac.digest(start, info + b"\x01", "sha256")[:16]
    assert kdf.epoch_key(start, net, 0) != kdf.epoch_key(start, net, 1)
