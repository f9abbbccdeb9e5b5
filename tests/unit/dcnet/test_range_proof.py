"""Points, commitments, range proofs of V-mode, judged by plain integers; each check with what it refuses."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import MalformedObject, ProofRefused
from firmware.enforcement.dcnet.primitives import edwards, scalars, verifiable
from firmware.enforcement.dcnet.primitives.range_proof import (
    BLINDING_BASE,
    RangeProof,
    commit,
    proof_bytes,
    prove,
    verify,
)
from firmware.enforcement.dcnet.primitives.scalars import ORDER
from firmware.enforcement.dcnet.primitives.transcript import Transcript
from firmware.enforcement.dcnet.primitives.verifiable import Binding
from tests.support import edwards_numbers as numbers

BITS = 8
VALUES = (200, 3)
BLINDINGS = (5 << 200, ORDER - 7)
SECRET = b"fresh bytes of a module"
SMALL_ORDER = [
    bytes(32),  # order 4
    edwards.IDENTITY,
    (numbers.P - 1).to_bytes(32, "little"),  # order 2
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),  # order 8
]
MIXED = numbers.encode(numbers.add(numbers.BASE, numbers.decode(SMALL_ORDER[2])))


def proven(values: tuple[int, ...] = VALUES, bits: int = BITS) -> tuple[list[bytes], RangeProof]:
    commitments = [commit(value, blinding) for value, blinding in zip(values, BLINDINGS, strict=True)]
    return commitments, prove(Transcript("test"), commitments, values, BLINDINGS, bits, SECRET)


# -- points -----------------------------------------------------------------------------------------------


@given(st.integers(0, ORDER - 1), st.integers(0, ORDER - 1))
@settings(max_examples=15, deadline=None)
def test_libsodium_and_plain_integers_agree_on_points(a: int, b: int) -> None:
    left, right = edwards.times_base(a), edwards.times(b, BLINDING_BASE)
    assert left == numbers.encode(numbers.times(a, numbers.BASE))
    assert right == numbers.encode(numbers.times(b, numbers.decode(BLINDING_BASE)))
    assert edwards.add(left, right) == numbers.encode(numbers.total([(a, numbers.BASE), (b, H)]))
    assert commit(a, b) == edwards.add(left, right)


H = numbers.decode(BLINDING_BASE)


def test_the_second_base_is_made_from_its_name_alone_and_has_the_prime_order() -> None:
    seed = hashlib.sha256(b"smgw-dc/1 V-mode H").digest()
    assert numbers.encode(numbers.mapped(seed)) == BLINDING_BASE
    assert numbers.times(numbers.L, H) == numbers.ZERO
    for name in (b"one", b"two", b"three"):
        made = numbers.mapped(hashlib.sha256(name).digest())
        assert edwards.hashed(name) == numbers.encode(made)
        assert numbers.times(numbers.L, made) == numbers.ZERO


def test_zero_and_the_identity_are_no_special_case_for_whoever_adds() -> None:
    point = edwards.times_base(9)
    assert edwards.times(0, point) == edwards.times_base(ORDER) == edwards.IDENTITY
    assert edwards.times(5, edwards.IDENTITY) == edwards.IDENTITY
    assert edwards.add(point, edwards.IDENTITY) == point
    assert edwards.combine([(3, point), (-3, point)]) == edwards.IDENTITY
    assert edwards.combine([]) == edwards.IDENTITY
    assert edwards.combine([(1, point), (2, point), (4, edwards.BASE)]) == edwards.times_base(31)


@pytest.mark.parametrize(
    "data",
    [
        *SMALL_ORDER,
        MIXED,
        b"",
        edwards.BASE[:-1],
        edwards.BASE + b"\x00",
        (2).to_bytes(32, "little"),  # not on the curve
        (numbers.P + 1).to_bytes(32, "little"),  # the identity again, not canonical
        (int.from_bytes(edwards.IDENTITY, "little") | 1 << 255).to_bytes(32, "little"),
    ],
)
def test_received_points_must_be_canonical_and_of_prime_order(data: bytes) -> None:
    with pytest.raises(MalformedObject):
        edwards.point(data)


def test_numbers_have_one_encoding() -> None:
    assert scalars.from_bytes(scalars.to_bytes(ORDER - 1)) == ORDER - 1
    assert scalars.to_bytes(-1) == scalars.to_bytes(ORDER - 1)
    for data in (ORDER.to_bytes(32, "little"), bytes([255]) * 32, bytes(31), bytes(33)):
        with pytest.raises(MalformedObject):
            scalars.from_bytes(data)
    assert scalars.wide(bytes([255]) * 64) == (2**512 - 1) % numbers.L
    with pytest.raises(ValueError):
        scalars.wide(bytes(32))


# -- proofs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        pytest.param((200, 3), 8, marks=pytest.mark.nightly),
        pytest.param((0, 255), 8, marks=pytest.mark.nightly),
        pytest.param((65_535, 0), 16, marks=pytest.mark.nightly),
        pytest.param((1 << 31, 10), 32, marks=pytest.mark.nightly),
    ],
)
def test_a_proof_holds_for_the_product_and_for_the_paper_in_plain_integers(
    values: tuple[int, int], bits: int
) -> None:
    commitments, proof = proven(values, bits)
    verify(Transcript("test"), commitments, bits, proof)
    encoded = proof.to_bytes()
    assert RangeProof.from_bytes(encoded) == proof
    assert len(encoded) == proof_bytes(bits, 2)
    assert numbers.proves(numbers.Hashes("test"), commitments, bits, encoded)
    altered = encoded[:-32] + scalars.to_bytes(proof.right + 1)
    assert not numbers.proves(numbers.Hashes("test"), commitments, bits, altered)


@pytest.mark.parametrize("values", [(1 << BITS, 0), (-1, 0), (0, ORDER - 1), (3,)])
def test_nothing_outside_the_range_is_proven(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        prove(Transcript("test"), [], values, BLINDINGS, BITS, SECRET)


class Cheater(int):
    """A number that says it is in the range, with the bits of another one."""

    def __lt__(self, other: object) -> bool:
        return True

    def __le__(self, other: object) -> bool:
        return True

    def __ge__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize("value", [1 << BITS, (1 << BITS) + 200, -1, ORDER - 1])
def test_the_prover_s_own_check_is_not_what_makes_it_sound(value: int) -> None:
    commitments = [commit(value, BLINDINGS[0]), commit(3, BLINDINGS[1])]
    proof = prove(Transcript("test"), commitments, (Cheater(value), 3), BLINDINGS, BITS, SECRET)
    refused(commitments, proof, "polynomial")


def refused(commitments: list[bytes], proof: RangeProof, check: str, purpose: str = "test") -> None:
    with pytest.raises(ProofRefused) as error:
        verify(Transcript(purpose), commitments, BITS, proof)
    assert error.value.check == check


def test_a_proof_holds_for_its_commitments_in_their_order_and_its_transcript_only() -> None:
    commitments, proof = proven()
    refused(commitments[::-1], proof, "polynomial")
    refused([commit(201, BLINDINGS[0]), commitments[1]], proof, "polynomial")
    refused([commitments[0], commit(3, 1)], proof, "polynomial")
    refused(commitments, proof, "polynomial", "another")
    refused(commitments[:1], proof, "length")
    with pytest.raises(ProofRefused):
        verify(Transcript("test"), commitments, 16, proof)


@pytest.mark.parametrize("name", ["a", "s", "t1", "t2"])
@pytest.mark.parametrize("bad", [*SMALL_ORDER, MIXED])
def test_points_of_small_order_are_refused_in_every_place(name: str, bad: bytes) -> None:
    commitments, proof = PROVEN
    refused(commitments, replace(proof, **{name: bad}), "point")


PROVEN = proven()


def test_points_of_small_order_are_refused_in_every_round() -> None:
    commitments, proof = PROVEN
    for at in range(len(proof.rounds)):
        for side in (0, 1):
            rounds = [list(pair) for pair in proof.rounds]
            rounds[at][side] = MIXED
            altered = replace(proof, rounds=tuple((one, other) for one, other in rounds))
            refused(commitments, altered, "point")


ALTERED: dict[str, Callable[[RangeProof], RangeProof]] = {
    "a": lambda p: replace(p, a=p.s),
    "s": lambda p: replace(p, s=p.a),
    "t1": lambda p: replace(p, t1=p.t2),
    "t2": lambda p: replace(p, t2=p.t1),
    "taux": lambda p: replace(p, taux=p.taux + 1),
    "mu": lambda p: replace(p, mu=p.mu + 1),
    "product": lambda p: replace(p, product=p.product + 1),
    "left": lambda p: replace(p, left=p.left + 1),
    "right": lambda p: replace(p, right=p.right + 1),
    "rounds": lambda p: replace(p, rounds=p.rounds[::-1]),
    "sides": lambda p: replace(p, rounds=tuple((other, one) for one, other in p.rounds)),
}


@pytest.mark.parametrize("name", ALTERED)
def test_nothing_in_a_proof_can_be_altered(name: str) -> None:
    commitments, proof = PROVEN
    with pytest.raises(ProofRefused) as error:
        verify(Transcript("test"), commitments, BITS, ALTERED[name](proof))
    assert error.value.check in ("polynomial", "product")


def test_of_the_two_equations_each_is_needed() -> None:
    commitments, proof = PROVEN
    refused(commitments, replace(proof, left=proof.left + 1), "product")
    refused(commitments, replace(proof, taux=proof.taux + 1), "polynomial")


def test_proofs_have_one_encoding() -> None:
    encoded = PROVEN[1].to_bytes()
    for data in (b"", encoded[:-1], encoded[:-32], encoded + bytes(32), encoded[: 8 * 32]):
        with pytest.raises(MalformedObject):
            RangeProof.from_bytes(data)
    at = 4 * 32  # taux
    number = int.from_bytes(encoded[at : at + 32], "little") + ORDER
    with pytest.raises(MalformedObject):
        RangeProof.from_bytes(encoded[:at] + number.to_bytes(32, "little") + encoded[at + 32 :])
    shorter = RangeProof.from_bytes(encoded[: 7 * 32] + encoded[9 * 32 :])
    refused(PROVEN[0], shorter, "length")


@pytest.mark.parametrize(("values", "bits"), [((1, 2, 3), 8), ((), 8), ((1, 2), 7), ((0,) * 64, 8)])
def test_other_sizes_are_not_proven(values: tuple[int, ...], bits: int) -> None:
    with pytest.raises(ValueError):
        prove(Transcript("test"), [], values, (0,) * len(values), bits, SECRET)


def test_secret_numbers_need_a_secret_and_differ_by_statement() -> None:
    one, other = Transcript("test"), Transcript("test")
    other.absorb("more", b"")
    assert one.draws(SECRET, 3) != other.draws(SECRET, 3)
    assert one.draws(SECRET, 3) == Transcript("test").draws(SECRET, 3)
    with pytest.raises(ValueError):
        one.draws(b"", 1)
    first = proven()[1]
    assert first != prove(Transcript("test"), PROVEN[0], VALUES, BLINDINGS, BITS, b"another draw")
    again = [commit(201, BLINDINGS[0]), PROVEN[0][1]]  # the same draw for another value: no word in common
    second = prove(Transcript("test"), again, (201, 3), BLINDINGS, BITS, SECRET)
    assert not {first.a, first.s, first.t1, first.t2} & {second.a, second.s, second.t1, second.t2}


def test_the_time_of_a_proof_does_not_tell_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many operations on points for every value; when a message leaves says nothing of a reading."""
    counted: list[str] = []
    for name in ("add", "times", "times_base"):
        true = getattr(edwards.sodium, LIBSODIUM[name])
        monkeypatch.setattr(
            edwards.sodium,
            LIBSODIUM[name],
            lambda *given, true=true, name=name: (counted.append(name), true(*given))[1],
        )
    found = []
    proven((1, 1))  # the bases are made
    for values in ((0, 0), (255, 255), (1, 128), (77, 0)):
        counted.clear()
        proven(values)
        found.append(Counter(counted))
    assert found == [found[0]] * 4
    assert found[0]["times"] > 50


LIBSODIUM = {
    "add": "crypto_core_ed25519_add",
    "times": "crypto_scalarmult_ed25519_noclamp",
    "times_base": "crypto_scalarmult_ed25519_base_noclamp",
}


# -- lanes ------------------------------------------------------------------------------------------------

BINDING = Binding(b"net-0001", b"r" * 32, 20_000, 7, 3, b"m" * 32, b"d" * 32, (100_000, 5_000))
MASKED = (11 << 100, 12 << 200)


def lanes(values: tuple[int, int] = (77_000, 0)) -> tuple[tuple[bytes, ...], bytes]:
    return verifiable.shown(BINDING, values, BLINDINGS, MASKED, SECRET)


SHOWN = lanes()


def test_lanes_are_shown_to_lie_in_their_own_ranges() -> None:
    points, proof = SHOWN
    verifiable.check(BINDING, points, MASKED, proof)
    assert points == (commit(77_000, BLINDINGS[0]), commit(0, BLINDINGS[1]))
    assert len(proof) == 736
    verifiable.check(BINDING, *_at_the_limit())


def _at_the_limit() -> tuple[tuple[bytes, ...], tuple[int, int], bytes]:
    points, proof = lanes((100_000, 5_000))
    return points, MASKED, proof


@pytest.mark.parametrize("values", [(100_001, 0), (-1, 0), (0, 5_001), (0, 1 << 40)])
def test_a_lane_beyond_its_limit_is_not_shown(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        lanes(values)


def test_a_large_lane_takes_64_bits() -> None:
    wide = replace(BINDING, limits=(1 << 40, 1))
    points, proof = verifiable.shown(wide, (1 << 40, 1), BLINDINGS, MASKED, SECRET)
    assert len(proof) == 800
    verifiable.check(wide, points, MASKED, proof)


OTHERS = {
    "net": {"net": b"net-0002"},
    "roster": {"roster_hash": b"s" * 32},
    "epoch": {"epoch": 20_001},
    "slot": {"slot": 8},
    "member": {"index": 4},
    "chain": {"reference": b"n" * 32},
    "submission": {"submission": b"e" * 32},
    "limit": {"limits": (100_001, 5_000)},
    "swapped limits": {"limits": (5_000, 100_000)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_proof_of_lanes_holds_nowhere_else(name: str) -> None:
    points, proof = SHOWN
    with pytest.raises(ProofRefused):
        verifiable.check(replace(BINDING, **OTHERS[name]), points, MASKED, proof)


def test_a_proof_of_lanes_holds_for_its_lanes_and_masked_blindings_only() -> None:
    points, proof = SHOWN
    for altered, masked in (
        (points[::-1], MASKED),
        (points, MASKED[::-1]),
        (points, (MASKED[0] + 1, MASKED[1])),
        (points[:1], MASKED[:1]),
        ((points[0], MIXED), MASKED),
        ((points[0], edwards.IDENTITY), MASKED),
        ((points[0], bytes(31)), MASKED),
    ):
        with pytest.raises(ProofRefused):
            verifiable.check(BINDING, altered, masked, proof)
    for cut in (b"", proof[:-1], proof[:-32], proof + bytes(64)):
        with pytest.raises(ProofRefused):
            verifiable.check(BINDING, points, MASKED, cut)


# -- sum and price ----------------------------------------------------------------------------------------


def test_the_sum_of_commitments_is_that_of_values_and_blindings() -> None:
    values, blindings = [5, 70, 0, 1200], [3, ORDER - 1, 1 << 251, 17]
    points = [commit(value, blinding) for value, blinding in zip(values, blindings, strict=True)]
    assert verifiable.fits(points, sum(values), sum(blindings))
    assert not verifiable.fits(points, sum(values) + 1, sum(blindings))
    assert not verifiable.fits(points, sum(values), sum(blindings) + 1)
    assert not verifiable.fits(points[:-1], sum(values), sum(blindings))


def test_the_same_commitments_price_the_bill_and_a_liar_pays_its_lie() -> None:
    values, prices, blindings = [120, 0, 30_000, 7], [31, 24, 31, 18], [8, 9, ORDER - 4, 1 << 250]
    points = [commit(value, blinding) for value, blinding in zip(values, blindings, strict=True)]
    bill = verifiable.priced(zip(prices, points, strict=True))
    amount = sum(price * value for price, value in zip(prices, values, strict=True))
    opening = verifiable.bill_blinding(zip(prices, blindings, strict=True))
    assert verifiable.bill_is(bill, amount, opening)
    assert not verifiable.bill_is(bill, amount - 1, opening)  # less than what was said in the totals
    assert not verifiable.bill_is(bill, amount, opening + 1)
    assert not verifiable.bill_is(verifiable.priced(zip(prices[::-1], points, strict=True)), amount, opening)
    decoded = [(price, numbers.decode(point)) for price, point in zip(prices, points, strict=True)]
    assert numbers.encode(numbers.total(decoded)) == bill
