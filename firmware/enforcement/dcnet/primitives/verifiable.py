"""What a member shows of its data lanes in V-mode, and what a supplier checks: ranges, sum, price.

Each lane's value has a Pedersen commitment C = x * G + rho * H. One range proof shows 0 <= x <= limit in
all lanes: that x and limit - x, whose commitment is limit * G - C, are both not negative. Loads libsodium;
see `edwards`. Never decides whether something may be sent. Spec: docs/dcnet.md, V-mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from firmware.enforcement.dcnet.errors import MalformedObject, ProofRefused
from firmware.enforcement.dcnet.primitives import range_proof, scalars
from firmware.enforcement.dcnet.primitives.edwards import BASE, combine, point
from firmware.enforcement.dcnet.primitives.range_proof import BLINDING_BASE, RangeProof
from firmware.enforcement.dcnet.primitives.scalars import ORDER
from firmware.enforcement.dcnet.primitives.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Binding:
    """What a member's commitments of one slot are bound to; a proof holds for nothing else."""

    net: bytes
    roster_hash: bytes
    epoch: int
    slot: int
    index: int
    reference: bytes
    """Hash of the manifest before the slot."""
    submission: bytes
    """Digest of the member's Submit frame."""
    limits: tuple[int, ...]
    """Largest value of each data lane; the least is 0."""

    @property
    def bits(self) -> int:
        """Return of how many bits a proof about these lanes speaks: as few as hold the largest limit."""
        return next(bits for bits in range_proof.BITS if max(self.limits) < 1 << bits)

    def transcript(self, masked: Sequence[int]) -> Transcript:
        """Begin a proof about a member's lanes; the lanes have the order of the limits."""
        found = Transcript("lanes of a slot")
        numbers = [number.to_bytes(4, "big") for number in (self.epoch, self.slot, self.index)]
        found.absorb("slot", self.net, self.roster_hash, *numbers, self.reference, self.submission)
        for lane, (limit, word) in enumerate(zip(self.limits, masked, strict=True)):
            found.absorb("lane", bytes((lane,)), limit.to_bytes(8, "big"), scalars.to_bytes(word))
        return found


def shown(
    binding: Binding, values: Sequence[int], blindings: Sequence[int], masked: Sequence[int], secret: bytes
) -> tuple[tuple[bytes, ...], bytes]:
    """Return the commitment of every lane and the proof that all values lie in their ranges.

    Args:
        binding: what they are for.
        values: of the data lanes, 0 <= value <= limit.
        blindings: fresh uniform numbers modulo ORDER, one for each lane, used for nothing else.
        masked: the blindings under the masks of the slot, as they are sent.
        secret: fresh bytes, at least 16.

    Raises:
        ValueError: a value lies outside its lane's range.
    """
    commitments = tuple(
        range_proof.commit(value, blinding) for value, blinding in zip(values, blindings, strict=True)
    )
    pairs = [
        one for value, limit in zip(values, binding.limits, strict=True) for one in (value, limit - value)
    ]
    signed = [one for blinding in blindings for one in (blinding, -blinding % ORDER)]
    both = _both(binding.limits, commitments)
    transcript = binding.transcript(masked)
    proof = range_proof.prove(transcript, both, pairs, signed, binding.bits, secret)
    return commitments, proof.to_bytes()


def check(binding: Binding, commitments: Sequence[bytes], masked: Sequence[int], proof: bytes) -> None:
    """Check a member's commitments.

    Args:
        binding: what they must be for.
        commitments: as received, one for each lane.
        masked: the member's masked blindings.
        proof: as received.

    Raises:
        ProofRefused: naming the check that failed.
    """
    if len(commitments) != len(binding.limits) or len(masked) != len(binding.limits):
        raise ProofRefused("lanes", f"{len(commitments)} commitments for {len(binding.limits)} lanes")
    try:
        both = _both(binding.limits, [point(one) for one in commitments])
        parsed = RangeProof.from_bytes(proof)
    except MalformedObject as error:
        raise ProofRefused("form", str(error)) from error
    range_proof.verify(binding.transcript(masked), both, binding.bits, parsed)


def fits(commitments: Iterable[bytes], total: int, blinding: int) -> bool:
    """Tell whether the sum of one lane's commitments is total * G + blinding * H.

    Args:
        commitments: of all accepted members, checked.
        total: S, the lane's sum.
        blinding: R, the sum of the lane's blindings.
    """
    return combine((1, one) for one in commitments) == range_proof.commit(total, blinding)


def priced(commitments: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the commitment to a bill, sum of price * C over one member's slots of one lane.

    Args:
        commitments: (price of the slot, a whole number; the member's commitment in it, checked).
    """
    return combine(commitments)


def bill_blinding(blindings: Iterable[tuple[int, int]]) -> int:
    """Return with what the member opens its bill, from (price of the slot, blinding in it).

    It opens the sum only. Two sums of the same slots at different prices would open their difference too,
    so a member gives this away once for each slot.
    """
    return sum(price * blinding for price, blinding in blindings) % ORDER


def bill_is(commitment: bytes, amount: int, blinding: int) -> bool:
    """Tell whether a bill over `amount` is what was committed to, so that whoever lied in a total pays it."""
    return combine([(amount, BASE), (blinding, BLINDING_BASE)]) == commitment


def _both(limits: Sequence[int], commitments: Sequence[bytes]) -> list[bytes]:
    """Return of each lane the commitment to x and that to limit - x."""
    return [
        one
        for limit, commitment in zip(limits, commitments, strict=True)
        for one in (commitment, combine([(limit, BASE), (-1, commitment)]))
    ]
