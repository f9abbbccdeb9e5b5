"""Known answers of V-mode, each computed a second time in plain integers and by the text of docs/dcnet.md."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from firmware.enforcement.dcnet.primitives import edwards, scalars, verifiable
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from tests.support import edwards_numbers as numbers
from tests.support.vectors import vectors

h = bytes.fromhex


def word(text: str) -> int:
    return int.from_bytes(h(text), "little")


def purpose_4(key: bytes, context: bytes, slot: int, lanes: int) -> list[int]:
    """CBC-MAC of (context, slot, purpose, block), 64 bytes for each number."""
    stream = b""
    for block in range(4 * lanes):
        said = context + slot.to_bytes(4, "big") + b"\x04" + block.to_bytes(3, "big") + bytes(8)
        made = Cipher(AES(key), CBC(bytes(16))).encryptor()
        stream += made.update(said)[-16:]
    return [int.from_bytes(stream[at : at + 64], "little") % numbers.L for at in range(0, len(stream), 64)]


@vectors("dcnet/commit.json")
def test_commit(case: dict[str, Any]) -> None:
    {"bases": _bases, "masks": _masks, "lanes": _lanes}[case["id"]](case)


def _bases(case: dict[str, Any]) -> None:
    for name, point in case["bases"].items():
        raw = name[:1].encode() + h(name[1:])
        assert edwards.hashed(b"smgw-dc/1 V-mode " + raw) == h(point)
        assert numbers.encode(numbers.base_of(raw)) == h(point)


def _masks(case: dict[str, Any]) -> None:
    key, previous, slot = h(case["key"]), h(case["previous"]), case["slot"]
    added, subtracted = ([word(one) for one in case[name]] for name in ("added", "subtracted"))
    assert scalars.pads(1, {2: Prf(key)}, {2}, previous, slot, 2) == tuple(added)
    assert scalars.pads(2, {1: Prf(key)}, {1}, previous, slot, 2) == tuple(subtracted)
    assert purpose_4(key, previous, slot, 2) == added == [-one % numbers.L for one in subtracted]
    own = [word(one) for one in case["self_mask"]]
    assert scalars.self_mask(h(case["seed"]), slot, 2) == tuple(own)
    assert purpose_4(h(case["seed"]), bytes(32), slot, 2) == own


def _lanes(case: dict[str, Any]) -> None:
    place = [case["epoch"], case["slot"], case["index"]]
    limits, bits = case["limits"], case["bits"]
    points, proof = [h(one) for one in case["points"]], h(case["proof"])
    masked = [word(one) for one in case["masked"]]
    binding = verifiable.Binding(
        h(case["net"]),
        h(case["roster_hash"]),
        *place,
        h(case["previous"]),
        h(case["submission"]),
        tuple(limits),
    )
    assert binding.bits == bits
    verifiable.check(binding, points, masked, proof)

    base, second = numbers.BASE, numbers.base_of(b"H")
    for point, value, blinding in zip(points, case["values"], case["blindings"], strict=True):
        assert numbers.encode(numbers.total([(value, base), (word(blinding), second)])) == point
    hashes = numbers.Hashes("lanes of a slot")
    said = [number.to_bytes(4, "big") for number in place]
    hashes.take(
        "slot", h(case["net"]), h(case["roster_hash"]), *said, h(case["previous"]), h(case["submission"])
    )
    for lane, (limit, hidden) in enumerate(zip(limits, case["masked"], strict=True)):
        hashes.take("lane", bytes([lane]), limit.to_bytes(8, "big"), h(hidden))
    both = []
    for limit, point in zip(limits, points, strict=True):
        rest = numbers.total([(limit, base), (-1 % (8 * numbers.L), numbers.decode(point))])
        both += [point, numbers.encode(rest)]
    assert numbers.proves(hashes, both, bits, proof)
