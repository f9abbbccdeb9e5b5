"""The product against a second computation of smgw-dc/1: every construction, on random nets and bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.messages import frames
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, SlotResult, Verdict
from firmware.enforcement.dcnet.messages.roster import (
    Administrator,
    KeyBundle,
    KeyExchange,
    Roster,
    RosterEntry,
)
from firmware.enforcement.dcnet.primitives import arithmetic, graph, kdf, merkle
from tests.support import dcnet_model as model

key16, hash32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
net8 = st.binary(min_size=8, max_size=8)
u32 = st.integers(0, (1 << 32) - 1)
lane = st.one_of(st.integers(0, model.RING - 1), st.sampled_from([0, 1, model.RING - 1, 1 << 63]))


@dataclass
class Drawn:
    edges: set[model.Edge]
    keys: dict[model.Edge, bytes]
    seeds: dict[int, bytes]
    readings: dict[int, model.Lanes]
    accepted: set[int]
    context: bytes
    slot: int


@st.composite
def nets(draw: st.DrawFn) -> Drawn:
    size, lanes = draw(st.integers(2, 20)), draw(st.integers(1, 6))
    degree = draw(st.sampled_from([2, 4, 6, 8, 30]))  # 30: always complete
    edges = model.h_graph(range(1, size + 1), degree, draw(st.binary(max_size=40)))
    secret = draw(key16)
    keys = {(a, b): hashlib.sha256(secret + bytes((a, b))).digest()[:16] for a, b in edges}
    seeds = {i: hashlib.sha256(secret + bytes((i,))).digest()[16:] for i in range(1, size + 1)}
    word = st.lists(lane, min_size=lanes, max_size=lanes)
    readings = {i: tuple(draw(word)) for i in range(1, size + 1)}
    accepted = draw(st.sets(st.integers(1, size), min_size=1))
    return Drawn(edges, keys, seeds, readings, accepted, draw(hash32), draw(u32))


@settings(max_examples=250, deadline=None)
@given(nets())
def test_every_submission_opening_and_total_of_a_random_net(net: Drawn) -> None:
    ours = model.whole_slot(
        net.readings,
        net.edges,
        net.keys,
        net.seeds,
        slot=net.slot,
        context=net.context,
        accepted=net.accepted,
    )
    expected = frozenset(net.readings)
    lanes = len(net.readings[1])
    theirs: dict[str, dict[int, model.Lanes]] = {"y": {}, "r": {}}
    for index, reading in net.readings.items():
        own = {(a + b) - index: arithmetic.Prf(net.keys[a, b]) for a, b in net.edges if index in (a, b)}
        theirs["y"][index] = arithmetic.submission(
            reading, net.seeds[index], index, own, expected, net.context, net.slot
        )
        if index in net.accepted:
            missing = expected - net.accepted
            theirs["r"][index] = arithmetic.opening(
                net.seeds[index], index, own, missing, net.context, net.slot, lanes
            )
    assert theirs == {"y": ours.y, "r": ours.r}
    submitted = [theirs["y"][index] for index in sorted(net.accepted)]
    assert arithmetic.total(submitted, theirs["r"].values(), lanes) == ours.total
    plain = model.plus(*(net.readings[index] for index in net.accepted), (0,) * lanes)
    assert ours.total == plain


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 60), st.sampled_from([2, 4, 6, 8, 16]), st.binary(max_size=64))
def test_the_key_graph(size: int, degree: int, beacon: bytes) -> None:
    members = range(1, size + 1)
    assert graph.h_graph(members, degree, beacon) == model.h_graph(members, degree, beacon)


@settings(max_examples=150, deadline=None)
@given(key16, hash32, u32, st.integers(0, 255), st.integers(0, 200))
def test_the_pseudo_random_function(key: bytes, context: bytes, slot: int, purpose: int, size: int) -> None:
    expected = model.prf(key, context, slot, purpose, size)
    assert arithmetic.prf(key, context, slot, purpose, size) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.binary(min_size=1, max_size=80),
    st.text("abcmz0-", max_size=12),
    st.lists(st.binary(max_size=300), max_size=4),
    st.integers(1, 100),
)
def test_the_key_derivation(key: bytes, label: str, context: list[bytes], size: int) -> None:
    assert kdf.kdf(key, label, *context, length=size) == model.kdf(key, label.encode(), *context, size=size)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=66), hash32, key16, key16, net8, st.integers(0, 12), u32)
def test_edge_chain_and_mac_keys(
    z: bytes, roster: bytes, low: bytes, high: bytes, net: bytes, steps: int, version: int
) -> None:
    root = kdf.edge_root(z, roster, low, high)
    assert root == model.root_key(z, roster, low, high)
    chain = kdf.chain_start(root, net)
    for _ in range(steps):
        chain = kdf.chain_next(chain, net)
    assert kdf.epoch_key(chain, net, steps) == model.epoch_key(root, net, steps)
    assert kdf.mac_key(z, roster, net, version) == model.mac_key(z, roster, net, version)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(FrameType),
    u32,
    net8,
    u32,
    u32,
    u32,
    hash32,
    st.lists(lane, min_size=1, max_size=9),
    key16,
)
def test_frames_and_their_mac(
    kind: FrameType,
    slot: int,
    net: bytes,
    index: int,
    version: int,
    epoch: int,
    reference: bytes,
    lanes: list[int],
    key: bytes,
) -> None:
    values = () if kind is FrameType.HELLO else tuple(lanes)
    body = Frame(kind, slot, net, index, version, epoch, reference, values).to_bytes()
    sealed = model.frame(
        int(kind),
        slot=slot,
        net=net,
        index=index,
        version=version,
        epoch=epoch,
        context=reference,
        lanes=values,
        key=key,
    )
    assert frames.seal(body, key) == sealed
    assert frames.digest(body) == model.frame_digest(sealed)


@settings(max_examples=100, deadline=None)
@given(st.lists(hash32, min_size=1, max_size=70))
def test_merkle_roots(digests: list[bytes]) -> None:
    assert merkle.root(digests) == model.merkle_root(digests)


@settings(max_examples=100, deadline=None)
@given(net8, u32, u32, hash32, hash32, st.integers(1, 64), st.data())
def test_hashes_of_documents(
    net: bytes, version: int, number: int, one: bytes, other: bytes, size: int, data: st.DataObject
) -> None:
    members = data.draw(st.sets(st.integers(1, size)))
    bitmap = bytearray((size + 7) // 8)
    for member in members:
        bitmap[(member - 1) >> 3] |= 1 << ((member - 1) & 7)
    assert to_bitmap(members, size) == bytes(bitmap)
    totals = data.draw(st.one_of(st.none(), st.tuples(lane, lane, lane)))
    name = data.draw(st.text(max_size=20))
    result = SlotResult(net, number, one, Verdict.TOTALLED, totals)
    told = [5, net, number, one, 1, None if totals is None else list(totals)]
    entry = RosterEntry(1, one[:16], one, name, other, size, 0)
    vouching = Administrator(name, other, one)
    pairs = [
        (result, told),
        (
            Manifest(net, version, number, one, bytes(bitmap), b"", other, result),
            [4, net, version, number, one, bytes(bitmap), b"", other, told],
        ),
        (
            EpochManifest(net, version, one, number, number, bytes(bitmap)),
            [3, net, version, one, number, number, bytes(bitmap)],
        ),
        (
            Roster(net, version, one, other, one, number, other, (vouching,), (entry,)),
            [
                *(2, net, version, one, other, one, number, other),
                [[name, other, one]],
                [[1, one[:16], one, name, other, size, 0]],
            ],
        ),
        (
            KeyBundle(net, version, one[:16], KeyExchange.ECKA, b"\x04" + one + other, one, other),
            [1, net, version, one[:16], 1, b"\x04" + one + other, one, other],
        ),
    ]
    for document, fields in pairs:
        assert document_hash(document) == hashlib.sha256(model.cbor(fields)).digest()
