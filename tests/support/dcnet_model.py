"""A second computation of `smgw-dc/1`, to judge the one in `firmware.enforcement.dcnet`.

Written from docs/dcnet.md ("Messages", "Exact constructions") alone, in another style on purpose: a vector
of lanes is one tuple of Python integers, the PRF is the last block of plain AES-CBC, HKDF and CMAC are
spelled out from RFC 5869 and RFC 4493, the Merkle tree is recursive, a whole net is computed at once by one
who knows all keys. It shares no line with the product; nothing here is fast or constant-time.
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SCHEME = b"smgw-dc/1"
RING = 1 << 64
ZERO_CONTEXT = b"\x00" * 32

Lanes = tuple[int, ...]
Edge = tuple[int, int]


def big(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def cbc_last(key: bytes, message: bytes) -> bytes:
    """Last block of AES-CBC over `message` (whole blocks) with a zero IV."""
    machine = Cipher(algorithms.AES(key), modes.CBC(b"\x00" * 16)).encryptor()
    return (machine.update(message) + machine.finalize())[-16:]


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def hkdf_expand(key: bytes, info: bytes, size: int) -> bytes:
    block, out, number = b"", b"", 0
    while len(out) < size:
        number += 1
        block = hmac.digest(key, block + info + bytes((number,)), "sha256")
        out += block
    return out[:size]


def kdf(key: bytes, label: bytes, *context: bytes, size: int = 16) -> bytes:
    info = b""
    for part in (SCHEME, label, *context):
        info += big(len(part), 2) + part
    return hkdf_expand(key, info, size)


def prf(key: bytes, context: bytes, slot: int, purpose: int, size: int) -> bytes:
    out = b""
    for block in itertools.count():
        if len(out) >= size:
            return out[:size]
        out += cbc_last(key, context + big(slot, 4) + big(purpose, 1) + big(block, 3) + big(0, 8))
    raise AssertionError("unreachable")


def as_lanes(octets: bytes) -> Lanes:
    return tuple(int.from_bytes(octets[at : at + 8], "little") for at in range(0, len(octets), 8))


def as_octets(lanes: Lanes) -> bytes:
    return b"".join(little(lane, 8) for lane in lanes)


def plus(*vectors: Lanes) -> Lanes:
    return tuple(sum(column) % RING for column in zip(*vectors, strict=True))


def times(sign: int, vector: Lanes) -> Lanes:
    return tuple(sign * lane % RING for lane in vector)


def self_mask(seed: bytes, slot: int, lanes: int) -> Lanes:
    return as_lanes(prf(seed, ZERO_CONTEXT, slot, 0, 8 * lanes))


def root_key(z: bytes, roster_hash: bytes, smaller: bytes, larger: bytes) -> bytes:
    """K_uv of two pseudonyms, the first one of the member with the smaller index."""
    return hkdf_expand(hkdf_extract(roster_hash, z), b"smgw-dc/1 edge" + smaller + larger, 16)


def epoch_key(root: bytes, net: bytes, epoch: int) -> bytes:
    """EK of an epoch that is `epoch` steps of the chain after CK0."""
    chain = kdf(root, b"chain0", net)
    for _ in range(epoch):
        chain = kdf(chain, b"chain", net)
    return kdf(chain, b"epoch", net, big(epoch, 4))


def mac_key(z: bytes, roster_hash: bytes, net: bytes, version: int) -> bytes:
    return kdf(hkdf_expand(hkdf_extract(roster_hash, z), b"smgw-dc/1 emp", 16), b"mac", net, big(version, 4))


def cmac(key: bytes, message: bytes) -> bytes:
    def double(block: bytes) -> bytes:
        number = int.from_bytes(block, "big") << 1
        return big((number ^ 0x87) & ((1 << 128) - 1) if number >> 128 else number, 16)

    first = double(cbc_last(key, b"\x00" * 16))
    head = message[: max(0, (len(message) - 1) // 16) * 16]
    tail = message[len(head) :]
    mask = first if len(tail) == 16 else double(first)
    tail = tail if len(tail) == 16 else (tail + b"\x80").ljust(16, b"\x00")
    return cbc_last(key, head + bytes(a ^ b for a, b in zip(tail, mask, strict=True)))


def merkle_root(digests: Sequence[bytes]) -> bytes:
    """Root over the digests in the order of their indices; promoting odd nodes splits at a power of two."""
    if len(digests) == 1:
        return sha256(b"\x00" + digests[0]).digest()
    left = 1 << (len(digests) - 1).bit_length() - 1
    return sha256(b"\x01" + merkle_root(digests[:left]) + merkle_root(digests[left:])).digest()


def h_graph(members: Collection[int], k: int, beacon: bytes) -> set[Edge]:
    if len(members) <= k + 1:
        return set(itertools.combinations(sorted(members), 2))
    edges: set[Edge] = set()
    for cycle in range(k // 2):
        row = sorted(members, key=lambda index: sha256(beacon + big(cycle, 4) + big(index, 8)).digest())
        edges |= {(min(pair), max(pair)) for pair in zip(row, row[1:] + row[:1], strict=True)}
    return edges


def frame(
    kind: int,
    *,
    slot: int,
    net: bytes,
    index: int,
    version: int,
    epoch: int,
    context: bytes,
    lanes: Lanes,
    key: bytes,
) -> bytes:
    """One frame with its MAC: 1 Submit, 2 Open, 3 Hello; flags 0, no shares."""
    body = b"\x01" + little(kind, 1) + little(0, 2) + little(slot, 4) + net + little(index, 4)
    body += (
        little(len(lanes), 2)
        + little(0, 2)
        + little(version, 4)
        + little(epoch, 4)
        + context
        + as_octets(lanes)
    )
    return body + cmac(key, body)


def frame_digest(octets: bytes) -> bytes:
    return sha256(octets[:-16]).digest()


def cbor(item: object) -> bytes:
    """Deterministic CBOR (RFC 8949, 4.2) of integers, byte and text strings, arrays and booleans."""
    match item:
        case bool():
            return b"\xf5" if item else b"\xf4"
        case None:
            return b"\xf6"
        case int():
            return _head(0, item) if item >= 0 else _head(1, -1 - item)
        case bytes():
            return _head(2, len(item)) + item
        case str():
            return _head(3, len(item.encode())) + item.encode()
        case list() | tuple():
            return _head(4, len(item)) + b"".join(map(cbor, item))
    raise TypeError(type(item).__name__)


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes((major << 5 | value,))
    extra = next(extra for extra in range(4) if value >> (8 << extra) == 0)
    return bytes((major << 5 | 24 + extra,)) + big(value, 1 << extra)


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot of a whole net comes to for somebody who knows every key."""

    y: Mapping[int, Lanes]
    r: Mapping[int, Lanes]
    total: Lanes


def whole_slot(
    readings: Mapping[int, Lanes],
    edges: Collection[Edge],
    keys: Mapping[Edge, bytes],
    seeds: Mapping[int, bytes],
    *,
    slot: int,
    context: bytes,
    accepted: Collection[int],
) -> Slot:
    """All of `readings` are expected and submit; those in `accepted` open; the total is over them."""
    width = len(next(iter(readings.values())))
    y = {member: plus(value, self_mask(seeds[member], slot, width)) for member, value in readings.items()}
    r = {member: self_mask(seeds[member], slot, width) for member in accepted}
    for small, large in edges:
        pad = as_lanes(prf(keys[small, large], context, slot, 0, 8 * width))
        for member, other, sign in ((small, large, 1), (large, small, -1)):
            y[member] = plus(y[member], times(sign, pad))
            if member in r and other not in accepted:
                r[member] = plus(r[member], times(sign, pad))
    zero: Lanes = (0,) * width
    return Slot(y, r, reduce(plus, (plus(y[member], times(-1, r[member])) for member in accepted), zero))
